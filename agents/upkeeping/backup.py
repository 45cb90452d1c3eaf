"""A backup: every event of every room, read while everything runs.

Of each partition first what Cassandra has, room by room, then the log from the archiver's position on to where it ended
when its turn came. The two overlap, and seq says what the other one had already. Every event is checked against the one
before it (number and chain), so a backup that could be finished has no hole and nothing in it was altered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from agents.durable import read_event
from agents.upkeeping.census import WINDOW, ArchivedRoom, Known, take_census
from agents.upkeeping.files import FORMAT, MANIFEST, Manifest, Part, PartWriter, make_folder, write_manifest
from agents.upkeeping.tasks import together
from chat.errors import BrokenInvariant, Refused, RoomlogError
from chat.failpoints import failpoint
from chat.log.bases import begin_at, no_beginning, read_bases
from chat.log.positions import committed
from chat.log.taking import Position, Take
from chat.log.topics import EVENTS
from chat.log.walking import Walk, extents
from chat.settings import Settings
from chat.stores.cassandra.raw import RawArchive
from chat.version import __version__

Tell = Callable[[int, int], None]


async def back_up(settings: Settings, archive: RawArchive, folder: Path, tell: Tell) -> Manifest:
    """Write a backup into `folder`, which must not hold one. `tell` hears of partitions done, and events.

    Raises:
        RoomlogError: `folder` holds a backup, or cannot be written; or a room is not whole: the line names it.
        Unavailable: an engine does not answer.
    """
    if (folder / MANIFEST).exists():
        raise RoomlogError(f"{folder} holds a backup already: give each its own folder")
    began_at = _now()
    # Positions first: what is archived after them is in the log behind them, rooms that begin later, too.
    starts = await _starts(settings)
    census = await take_census(settings, archive, range(settings.partitions))
    parts: list[Part] = []
    events = 0
    try:
        make_folder(folder)
        for partition in range(settings.partitions):
            with PartWriter(folder, partition) as writer:
                await _add_archived(archive, census[partition], writer)
                position = await _add_logged(settings, partition, starts[partition], writer)
                _check(census[partition], writer)
                parts.append(writer.finish(*position))
            failpoint("backup-after-partition")
            events += parts[-1].events
            tell(len(parts), events)
        manifest = Manifest(FORMAT, __version__, settings.namespace, began_at, _now(), parts)
        write_manifest(folder, manifest)
    except OSError as error:
        raise RoomlogError(f"{folder} cannot be written: {error}") from None
    return manifest


async def _starts(settings: Settings) -> dict[int, Position]:
    """From where on the log is read: Cassandra has what lies before, by what the archiver says."""
    archived = await committed(settings, "archiver")
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    starts = {}
    for partition, extent in held.items():
        known = archived.get(partition)
        # Where the archiver would begin again: a node of Cassandra may have lost what it had not synced.
        ours = [p for p in (() if known is None else (known.again, known.newest)) if p.offset + 1 >= extent.beginning]
        start = ours[0] if ours else begin_at(extent.beginning, bases.get(partition))
        if start is None:
            raise RoomlogError(no_beginning(settings.topic(EVENTS), partition, extent.beginning))
        starts[partition] = start
    return starts


async def _add_archived(archive: RawArchive, rooms: Mapping[str, Known], writer: PartWriter) -> None:
    left = iter(rooms.items())

    async def add_rooms() -> None:
        for room, known in left:
            async for page in ArchivedRoom(archive, room, known).pages():
                for event, value in page:
                    writer.add(event, value)

    async with together() as tasks:
        for _ in range(min(WINDOW, len(rooms))):
            tasks.create_task(add_rooms())


async def _add_logged(settings: Settings, partition: int, start: Position, writer: PartWriter) -> Position:
    end = (await extents(settings, settings.topic(EVENTS)))[partition].end
    walk = Walk(settings, partition, start, end)
    async for records in walk:
        for take, record in records:
            if take is not Take.EVENT:
                continue
            try:
                event = read_event(record.key, record.value)
            except Refused as refused:
                raise BrokenInvariant(
                    f"partition {partition}: the record at offset {record.offset} counts and is no event: "
                    f"{refused.message}"
                ) from None
            if event.seq > writer.ends.seq(event.room):
                writer.add(event, record.value)
    return walk.position


def _check(rooms: Mapping[str, Known], writer: PartWriter) -> None:
    for room, known in rooms.items():
        if (seq := writer.ends.seq(room)) < known.least:
            raise RoomlogError(
                f"room {room}: Cassandra says that it has come to seq {known.least}, its events end at {seq}: "
                f"`faust -A app verify --room {room}` says more"
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
