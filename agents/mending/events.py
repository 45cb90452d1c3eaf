"""Events that are nowhere any more: what is left is put together, and every room goes on above what was lost.

For a partition whose log was cut off further than the newest checkpoint and than Cassandra reach. (Where Cassandra has
what is missing, `rebuild-tables` brings it back.) What is known of a room is then the newest of its rows, its events in
Cassandra, and those that the log still holds; what lay between is lost, and nobody can say how much of it was the
room's. So each room that may have lost something gets a new epoch, above the highest number that is known plus the
number of lost records: no record gave a room more than one number, so no number is given twice.

The operation is a writer of the partition, by the rules of all writers: a fence, every record of its term, one record a
command. Between its fence and its snapshot it answers every command itself: those that number rooms anew are decided as
ever, all others are refused with `unavailable`, so that no message gets a number before its room has its new epoch. In
this order:

1. rows from the changelogs, then what Cassandra has beyond them;
2. a fence; what the log still holds up to it is folded into the rows, and written to Cassandra;
3. the commands that number rooms anew are appended, and everything up to them is answered;
4. the fence becomes the partition's base, for readers whose position is gone;
5. the snapshot: from here on a sequencer can recover.

Where the sequencer's rows reach, and only Cassandra does not (the archiver was away while somebody cut the log off),
all numbers are known, and the sequencer may be at work. Then only the rooms of which an event is really missing get a
new epoch, so that nobody waits for what nobody has, and they get it as from anybody: by a command.

Killed before 5 the partition stands still as before, and a repetition begins anew: what this one wrote is then part of
what the log still holds, and a room that has its new epoch already is left alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.durable import read_event
from agents.mending.commands import fill
from agents.mending.remains import Beginning, Remains
from agents.sequencing.attempt import Attempt, Limits
from agents.sequencing.checkpoints import newest_checkpoints, read_rows
from agents.sequencing.clock import Clock
from agents.sequencing.log import Log
from agents.sequencing.pace import Pace
from agents.sequencing.recovery import FENCE_ID_BYTES
from agents.sequencing.rows import Checkpoint
from agents.sequencing.snapshots import Snapshots
from agents.upkeeping.census import ArchivedRoom, Census, take_census
from chat.errors import Code, Refused, RoomlogError
from chat.failpoints import failpoint
from chat.log.bases import Base, begin_at, read_bases, write_base
from chat.log.following import follow
from chat.log.positions import committed
from chat.log.producer import Record, running_producer
from chat.log.taking import START, Position, Take, Taker
from chat.log.topics import COMMANDS, EVENTS, record_bytes_max
from chat.log.walking import Extent, extents
from chat.records import (
    VERSION,
    Command,
    Event,
    RenumberRoom,
    Tick,
    Verdict,
    WatchRoom,
    decode_verdict,
    decode_writer,
    encode,
)
from chat.rooms.decide import refuse_undecodable
from chat.settings import Settings
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.raw import RawArchive
from chat.stores.model import Stored

WRITE_EVENTS: Final = 1_000
APPEND_COMMANDS: Final = 1_000
READERS: Final = ("archiver", "projector")
POLL_S: Final = 0.02

Say = Callable[[str], None]


class Mended(RoomlogError):
    """Nothing is lost: another operation brings it back. The line names it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Records of the event log that are gone for good, or may be."""

    partition: int
    checkpoint: Checkpoint | None
    """The sequencer's newest."""
    archived: Position
    """Up to here Cassandra has every event."""
    held: Extent
    behind: tuple[str, ...]
    """Roles whose position lies before what the log holds."""

    @property
    def unknown(self) -> int:
        """How many records are gone of which nothing is known; 0: the sequencer's rows know of all of them."""
        recorded = -1 if self.checkpoint is None else self.checkpoint.offset
        return max(self.held.beginning - 1 - max(recorded, self.archived.offset), 0)

    def __str__(self) -> str:
        first, end = self.archived.offset + 1, self.held.beginning
        lost = (
            f"partition {self.partition}: {end - first} records (offsets {first} to {end - 1}) are gone from "
            "room.events, and Cassandra does not have them. Messages among them were receipted, and are lost. "
            "Accepted, "
        )
        if not self.unknown:
            return lost + (
                "every room of which one is missing is numbered anew (a new epoch: clients forget their positions)"
            )
        return lost + (
            "every room of the partition that may have lost one is numbered anew above all numbers that may have been "
            "given (a new epoch: clients forget their positions); commands that wait meanwhile are refused with "
            "`unavailable`"
        )


async def find_loss(settings: Settings, log: Log, partition: int, *, cassandra: bool = True) -> Loss | None:
    """Which events of `partition` are nowhere any more; None when none is.

    `cassandra`: it has all that the archiver has committed. Otherwise what it has is looked at, room by room.

    Raises:
        Mended: Cassandra has what is missing.
        RoomlogError: the topic was made anew.
        Unavailable: Kafka does not answer.
    """
    held = (await extents(settings, settings.topic(EVENTS)))[partition]
    checkpoint = (await newest_checkpoints(log, [partition])).get(partition)
    recorded = START if checkpoint is None else checkpoint.position
    if held.end < recorded.offset + 1:
        raise RoomlogError(
            f"partition {partition}: room.events ends at {held.end}, before the sequencer's checkpoint at "
            f"{recorded.offset}: the topic was made anew. That is a case for a backup (docs/operations.md)"
        )
    base = begin_at(held.beginning, (await read_bases(settings)).get(partition))
    # Who has no position yet begins at the base, and what lies before that was archived.
    unread = START if base is None else base
    positions = {role: (await committed(settings, role)).get(partition) for role in READERS}
    reached = {role: unread if found is None else found.newest for role, found in positions.items()}
    archived = reached["archiver"] if cassandra else START
    if archived.offset + 1 >= held.beginning:
        if recorded.offset + 1 >= held.beginning:
            return None
        if base is None:
            await _make_base(settings, partition, archived, 0)
        raise Mended(
            f"partition {partition}: nothing is lost, Cassandra has what is missing: run `faust -A app rebuild-tables "
            f"--partition {partition}`"
        )
    behind = tuple(role for role in READERS if reached[role].offset + 1 < held.beginning)
    return Loss(partition, checkpoint, archived, held, behind)


async def accept_loss(settings: Settings, log: Log, archive: RawArchive, loss: Loss, say: Say) -> int:
    """Accept `loss`; the number of rooms that are numbered anew. `log` must be started.

    Raises:
        RoomlogError: somebody else writes the partition, or a record of a newer version is in the way.
        Unavailable: an engine does not answer.
    """
    partition, at = loss.partition, 0 if loss.checkpoint is None else loss.checkpoint.at
    left = Remains((await read_rows(log, [partition]))[partition], at=at)
    census = await take_census(settings, archive, [partition])
    await _fold_archive(archive, census, partition, left)
    say(f"{len(census[partition])} rooms read from Cassandra")
    if loss.checkpoint is not None and loss.checkpoint.offset + 1 >= loss.held.beginning:
        return await _accept_silently(settings, log, loss, left)
    fence_id = secrets.token_hex(FENCE_ID_BYTES)
    await log.append_fence(partition, fence_id, "accept-loss")
    term = (await _fold_log(settings, log, loss, left, fence_id)).term
    say(f"{left.taken} events of {len(left.seen)} rooms were left in the log")
    commands = (await extents(settings, settings.topic(COMMANDS)))[partition]
    # Without a record in the log, what was answered can only be guessed: all that waits counts as lost.
    recorded = max(START if loss.checkpoint is None else loss.checkpoint.position, loss.archived)
    src = left.src if left.src >= 0 else max(commands.end - 1, recorded.src)
    position = Position(term, src, term)
    await fill(settings, log, partition, src + 1, say)
    await _append(log, partition, left.renumberings(loss.unknown))
    end = (await extents(settings, settings.topic(COMMANDS)))[partition].end
    limits = Limits(settings.partitions, record_bytes_max(settings))
    mender = Mender(partition, log, left.rows, Taker(position), Clock(left.at), limits, Pace())
    try:
        await mender.give_up(commands.beginning, lambda _: None)
        await _answer(log, mender, end)
        await _make_base(settings, partition, position, left.at)
        failpoint("accept-loss-before-snapshot")
        mender.unsnapshotted = True
        await Snapshots(settings, log).take([mender])
    finally:
        await mender.close(0)
    return mender.renumbered


async def _accept_silently(settings: Settings, log: Log, loss: Loss, left: Remains) -> int:
    """The sequencer has lost nothing and may be at work: it is asked, like by anybody, to number rooms anew."""
    position = await _fold_log(settings, log, loss, left, None)
    commands = left.renumberings(0)
    await _append(log, loss.partition, commands)
    if "archiver" in loss.behind:
        await _make_base(settings, loss.partition, position, left.at)
    return len(commands)


class Mender(Attempt):
    """Answers the commands that wait: rooms are numbered anew, and nothing else happens until they all are."""

    renumbered = 0

    def _answer(self, asked: Command, at: int) -> Event | Verdict:
        if isinstance(asked, RenumberRoom | WatchRoom | Tick):
            answer = super()._answer(asked, at)
            self.renumbered += isinstance(answer, Event)
            return answer
        return refuse_undecodable(
            asked.room, Code.UNAVAILABLE, "the room is being mended; send again with the same x-client-id", at
        )


# ---------------------------------------------------------------- what is left


async def _fold_archive(archive: RawArchive, census: Census, partition: int, left: Remains) -> None:
    for room, known in census[partition].items():
        left.highest[room] = known.least
        archived = ArchivedRoom(archive, room, known)
        async for page in archived.pages():
            for event, _ in page:
                left.fold(event)
        left.archived[room] = archived.seq


async def _fold_log(settings: Settings, log: Log, loss: Loss, left: Remains, fence_id: str | None) -> Position:
    """Fold what the log holds, and archive it: up to the fence of that id, or to where it ends now. Returns where."""
    found = Beginning(loss.held.beginning)
    async for record in _records(log, loss.partition, loss.held.beginning):
        if found.settled_by(record):
            break
    start = found.position
    taker = Taker(start)
    archive = ArchiveStore(settings)
    batch: list[Stored] = []
    try:
        async for record in _records(log, loss.partition, start.offset + 1):
            take = taker.take(record.offset, record.headers)
            if take is Take.FENCE and fence_id is not None and _is_fence(record, fence_id):
                break
            if take is Take.EVENT:
                try:
                    event = read_event(record.key, record.value)
                except Refused:  # no event of ours: no row knows anything of it
                    continue
                left.fold_logged(event)
                batch.append(Stored(event, record.value))
            elif take is Take.VERDICT:
                left.at = max(left.at, decode_verdict(record.value).at)
            if len(batch) >= WRITE_EVENTS:
                await archive.write_events(batch)
                batch.clear()
        if batch:
            await archive.write_events(batch)
    finally:
        await archive.stop()
    if taker.src > start.src:
        left.src = taker.src
    return taker.position


async def _records(log: Log, partition: int, start: int) -> AsyncIterator[Any]:
    """The records of the event log from offset `start` to where it ends now."""
    tp = log.event_partition(partition)
    async with log.reader() as consumer:
        ends = await consumer.end_offsets([tp])
        async for _, records in follow(consumer, {tp: start}, ends):
            for record in records:
                yield record


def _is_fence(record: Any, fence_id: str) -> bool:
    writer = decode_writer(record.value)
    return writer is not None and writer.id == fence_id


# ---------------------------------------------------------------- what is written


async def _append(log: Log, partition: int, commands: Sequence[RenumberRoom]) -> None:
    records = [Record(command.room.encode(), encode(command), []) for command in commands]
    for first in range(0, len(records), APPEND_COMMANDS):
        await log.append_commands(partition, records[first : first + APPEND_COMMANDS])
    failpoint("accept-loss-after-commands")


async def _answer(log: Log, mender: Mender, end: int) -> None:
    """Have every command below `end` answered.

    Raises:
        RoomlogError: the writer was put out, or met what it does not know.
    """
    ended: list[BaseException | None] = []
    mender.start(lambda _, error: ended.append(error))
    tp = log.command_partition(mender.partition)
    async with log.reader() as consumer:
        async for _, records in follow(consumer, {tp: mender.next}, {tp: end}):
            for record in records:
                if record.offset < end:
                    mender.put(record)
            while mender.full:
                _must_run(mender, ended)
                await asyncio.sleep(POLL_S)
    while mender.position.src < end - 1:
        _must_run(mender, ended)
        await asyncio.sleep(POLL_S)


def _must_run(mender: Mender, ended: list[BaseException | None]) -> None:
    if ended:
        raise RoomlogError(f"partition {mender.partition}: run this again ({ended[0]})")


async def _make_base(settings: Settings, partition: int, position: Position, at: int) -> None:
    async with running_producer(settings, "base") as producer:
        await write_base(producer, settings, partition, Base(v=VERSION, at=at, **position._asdict()))
