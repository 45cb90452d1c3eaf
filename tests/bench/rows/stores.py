"""The stores: events into Cassandra, and history out of Redis and Cassandra, beside their drivers alone."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import redis.asyncio
from cassandra.query import BatchStatement, BatchType, SimpleStatement

from chat.records import Event, encode
from chat.stores.cassandra import archive, history
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.history import HistoryStore
from chat.stores.cassandra.session import Session
from chat.stores.model import Stored
from chat.stores.redis import RecentTail
from tests.bench.bench import Bench
from tests.bench.figures import Reach
from tests.bench.load import Refused
from tests.bench.measure import Run
from tests.bench.rows.log import LATE_MAX, FullLog
from tests.eventlog import EventLog, post
from tests.stored import StoredLog

EVENTS: Final = 50_000
SINGLE_EVENTS: Final = 10_000
WARM_EVENTS: Final = 20_000
AT_ONCE: Final = 5_000
BODY: Final = "hello there, this is a message of the usual length. " * 2

LAG_PER_S: Final = 2_000
LAG_S: Final = 6
LAG_STEP_S: Final = 0.05

HISTORY_EVENTS: Final = 200
LAST: Final = 50
CALLS: Final = 2_000

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


async def _ours(store: ArchiveStore, events: list[Stored]) -> None:
    slots = asyncio.Semaphore(2)

    async def write(start: int) -> None:
        async with slots:
            await store.write_events(events[start : start + AT_ONCE])

    await asyncio.gather(*(write(start) for start in range(0, len(events), AT_ONCE)))


def _row(one: Stored) -> tuple[Any, ...]:
    event, value = one
    return (event.room, event.seq // 5000, event.seq, event.at, event.kind, event.sender, value, event.at)


async def _driver_alone(session: Session, events: list[Stored]) -> None:
    """The rows of `room_log` and nothing else, in the driver's own batches of 100 of one partition, 8 in flight."""
    prepared = session._prepared[archive._LOG]
    rooms: dict[str, list[Stored]] = {}
    for one in events:
        rooms.setdefault(one.event.room, []).append(one)
    slots = asyncio.Semaphore(8)

    async def write(rows: list[Stored]) -> None:
        async with slots:
            batch = BatchStatement(BatchType.UNLOGGED)
            for one in rows:
                batch.add(prepared, _row(one))
            await session._run(session._session, batch)

    await asyncio.gather(
        *(write(rows[start : start + 100]) for rows in rooms.values() for start in range(0, len(rows), 100))
    )


async def _single_rows_alone(session: Session, events: list[Stored]) -> None:
    """One statement a row, 128 in flight."""
    prepared = session._prepared[archive._LOG]
    slots = asyncio.Semaphore(128)

    async def write(one: Stored) -> None:
        async with slots:
            await session._run(session._session, prepared.bind(_row(one)))

    await asyncio.gather(*(write(one) for one in events))


async def _timed(bench: Bench, count: int, work: Coroutine[Any, Any, Any]) -> Run:
    """CPU of this process, which is what works here, as `us`."""
    gc.collect()
    meter = bench.meter()
    before = time.process_time()
    await work
    return meter.stop(count, us=(time.process_time() - before) / count * 1e6)


async def _check_rows(session: Session, written: int) -> None:
    """Refuse when `room_log` does not hold every row that was written, by ours and by the driver alone."""
    rows = await asyncio.to_thread(
        lambda: sum(1 for _ in session._session.execute(SimpleStatement("SELECT seq FROM room_log", fetch_size=5_000)))
    )
    if rows != written:
        raise Refused(f"Cassandra holds {rows} of {written} rows")


async def archiver(bench: Bench) -> None:
    """Events into Cassandra: 100 rooms, and one row a room; beside the driver's own batches and single rows"""
    async with bench.system() as system:
        await asyncio.to_thread(system.namespace.make_keyspace)
        settings = system.namespace.settings()
        store, session = ArchiveStore(settings), Session(settings, archive.STATEMENTS)
        try:
            await asyncio.gather(store.write_events([]), session.ready())
            await _ours(store, events_of(100, WARM_EVENTS))  # a keyspace that has just been made is slow
            written = WARM_EVENTS
            for name, rooms, count, bare, reach in (
                ("100 rooms", 100, bench.scaled(EVENTS, 40_000), _driver_alone, 20_000),
                ("one row a room", 0, bench.scaled(SINGLE_EVENTS, 5_000), _single_rows_alone, 5_000),
            ):
                await bench.settled(system.engines)

                def side(
                    work: Callable[[Any, list[Stored]], Coroutine[Any, Any, None]],
                    target: Any,
                    rooms: int = rooms,
                    count: int = count,
                ) -> Coroutine[Any, Any, Run]:
                    nonlocal written
                    written += count
                    return _timed(bench, count, work(target, events_of(rooms or count, count)))

                runs = await bench.interleave(
                    {
                        f"ours, {name}": lambda side=side: side(_ours, store),
                        f"bare, {name}": lambda side=side, bare=bare: side(bare, session),
                    }
                )
                ours, of_bare = runs.values()
                await _check_rows(session, written)
                bench.figure(
                    f"archiver, {name}: rows",
                    "1/s",
                    lambda run: run.per_s,
                    ours,
                    of_bare,
                    reach=Reach(reach, at_most=False),
                    smaller_is_better=False,
                )
                bench.figure(f"archiver, {name}: CPU per row", "us", lambda run: run.values["us"], ours, of_bare)
        finally:
            await asyncio.gather(store.stop(), session.stop())


async def archiver_lag(bench: Bench) -> None:
    """How long after its append an event can be read from Cassandra, at 2,000 events a second into one room"""
    run = 0

    async def once(log: EventLog, store: HistoryStore) -> Run:
        nonlocal run
        run += 1
        room = f"lag-{run}"
        appended: list[float] = []
        lags: list[float] = []
        meter = bench.meter()

        async def append() -> None:
            step = int(LAG_PER_S * LAG_STEP_S)
            started = time.monotonic()
            for n in range(int(LAG_S / LAG_STEP_S)):
                await asyncio.sleep(max(0.0, started + n * LAG_STEP_S - time.monotonic()))
                # From before the append, not from its ack: the archiver may be done before we hear of it.
                appended.extend([time.monotonic()] * step)
                await log.commands(post(room, body=BODY) for _ in range(step))
            if (took_s := time.monotonic() - started) > LAG_S * LATE_MAX:
                raise Refused(f"{len(appended)} events took {took_s:.1f} s: not {LAG_PER_S} a second")

        appending = asyncio.create_task(append())
        deadline = time.monotonic() + LAG_S + 30
        while not appending.done() or len(lags) < len(appended):
            found = await store.read_events(room, len(lags) + 1, 500)
            now = time.monotonic()
            lags.extend(now - appended[n] for n in range(len(lags), len(lags) + len(found)))
            if not found:
                await asyncio.sleep(0.02)
            if now > deadline:
                raise Refused(f"{len(appended) - len(lags)} events did not come to Cassandra")
        await appending  # and what it refused
        lags.sort()
        return meter.stop(len(lags), p50_ms=lags[len(lags) // 2] * 1e3, p99_ms=lags[len(lags) * 99 // 100] * 1e3)

    async with bench.system("archiver") as system:
        settings = system.namespace.settings()
        store = HistoryStore.open(settings)
        try:
            async with FullLog(settings) as log:
                await once(log, store)
                runs = (await bench.interleave({"ours": lambda: once(log, store)}))["ours"]
        finally:
            await store.stop()
    bench.conditions = {"events_per_s": LAG_PER_S}
    for q, reach in ((50, None), (99, Reach(1_000))):
        bench.figure(
            f"archiver: lag at 2,000 events a second, p{q}",
            "ms",
            lambda run, q=q: run.values[f"p{q}_ms"],
            runs,
            reach=reach,
        )
    bench.figure("archiver: CPU per event at 2,000 a second", "us", lambda run: run.us("archiver"), runs)


def _value(found: Any) -> bytes:
    """The stored bytes of what a side gives: an event, a value of Redis, a row of Cassandra."""
    if isinstance(found, Event):
        return encode(found)
    return bytes(found[1] if isinstance(found, tuple) else found)


async def history_(bench: Bench) -> None:
    """The last 50 events of a room: from Redis and from Cassandra, beside a bare call of the same rows"""
    calls = bench.scaled(CALLS, 1_000)
    async with bench.system() as system:
        await asyncio.to_thread(system.namespace.make_keyspace)
        settings = system.namespace.settings()
        async with StoredLog(settings) as log:
            appended = await log.commands(post("lobby", body=BODY, client_id=f"{n}") for n in range(HISTORY_EVENTS))
            first = HISTORY_EVENTS - LAST + 1
            recent, stored = RecentTail(settings), HistoryStore(settings)
            host, port = settings.redis_address
            client = redis.asyncio.Redis(host=host, port=port)
            key = recent._client.keys.tail("lobby")
            try:
                await stored.read_events("lobby", first, LAST)
                session = stored._session
                bound = session._prepared[history._RANGE].bind(("lobby", 0, first, HISTORY_EVENTS))

                async def repeated(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
                    for _ in range(calls):
                        if len(await call()) != LAST:
                            raise Refused(f"not the last {LAST} events")

                sides: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                    "Redis, ours": lambda: recent.read_events("lobby", first, LAST),
                    "Redis, bare": lambda: client.zrangebyscore(key, first, HISTORY_EVENTS),
                    "Cassandra, ours": lambda: stored.read_events("lobby", first, LAST),
                    "Cassandra, bare": lambda: _execute(session._session, bound),
                }
                for name, call in sides.items():
                    if [_value(found) for found in await call()] != [encode(event) for event in appended[-LAST:]]:
                        raise Refused(f"{name}: not the last {LAST} events")
                    await repeated(call)
                runs = await bench.interleave(
                    {name: lambda call=call: _timed(bench, calls, repeated(call)) for name, call in sides.items()}
                )
            finally:
                await client.aclose()
                await asyncio.gather(recent.stop(), stored.stop())
    bench.conditions = {"calls": calls, "events": LAST}
    for where, bound_ in (("Redis", 2.0), ("Cassandra", 1.5)):
        bench.figure(
            f"history, last 50 from {where}",
            "ms",
            lambda run: 1e3 / run.per_s,
            runs[f"{where}, ours"],
            runs[f"{where}, bare"],
            reach=Reach(bound_, ratio=True),
        )
        bench.figure(
            f"history, last 50 from {where}: CPU per call",
            "us",
            lambda run: run.values["us"],
            runs[f"{where}, ours"],
            runs[f"{where}, bare"],
            reach=Reach(bound_, ratio=True),
        )


async def _execute(session: Any, bound: Any) -> list[Any]:
    """One call of the driver, as its documentation bridges it to a loop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Any]] = loop.create_future()
    session.execute_async(bound).add_callbacks(
        lambda rows: loop.call_soon_threadsafe(done.set_result, list(rows)),
        lambda error: loop.call_soon_threadsafe(done.set_exception, error),
    )
    return await done
