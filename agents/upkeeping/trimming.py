"""Deleting the oldest records of `room.events`, safely.

What may go is what nobody needs: what is written to Cassandra and to Redis, lies before the sequencer's newest
checkpoint, and is older than the retention setting. The order carries the promise. The records that will go are read
once more, through the rule of taking, so that where they end is an exact position. That position is written as the
partition's base (chat/log/bases.py), and only when it is acknowledged are the records deleted. So a trim may be killed
at any point and repeated: it leaves a log that still has its beginning, or one whose base lies in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from agents.sequencing.checkpoints import newest_checkpoints
from agents.sequencing.log import Log
from agents.sequencing.rows import Checkpoint
from chat.errors import BrokenInvariant
from chat.failpoints import failpoint
from chat.log.bases import Base, read_bases, write_base
from chat.log.positions import committed
from chat.log.producer import running_producer
from chat.log.taking import START, Position
from chat.log.topics import EVENTS, admin_client
from chat.log.walking import Extent, Walk, extents, offsets_since
from chat.records import VERSION
from chat.settings import Settings

READERS: Final = ("archiver", "projector")
"""Roles that keep a position in the event log; nothing that one of them has still to read is deleted."""

DAY_MS: Final = 86_400_000
NO_BASE: Final = Base(VERSION, *START, 0)
"""Where the walk of a whole log begins."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a trim does with one partition."""

    partition: int
    extent: Extent
    origin: Base | None
    """Where the walk to the cut begins; None: the partition stays as it is."""
    last: int = -1
    """The last offset that goes."""
    why: str = ""
    """What keeps the next one, or why nothing goes."""
    adopts: bool = False
    """Nothing is deleted: the sequencer's checkpoint becomes the base of a log that somebody else has trimmed."""

    def __str__(self) -> str:
        first, end = self.extent
        if self.adopts:
            assert self.origin is not None
            return (
                f"partition {self.partition}: begins at {first} and has no base, somebody else trimmed it; the "
                f"sequencer's checkpoint at {self.origin.offset} becomes its base (check with `faust -A app verify`)"
            )
        if self.origin is None:
            held = f"{first} to {end - 1}" if first < end else "no records"
            return f"partition {self.partition}: nothing to delete, it holds {held} ({self.why})"
        kept = f"{self.last + 1} to {end - 1} stay" if self.last + 1 < end else "nothing stays"
        return f"partition {self.partition}: {first} to {self.last} go, {kept} ({self.why})"


async def plan(settings: Settings, keep_s: float, now_s: float) -> list[Cut]:
    """What a trim at `now_s` (seconds since 1970) would do with each partition. Reads, writes nothing.

    Raises:
        BrokenInvariant: a base or a position lies outside of the log.
        Unavailable: Kafka does not answer.
    """
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    checkpoints = await newest_checkpoints(Log(settings), held)
    young = await offsets_since(settings, settings.topic(EVENTS), round((now_s - keep_s) * 1000))
    readers = {role: await committed(settings, role) for role in READERS}
    return [
        cut(
            partition,
            extent,
            bases.get(partition),
            checkpoints.get(partition),
            young[partition],
            {role: found[partition].again if partition in found else None for role, found in readers.items()},
        )
        for partition, extent in held.items()
    ]


def cut(
    partition: int,
    extent: Extent,
    base: Base | None,
    checkpoint: Checkpoint | None,
    young: int | None,
    readers: Mapping[str, Position | None],
) -> Cut:
    """What may go of one partition. Pure.

    Args:
        partition: which one.
        extent: what it holds.
        base: its base, if it was ever trimmed.
        checkpoint: the sequencer's newest.
        young: first offset that the retention setting keeps; None: it keeps none.
        readers: where each role that reads the log begins after a restart; None: it has no position yet.
    """
    beginning, end = extent
    if base is not None and base.offset >= end:
        raise BrokenInvariant(
            f"partition {partition} ends at {end}, its base lies at {base.offset}: the log was made anew under it"
        )
    limits = [(-1 if at is None else at.offset, f"the {role}'s position") for role, at in readers.items()]
    limits.append((-1 if checkpoint is None else checkpoint.offset, "the sequencer's checkpoint"))
    limits.append(((end if young is None else young) - 1, "the retention setting"))
    last, why = min(limits)
    if beginning > 0 and (base is None or base.offset + 1 < beginning):
        if checkpoint is None or checkpoint.offset + 1 < beginning:
            return Cut(partition, extent, None, why="somebody else trimmed it, and no position in it is known")
        origin = Base(VERSION, checkpoint.offset, checkpoint.src, checkpoint.term, checkpoint.at)
        return Cut(partition, extent, origin, last=beginning - 1, adopts=True)
    if last < beginning:
        return Cut(partition, extent, None, why=f"held by {why}")
    if base is not None and last < base.offset:
        # A trim that kept less was killed before it deleted: its base stays, and this one keeps more.
        return Cut(partition, extent, None, why=f"held by {why}")
    return Cut(partition, extent, base or NO_BASE, last, f"held by {why}")


async def trim(settings: Settings, cuts: list[Cut], say: Say, tell: Say) -> int:
    """Carry out `cuts`; returns how many records are deleted. Harmless to repeat, and to kill at any point.

    `tell` hears once a second how far it is.

    Raises:
        BrokenInvariant: the log has a hole, or holds a record that does not decode: nothing of that partition goes.
        Unavailable: Kafka does not answer.
    """
    deleted = 0
    async with running_producer(settings, "trim") as producer:
        for each in cuts:
            if each.origin is None:
                continue
            base = each.origin if each.adopts else await _base(settings, each, each.origin, tell)
            await write_base(producer, settings, each.partition, base)
            failpoint("trim-after-base")
            if not each.adopts:
                beginning = await delete_up_to(settings, each.partition, base)
                deleted += beginning - each.extent.beginning
                say(f"partition {each.partition}: begins at {beginning}")
    return deleted


async def delete_up_to(settings: Settings, partition: int, base: Base) -> int:
    """Delete the records of a partition that its base, which has been written, stands for; returns its beginning."""
    tp = TopicPartition(settings.topic(EVENTS), partition)
    async with admin_client(settings) as admin:
        beginnings = await admin.delete_records({tp: RecordsToDelete(before_offset=base.offset + 1)})
    return int(beginnings[tp])


async def _base(settings: Settings, each: Cut, origin: Base, tell: Say) -> Base:
    walk = Walk(settings, each.partition, origin.position, each.last + 1)
    told_s = time.monotonic()
    async for _ in walk:
        if time.monotonic() - told_s >= 1.0:
            told_s = time.monotonic()
            tell(f"partition {each.partition}: read up to {walk.position.offset} of {each.last}")
    at = walk.log_time()
    return Base(VERSION, *walk.position, origin.at if at is None else at)
