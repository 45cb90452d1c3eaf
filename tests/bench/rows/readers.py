"""The durable readers, whole: archiver and projector, as they catch up from the log."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from chat.errors import Unavailable
from chat.log.producer import Record
from chat.records import Event
from chat.settings import Settings
from chat.stores.cassandra.history import HistoryStore
from chat.stores.redis import Directory, Projection, RecentTail
from chat.stores.redis.writing import TAIL_EVENTS
from tests.bench.bare.projector import apart
from tests.bench.bench import PARTITIONS, Bench, System
from tests.bench.load import Refused
from tests.bench.measure import Run
from tests.bench.rows.log import PRELOAD_MAX_S, ROOMS, FullLog, program
from tests.eventlog import post

EVENTS: Final = 50_000
BODY: Final = "hello there, this is a message of the usual length. " * 2
WITHIN_S: Final = 60.0
POLL_S: Final = 0.02

Read = Callable[[str, int, int], Awaitable[list[Event]]]
"""Of a room, from a seq on, so many events."""


async def _until_read(read: Read, room: str, events: list[Event], deadline: float) -> None:
    """Wait until a store gives exactly `events`."""
    while True:
        try:
            found = await read(room, events[0].seq, len(events))
        except Unavailable:
            found = []
        if found == events:
            return
        if time.monotonic() > deadline:
            raise Refused(f"{room}: {len(found)} of {len(events)} events from {events[0].seq} on can be read")
        await asyncio.sleep(POLL_S)


async def _catch_up(bench: Bench, system: System, log: FullLog, role: str, read: Read, kept: int) -> Run:
    """One worker stands still while events are appended, and goes on: until the last event of each room is readable.

    Afterwards, unmeasured, the last `kept` of every room have to be what was appended.
    """
    worker = system.workers[role]
    batches: dict[int, list[Record]] = defaultdict(list)
    rooms: dict[str, list[Event]] = defaultdict(list)
    for n in range(EVENTS):
        partition, record, event = log.decide(post(f"room-{n % ROOMS}", body=BODY))
        batches[partition].append(record)
        rooms[event.room].append(event)
    await bench.settled(system.processes)
    worker.pause()
    started = time.monotonic()
    await asyncio.gather(*(log.raw(partition, *records) for partition, records in batches.items()))
    if time.monotonic() - started > PRELOAD_MAX_S:
        worker.resume()
        raise Refused(f"the {role} stood still for too long to keep its session")
    meter = bench.meter()
    worker.resume()
    deadline = time.monotonic() + WITHIN_S
    for room, events in rooms.items():
        await _until_read(read, room, events[-1:], deadline)
    run = meter.stop(EVENTS)
    for room, events in rooms.items():
        await _until_read(read, room, events[-kept:], deadline)
    return run


async def _fences(log: FullLog) -> None:
    for partition in range(log.settings.partitions):
        await log.fence(partition)


async def archiver(bench: Bench) -> None:
    """The whole archiver, catching up from the log: events a second until they can be read, and CPU per event"""
    async with bench.system("archiver") as system, FullLog(system.namespace.settings()) as log:
        store = HistoryStore.open(log.settings)
        try:
            await _fences(log)

            async def once() -> Run:
                return await _catch_up(bench, system, log, "archiver", store.read_events, EVENTS // ROOMS)

            await once()
            runs = (await bench.interleave({"ours": once}))["ours"]
        finally:
            await store.stop()
    bench.conditions = {"events": EVENTS, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure("archiver, catching up: events", "1/s", lambda run: run.per_s, runs, smaller_is_better=False)
    bench.figure("archiver, catching up: CPU per event", "us", lambda run: run.us("archiver"), runs)


async def projector(bench: Bench) -> None:
    """The whole projector, catching up from the log, beside a bare consumer and plain pipelines of the same values"""
    async with bench.system("projector") as system, FullLog(system.namespace.settings()) as log:
        tail, directory = RecentTail(log.settings), Directory(log.settings)
        try:
            await _fences(log)

            async def ours() -> Run:
                run = await _catch_up(bench, system, log, "projector", tail.read_events, TAIL_EVENTS)
                for room, rows in log.rooms.items():
                    info = await directory.get_room(room)
                    if rows.head is None or info is None or info.seq != rows.head.seq:
                        raise Refused(f"{room}: Redis does not know its last event")
                return run

            async def bare() -> Run:
                await _forget(apart(log.settings))
                return await program(bench, system, "projector", str(EVENTS))

            await ours()
            runs = await bench.interleave({"ours": ours, "bare": bare})
        finally:
            await asyncio.gather(tail.stop(), directory.stop())
            await asyncio.gather(_forget(log.settings), _forget(apart(log.settings)))
    bench.conditions = {"events": EVENTS, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure(
        "projector, catching up: CPU per event",
        "us",
        lambda run: run.us("projector"),
        runs["ours"],
        runs["bare"],
        bare_value=lambda run: run.values["us"],
    )
    bench.figure(
        "projector, catching up: events",
        "1/s",
        lambda run: run.per_s,
        runs["ours"],
        runs["bare"],
        bare_value=lambda run: run.done / run.values["printed_1"],
        smaller_is_better=False,
    )


async def _forget(settings: Settings) -> None:
    """Leave nothing in Redis: a namespace drops its topics and its keyspace only."""
    projection = Projection(settings)
    await projection.clear()
    await projection.stop()
