"""Writing the event log into Cassandra again, beside everything that runs.

Every row carries the log time of its event as its time stamp, so writing it once more changes nothing where it is
right, and brings it back where it is missing. A row that somebody wrote over has a newer time stamp and wins: for that
there is `overwrite`, which writes with time stamps of now. They keep the order of the log, and end before the log time
of whatever is appended afterwards, so the archiver's later writes still win.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agents.durable import read_event
from agents.upkeeping.tasks import together
from chat.errors import Refused, RoomlogError, Unavailable
from chat.failpoints import failpoint
from chat.log.bases import Base, begin_at, no_beginning, read_bases
from chat.log.taking import Position, Take
from chat.log.topics import EVENTS
from chat.log.walking import Extent, Walk, extents
from chat.settings import Settings
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.model import Stored

EVENTS_MAX: Final = 5_000
"""Of one write, as the archiver's."""
IN_FLIGHT_MAX: Final = 2
RETRY_S: Final = 0.5

Tell = Callable[[int], None]


class Stretch(NamedTuple):
    """What is read of a partition."""

    partition: int
    start: Position
    end: int

    @property
    def records(self) -> int:
        """How many there are."""
        return self.end - self.start.offset - 1


class Archived(NamedTuple):
    """What came of it."""

    events: int
    skipped: int
    """Records that count and hold no event that a store could keep: the archiver has parked them."""


async def stretches(settings: Settings, partition: int | None, *, from_start: bool) -> list[Stretch]:
    """What the log holds now, of one partition or of all; see `stretch`."""
    held = await extents(settings, settings.topic(EVENTS))
    bases = await read_bases(settings)
    return [
        stretch(settings, each, held[each], bases.get(each), from_start=from_start)
        for each in (held if partition is None else [partition])
    ]


def stretch(settings: Settings, partition: int, extent: Extent, base: Base | None, *, from_start: bool) -> Stretch:
    """From where the log begins to where it ends now. `from_start`: only if that is its first record.

    Raises:
        RoomlogError: it does not begin where it has to.
    """
    if from_start and extent.beginning > 0:
        raise RoomlogError(
            f"partition {partition} begins at {extent.beginning}: it was trimmed, and what is gone stands in Cassandra "
            "or in a backup only"
        )
    start = begin_at(extent.beginning, base)
    if start is None:
        raise RoomlogError(no_beginning(settings.topic(EVENTS), partition, extent.beginning))
    return Stretch(partition, start, extent.end)


class Rearchiver:
    """Writes stretches of the log, one partition at a time, with two writes under way."""

    def __init__(self, settings: Settings, store: ArchiveStore, *, overwrite: bool, wait_s: float, tell: Tell) -> None:
        """`wait_s`: how long Cassandra may be away. `tell` hears how many records are read, all in all."""
        self._settings = settings
        self._store = store
        self._overwrite = overwrite
        self._wait_s = wait_s
        self._tell = tell
        self._read = 0

    async def archive(self, what: Stretch) -> Archived:
        """Write one stretch; returns when all of it is written.

        Raises:
            BrokenInvariant: the log has a hole, or was trimmed meanwhile.
            Unavailable: Kafka does not answer, or Cassandra not within `wait_s`.
        """
        # Later than any row that is there now, earlier than what the log will say later on (clocks agreeing).
        stamp = int(time.time() * 1_000_000) - what.records if self._overwrite else None
        events = skipped = 0
        batch: list[Stored] = []
        async with together() as writes:
            slots = asyncio.Semaphore(IN_FLIGHT_MAX)

            async def cut() -> None:
                nonlocal batch, stamp, events
                full, batch = batch, []
                stamps = None
                if stamp is not None:
                    stamps = {event.at: stamp + n for n, (event, _) in enumerate(full)}
                    stamp += len(full)
                await slots.acquire()
                writes.create_task(self._write(full, stamps, slots))
                events += len(full)

            async for records in Walk(self._settings, what.partition, what.start, what.end):
                for take, record in records:
                    if take is Take.EVENT:
                        if (stored := _stored(record)) is None:
                            skipped += 1
                        else:
                            batch.append(stored)
                    if len(batch) >= EVENTS_MAX:
                        await cut()
                self._read += len(records)
                self._tell(self._read)
            if batch:
                await cut()
        return Archived(events, skipped)

    async def _write(self, events: list[Stored], stamps: dict[int, int] | None, slots: asyncio.Semaphore) -> None:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                await self._store.write_events(events, stamps)
                break
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_S)
        failpoint("rearchive-mid-batch")
        slots.release()


def _stored(record: Any) -> Stored | None:
    try:
        return Stored(read_event(record.key, record.value), record.value)
    except Refused:
        return None
