"""Events on their way into a store: cut into batches in log order, several written at a time, bounded.

A batch is written when it is full or when its first event has waited for `linger_s`; it is tried again for ever while
the store is away. So at most `in_flight_max` + 1 batches are in memory, whatever happens to the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from agents.reading import Batch, Pipeline, Reading
from chat import logs, metrics
from chat.errors import Unavailable
from chat.log.producer import Record
from chat.readiness import readiness
from chat.stores.model import Stored

log = logs.get(__name__)

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 2.0
BATCH_BYTES_MAX: Final = 4_194_304
"""Of event values in a batch: bounds what is held while the store is away, whatever the events' size."""

Write = Callable[[list[Stored]], Awaitable[object]]
Park = Callable[[list[Record]], Awaitable[object]]


class BatchWriter:
    """The way from `add` to the store. `write` and `park` are idempotent and raise `Unavailable` to be tried again."""

    def __init__(
        self,
        store: str,
        write: Write,
        park: Park,
        *,
        events_max: int,
        in_flight_max: int,
        linger_s: float,
    ) -> None:
        """A writer to `store` (its name in logs, metrics and readiness). `run` must be running for it to write."""
        self._store = store
        self._write_events = write
        self._park = park
        self._events_max = events_max
        self._linger_s = linger_s
        self._pipeline = Pipeline()
        self._slots = asyncio.Semaphore(in_flight_max)
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._landed = asyncio.Event()
        self._away = False
        self._events = metrics.store_events.labels(store)
        self._batches = metrics.store_batches.labels(store)
        self._seconds = metrics.store_write_seconds.labels(store)
        self._retries = metrics.store_retries.labels(store)

    # ------------------------------------------------------------ in

    def add(self, reading: Reading, event: Stored | None = None, parked: Record | None = None) -> bool:
        """What a record of `reading` came to (nothing: its position counts). True: await `room` before the next."""
        batch = self._pipeline.open
        batch.readings.add(reading)
        if event is not None:
            batch.events.append(event)
            batch.size_bytes += len(event.value)
        if parked is not None:
            batch.parked.append(parked)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._due.set)
        if not self.full:
            return False
        self._due.set()
        self._room.clear()
        return True

    async def room(self) -> None:
        """Return when the open batch is not full."""
        await self._room.wait()

    @property
    def full(self) -> bool:
        """True while the store does not keep up: the open batch takes no more."""
        batch = self._pipeline.open
        return len(batch.events) >= self._events_max or batch.size_bytes >= BATCH_BYTES_MAX

    # ------------------------------------------------------------ out

    async def run(self) -> None:
        """Write batches until cancelled. Begins by waiting for the store: `write([])` only asks whether it is there."""
        await self._until_written(Batch())
        async with asyncio.TaskGroup() as writes:
            while True:
                await self._due.wait()
                await self._slots.acquire()
                writes.create_task(self._write(self._cut()))

    async def settled(self) -> None:
        """Return when everything that was added is written, or the store is away."""
        while not self._away and (self._pipeline.flying or self._pipeline.open.readings):
            if self._pipeline.open.readings:
                self._due.set()
            self._landed.clear()
            await self._landed.wait()

    def _cut(self) -> Batch:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._pipeline.close()
        self._room.set()
        return batch

    async def _write(self, batch: Batch) -> None:
        try:
            if batch.events or batch.parked:
                started = time.monotonic()
                await self._until_written(batch)
                self._seconds.observe(time.monotonic() - started)
                self._batches.inc()
                self._events.inc(len(batch.events))
            self._pipeline.finished(batch)
        finally:
            self._slots.release()
            self._landed.set()

    async def _until_written(self, batch: Batch) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            try:
                if batch.parked:
                    await self._park(batch.parked)
                    batch.parked.clear()
                await self._write_events(batch.events)
            except Unavailable as error:
                self._retries.inc()
                self._tell_away(str(error))
            else:
                self._tell_back()
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)

    def _tell_away(self, reason: str) -> None:
        readiness.lost(self._store, reason)
        if not self._away:
            self._away = True
            self._landed.set()
            log.warning("store_away", store=self._store, reason=reason)

    def _tell_back(self) -> None:
        if self._away:
            self._away = False
            log.info("store_back", store=self._store)
        readiness.ok(self._store)
