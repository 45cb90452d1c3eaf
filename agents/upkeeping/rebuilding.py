"""`rebuild-tables`, around agents/upkeeping/tables.py: which partitions, and may it be now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from agents.sequencing.checkpoints import read_rows
from agents.sequencing.log import Log
from agents.upkeeping.census import take_census
from agents.upkeeping.tables import Rebuilt, TableBuilder, stands_still
from chat.errors import RoomlogError
from chat.log.answering import unavailable_when_away
from chat.log.bases import read_bases
from chat.log.positions import live_members
from chat.log.topics import EVENTS
from chat.log.walking import extents
from chat.settings import Settings
from chat.stores.cassandra.raw import RawArchive


@asynccontextmanager
async def engines(settings: Settings) -> AsyncIterator[tuple[Log, RawArchive]]:
    """The log and the archive for the body of the `with`; what Kafka fails with there is `Unavailable`."""
    log, archive = Log(settings), RawArchive(settings)
    try:
        with unavailable_when_away(settings):
            yield log, archive
    finally:
        await log.stop()
        await archive.stop()


async def connect(settings: Settings, log: Log, archive: RawArchive) -> None:
    """Return when both engines answer.

    Raises:
        Unavailable: one does not.
    """
    await archive.ready()
    with unavailable_when_away(settings):
        try:
            await log.start()
        except (KafkaError, OSError):
            await log.stop()
            raise


async def due(settings: Settings, log: Log, archive: RawArchive, wanted: Iterable[int]) -> list[int]:
    """Which of the `wanted` partitions may be rebuilt now; both engines answer when it returns.

    Raises:
        RoomlogError: a sequencer is running, and none of them stands still.
        Unavailable: an engine does not answer.
    """
    await connect(settings, log, archive)
    wanted = list(wanted)
    members = await live_members(settings, "sequencer")
    if not members:
        return wanted
    held = await extents(settings, settings.topic(EVENTS))
    # One after the other: the rows of a partition may take as much memory as its sequencer.
    still = [p for p in wanted if stands_still(held[p], (await read_rows(log, [p]))[p])]
    if not still:
        raise RoomlogError(
            f"{members} sequencer(s) are running and have the tables they need; to rebuild them all the same, stop "
            "every sequencer first"
        )
    return still


async def rebuild(
    settings: Settings, log: Log, archive: RawArchive, partitions: list[int], tell: Callable[[str], None]
) -> AsyncIterator[Rebuilt]:
    """Rebuild `partitions`, one after the other.

    Raises:
        RoomlogError: see `TableBuilder.rebuild`; the partitions before are done.
        Unavailable: an engine does not answer.
    """
    builder = TableBuilder(settings, log, archive, tell)
    # In this order: whatever a trim deletes before a base that is known here is in Cassandra when the census is taken.
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    census = await take_census(settings, archive, partitions)
    tell(f"{sum(map(len, census.values()))} rooms in {len(partitions)} partitions")
    for partition in partitions:
        yield await builder.rebuild(partition, held[partition], bases.get(partition), census)
