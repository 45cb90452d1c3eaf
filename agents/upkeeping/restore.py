"""A backup brought back into an empty namespace.

The events go into Cassandra, and nowhere else: the restored namespace is one whose log has been trimmed at its first
record. So everything that knows trimmed logs knows restored ones. In this order:

1. check every file of the backup, and that the namespace holds nothing else;
2. write the events to Cassandra, each checked against the one before it;
3. for each partition make the sequencer's tables from Cassandra (agents/upkeeping/tables.py), which appends a fence to
   the empty log; the checkpoint stands behind the fence, with a log time above everything restored, so that numbering
   goes on and no later event is older than one of before;
4. write the position of that fence as the partition's base, delete the fence, and commit the position for every reader;
5. empty Redis: the projector fills it from Cassandra.

Nothing here depends on the number of partitions that the backup was taken with. Killed at any point it may be repeated:
what Cassandra has already is written again, a second fence does no harm. Workers are started when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from agents.durable import read_event
from agents.sequencing.log import Log
from agents.upkeeping.census import take_census
from agents.upkeeping.files import Ends, Manifest, Part, RoomEnd, read_ends, read_values
from agents.upkeeping.tables import Rebuilt, TableBuilder
from agents.upkeeping.trimming import delete_up_to
from chat.errors import BrokenInvariant, Refused, RoomlogError
from chat.failpoints import failpoint
from chat.log.bases import Base, begin_at, read_bases, write_base
from chat.log.following import follow
from chat.log.positions import TOPIC_OF_GROUP, commit, live_members
from chat.log.producer import Record, append, running_producer
from chat.log.taking import Position, Take
from chat.log.topics import COMMANDS, EVENTS, partition_of
from chat.log.walking import Walk, extents
from chat.records import VERSION, RenumberRoom, decode_command, decode_event, encode
from chat.settings import Settings
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.raw import RawArchive
from chat.stores.model import Stored

EVENTS_MAX: Final = 5_000
"""Of one write, as the archiver's."""
RENUMBER_GAP: Final = 1_000_000
"""More events than a room can have had since its backup: a client that resumes above all numbers is told so, one that
resumed in the middle of them would miss some unseen."""
OPERATOR: Final = "operator"
"""Who renumbers a room."""

Say = Callable[[str], None]
Tell = Callable[[int, int], None]


async def check_empty(settings: Settings, log: Log, archive: RawArchive, ends: Mapping[str, RoomEnd]) -> None:
    """Return when the namespace holds nothing, or what a restore of the same backup has left.

    Raises:
        RoomlogError: something else is there, or somebody runs: the line says what.
        Unavailable: an engine does not answer.
    """
    for role in TOPIC_OF_GROUP:
        if members := await live_members(settings, role):
            raise RoomlogError(f"{members} worker(s) of role {role} are running: stop everything first")
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    for partition, extent in held.items():
        start = begin_at(extent.beginning, bases.get(partition))
        if start is not None and start.src < 0:
            walk = Walk(settings, partition, start, extent.end)
            if not any([take is not Take.FENCE async for records in walk for take, _ in records]):
                continue
        raise _not_empty(settings, f"partition {partition} of {settings.topic(EVENTS)} holds events")
    for partition, value in await _commands(settings, log):
        try:
            command = decode_command(value)
        except Refused:
            command = None
        if not isinstance(command, RenumberRoom):
            raise _not_empty(settings, f"partition {partition} of {settings.topic(COMMANDS)} holds commands")
    async for page in archive.rooms():
        for row in page:
            end = ends.get(row["room"])
            if end is None or (row["seq"] or 0) > end.seq:
                raise _not_empty(settings, f"Cassandra has room {row['room']}, which the backup has not or not so far")


async def _commands(settings: Settings, log: Log) -> list[tuple[int, bytes | None]]:
    tps = [log.command_partition(partition) for partition in range(settings.partitions)]
    async with log.reader() as consumer:
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        for tp, end in ends.items():
            if starts[tp] > 0:
                raise _not_empty(settings, f"partition {tp.partition} of {tp.topic} ends at {end}")
        batches = [records async for _, records in follow(consumer, starts, ends)]
    return [(record.partition, record.value) for records in batches for record in records]


def _not_empty(settings: Settings, what: str) -> RoomlogError:
    return RoomlogError(f"namespace {settings.namespace} is not empty: {what}; restore into another ROOMLOG_NAMESPACE")


def all_ends(folder: Path, manifest: Manifest) -> dict[str, RoomEnd]:
    """Where each room of a backup ended."""
    return {end.room: end for part in manifest.parts for end in read_ends(folder, part)}


async def write_archive(store: ArchiveStore, folder: Path, manifest: Manifest, tell: Tell) -> None:
    """Write every event of a backup to Cassandra; `tell` hears of (events written, events in all).

    Raises:
        BrokenInvariant: an event does not follow the one before it, or a room does not end where it has to.
        Unavailable: Cassandra does not answer.
    """
    total = sum(part.events for part in manifest.parts)
    written = 0
    for part in manifest.parts:
        for batch in _batches(folder, part):
            await store.write_events(batch)
            failpoint("restore-mid-archive")
            written += len(batch)
            tell(written, total)


def _batches(folder: Path, part: Part) -> Iterable[list[Stored]]:
    ends = Ends()
    batch: list[Stored] = []
    for value in read_values(folder, part):
        batch.append(_stored(value))
        ends.follow(batch[-1].event)
        if len(batch) == EVENTS_MAX:
            yield batch
            batch = []
    yield batch
    ends.check()
    if {end.room: end for end in ends} != {end.room: end for end in read_ends(folder, part)}:
        raise BrokenInvariant(f"partition {part.partition} of the backup: its events and its rooms disagree")


def _stored(value: bytes) -> Stored:
    try:
        # A line has no key: what the event says of itself is all there is.
        return Stored(read_event(decode_event(value).room.encode(), value), value)
    except Refused as refused:
        raise BrokenInvariant(f"the backup holds a line that is no event: {refused.message}") from None


async def make_tables(settings: Settings, log: Log, archive: RawArchive, say: Say, tell: Say) -> dict[int, Position]:
    """Make the tables of every partition, and the log begin behind them; the positions where readers begin.

    Raises:
        RoomlogError: Cassandra does not hold what was written to it.
        Unavailable: an engine does not answer.
    """
    builder = TableBuilder(settings, log, archive, tell)
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    census = await take_census(settings, archive, range(settings.partitions))
    positions: dict[int, Position] = {}
    async with running_producer(settings, "restore") as producer:
        for partition in range(settings.partitions):
            rebuilt: Rebuilt = await builder.rebuild(partition, held[partition], bases.get(partition), census)
            checkpoint = rebuilt.checkpoint
            positions[partition] = checkpoint.position
            # Written before the fence goes, as in any trim.
            base = Base(VERSION, *checkpoint.position, checkpoint.at)
            await write_base(producer, settings, partition, base)
            failpoint("restore-after-base")
            await delete_up_to(settings, partition, base)
            say(str(rebuilt))
    for role in TOPIC_OF_GROUP:
        await commit(settings, role, positions)
    return positions


async def renumber(settings: Settings, ends: Iterable[RoomEnd]) -> int:
    """Ask for a new epoch of every room; returns how many. Repeated, it asks again for the same ones.

    Raises:
        Unavailable: Kafka does not answer.
    """
    records: dict[int, list[Record]] = {}
    for end in ends:
        command = RenumberRoom(v=VERSION, room=end.room, sender=OPERATOR, epoch=end.epoch, above=end.seq + RENUMBER_GAP)
        partition = partition_of(end.room, settings.partitions)
        records.setdefault(partition, []).append(Record(end.room.encode(), encode(command), []))
    async with running_producer(settings, "restore") as producer:
        for partition, commands in records.items():
            await append(producer, settings.topic(COMMANDS), partition, commands)
            failpoint("restore-mid-renumber")
    return sum(map(len, records.values()))
