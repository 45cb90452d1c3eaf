"""Commands that were lost before they were answered: found, and accepted.

Nothing that was receipted is lost by this: a RECEIPT is sent when the answer has been read from the event log, and the
events are all there. So no new epoch begins. Two cases:

* retention has deleted commands that nobody had answered (a sequencer was away for days). Each is answered as `lost`,
  by a writer with a fence of its own, so that every command still has exactly one record and `src` has no hole;
* `room.commands` was made anew and ends below what the events remember. It is filled with ticks up to there: a
  recovery passes over every command that the events have answered, whatever stands at its offset now.

Afterwards a snapshot is written: the next recovery begins behind all of it, and a sequencer that stands still sees by
the new checkpoint that it may look again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import OffsetOutOfRangeError

from agents.sequencing.attempt import Fenced, Limits
from agents.sequencing.checkpoints import read_rows
from agents.sequencing.log import Log
from agents.sequencing.pace import Pace
from agents.sequencing.recovery import LostCommands, Stopped, begin_attempts
from agents.sequencing.snapshots import Snapshots
from chat.errors import RoomlogError
from chat.failpoints import failpoint
from chat.log.producer import Record
from chat.log.taking import START
from chat.log.topics import COMMANDS, EVENTS, record_bytes_max
from chat.log.walking import Extent, Walk, extents
from chat.records import VERSION, Tick, encode
from chat.settings import Settings

TICKS_AT_ONCE: Final = 10_000

Say = Callable[[str], None]


class EventsLost(RoomlogError):
    """What is missing is missing from the event log: another operation's work."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What of the command topic is missing in one partition."""

    partition: int
    wanted: int
    """Offset of the first command without an answer."""
    held: Extent
    """What the command topic holds."""

    def __str__(self) -> str:
        first, end = self.held
        if first > self.wanted:
            return (
                f"partition {self.partition}: {first - self.wanted} commands (offsets {self.wanted} to {first - 1}) "
                "are gone from room.commands and were never answered. Nobody got a RECEIPT for one of them. Accepted, "
                "each is answered as lost: no message comes of it, and numbering goes on without a hole"
            )
        return (
            f"partition {self.partition}: room.commands was made anew. It ends at {end}, the events answer commands up "
            f"to {self.wanted - 1}. Accepted, it is filled with {self.wanted - end} ticks up to there. Commands that "
            f"stand below {self.wanted} in the new topic are never answered: nobody got a RECEIPT for one of them"
        )


async def find_gap(settings: Settings, log: Log, partition: int) -> Gap | None:
    """What is missing of the commands of `partition`; None when nothing is. Changes nothing.

    Raises:
        EventsLost: events are missing.
        LogHole: the same, in the middle of the log.
        Unavailable: Kafka does not answer.
    """
    held = (await extents(settings, settings.topic(EVENTS)))[partition]
    checkpoint = (await read_rows(log, [partition]))[partition].checkpoint
    start = START if checkpoint is None else checkpoint.position
    if not held.beginning <= start.offset + 1 <= held.end:
        raise EventsLost(
            f"partition {partition}: the rows end at event offset {start.offset}, room.events holds {held.beginning} "
            f"to {held.end - 1}"
        )
    walk = Walk(settings, partition, start, held.end)
    async for _ in walk:
        pass
    commands = (await extents(settings, settings.topic(COMMANDS)))[partition]
    wanted = walk.position.src + 1
    return None if commands.beginning <= wanted <= commands.end else Gap(partition, wanted, commands)


async def accept_gap(settings: Settings, log: Log, partition: int, say: Say) -> bool:
    """Accept that commands of `partition` are lost. False when by now none is. May be killed anywhere and repeated.

    Raises:
        RoomlogError: the partition cannot be written for another reason, or somebody else writes it now.
    """
    rows = await read_rows(log, [partition])
    limits = Limits(settings.partitions, record_bytes_max(settings))
    try:
        (found,) = await begin_attempts(log, rows, limits, Pace(), settings.worker)
    except OffsetOutOfRangeError as error:
        raise EventsLost(f"partition {partition}: {error}") from None
    if not isinstance(found, LostCommands):
        if isinstance(found, Stopped):
            raise RoomlogError(found.reason)
        return False
    try:
        await _mend(settings, log, found, say)
    except Fenced as error:
        raise RoomlogError(f"somebody else began to write the partition: run this again ({error})") from None
    return True


async def _mend(settings: Settings, log: Log, found: LostCommands, say: Say) -> None:
    attempt = found.attempt
    if found.first > attempt.next:
        total = found.first - attempt.next
        await attempt.give_up(found.first, lambda done: say(f"{done} of {total} commands answered as lost"))
    else:
        await fill(settings, log, found.partition, attempt.next, say)
    failpoint("accept-loss-before-snapshot")
    attempt.unsnapshotted = True
    await Snapshots(settings, log).take([attempt])


async def fill(settings: Settings, log: Log, partition: int, wanted: int, say: Say) -> None:
    """Append ticks to the command topic until it reaches up to `wanted`; nothing when it does."""
    tick = Record(None, encode(Tick(v=VERSION)), [])
    while True:
        # Asked anew each time: gateways append here, too.
        end = (await extents(settings, settings.topic(COMMANDS)))[partition].end
        if end >= wanted:
            return
        await log.append_commands(partition, [tick] * min(wanted - end, TICKS_AT_ONCE))
        failpoint("accept-loss-mid-ticks")
        say(f"room.commands filled up to {min(end + TICKS_AT_ONCE, wanted)} of {wanted}")
