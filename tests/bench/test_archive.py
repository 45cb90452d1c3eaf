"""Rows per second into Cassandra, beside the driver alone; then the whole archiver, from the log. `make bench`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cassandra.query import BatchStatement, BatchType

from chat.log.positions import committed
from chat.records import Event, encode
from chat.stores.cassandra import archive
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.session import Session
from chat.stores.model import Stored
from tests.bench.measure import Figure, cpu_s, report
from tests.engines import Namespace, Workers
from tests.eventlog import EventLog, post

EVENTS = 50_000
SINGLE_EVENTS = 10_000
AT_ONCE = 5_000
BODY = "hello there, this is a message of the usual length. " * 2
REPETITIONS = 3

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
_runs = itertools.count()


def events_of(rooms: int, count: int) -> list[Stored]:
    """Messages in `rooms` rooms by turns; none opens its room."""
    run = next(_runs)
    made = []
    for n in range(count):
        seq = 2 + n // rooms
        event = Event(
            v=1,
            room=f"room-{run}-{n % rooms}",
            seq=seq,
            epoch="60a24181e400e",
            kind="message",
            at=1_700_000_000_000_000 + n,
            sender="alice",
            msg_no=seq,
            members=12,
            chain="0" * 64,
            nonce="n" * 22,
            client_id=f"{n}",
            content_type="text/plain",
            body=BODY,
        )
        made.append(Stored(event, encode(event)))
    return made


async def rate(count: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[float, float]:
    """Rows per second, and CPU microseconds of this process a row."""
    started, cpu = time.monotonic(), time.process_time()
    await work()
    return count / (time.monotonic() - started), (time.process_time() - cpu) / count * 1e6


async def ours(store: ArchiveStore, events: list[Stored]) -> None:
    slots = asyncio.Semaphore(2)

    async def write(start: int) -> None:
        async with slots:
            await store.write_events(events[start : start + AT_ONCE])

    await asyncio.gather(*(write(start) for start in range(0, len(events), AT_ONCE)))


async def driver_alone(session: Session, events: list[Stored]) -> None:
    """The rows of `room_log` and nothing else, in the driver's own batches of 100 of one partition, 8 in flight."""
    prepared = session._prepared[archive._LOG]
    rooms: dict[str, list[Stored]] = {}
    for one in events:
        rooms.setdefault(one.event.room, []).append(one)
    slots = asyncio.Semaphore(8)

    async def write(rows: list[Stored]) -> None:
        async with slots:
            batch = BatchStatement(BatchType.UNLOGGED)
            for e, value in rows:
                batch.add(prepared, (e.room, e.seq // 5000, e.seq, e.at, e.kind, e.sender, value, e.at))
            await session._run(session._session, batch)

    await asyncio.gather(
        *(write(rows[start : start + 100]) for rows in rooms.values() for start in range(0, len(rows), 100))
    )


async def single_rows_alone(session: Session, events: list[Stored]) -> None:
    """One statement a row, 128 in flight."""
    prepared = session._prepared[archive._LOG]
    slots = asyncio.Semaphore(128)

    async def write(one: Stored) -> None:
        e, value = one
        async with slots:
            values = (e.room, e.seq // 5000, e.seq, e.at, e.kind, e.sender, value, e.at)
            await session._run(session._session, prepared.bind(values))

    await asyncio.gather(*(write(one) for one in events))


async def test_rows_per_second_into_cassandra_beside_the_driver_alone(keyspace: Namespace) -> None:
    store = ArchiveStore(keyspace.settings())
    session = Session(keyspace.settings(), archive.STATEMENTS)
    await asyncio.gather(store.write_events([]), session.ready())
    await ours(store, events_of(100, 20_000))  # a node that has just started is slow
    figures = []
    for name, rooms, count, bare in (
        ("100 rooms", 100, EVENTS, driver_alone),
        ("one row a room", SINGLE_EVENTS, SINGLE_EVENTS, single_rows_alone),
    ):
        us: dict[str, list[float]] = {"ours": [], "bare": []}
        per_s: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(REPETITIONS):
            for who, work in (
                ("ours", ours(store, events_of(rooms, count))),
                ("bare", bare(session, events_of(rooms, count))),
            ):
                rows, row_us = await rate(count, lambda work=work: work)  # type: ignore[misc]
                us[who].append(row_us)
                per_s[who].append(rows)
        figures += [
            Figure(f"archive, {name}: CPU per event", "us", us["ours"], us["bare"]),
            Figure(f"archive, {name}: wall", "events/s", per_s["ours"], per_s["bare"]),
        ]
    await asyncio.gather(store.stop(), session.stop())
    print(report(figures, events=EVENTS))


async def test_the_whole_archiver_catches_up_from_the_log(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        for start in range(0, EVENTS, 5_000):
            await log.commands(post(f"room{n % 100}", body=BODY) for n in range(start, start + 5_000))
        archiver = await worker("archiver", start=False)
        archiver.spawn()
        started = None
        while True:
            newest = await committed(settings, "archiver")
            taken = sum(checkpoint.newest.src + 1 for checkpoint in newest.values())
            if taken and started is None:
                started = (time.monotonic(), cpu_s(archiver.pid), taken)
            if taken == EVENTS:
                break
            await asyncio.sleep(0.05)
    assert started is not None
    at, cpu, before = started
    count = EVENTS - before
    if count:
        print(
            f"\narchiver: {count / (time.monotonic() - at):.0f} events/s, {(cpu_s(archiver.pid) - cpu) / count * 1e6:.0f} us/event"
        )
    else:
        print(f"\narchiver: {EVENTS} events within its first commit")
