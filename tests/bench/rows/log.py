"""The log's own readers: the sequencer that writes it, and a gateway that skims what nobody there watches."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Final

from aiokafka import TopicPartition

from agents.verify import Audit
from chat.log.consumer import reader
from chat.log.producer import Record, append
from chat.log.tail import Tail
from chat.log.taking import START, Position, Take, Taker
from chat.log.topics import EVENTS
from chat.log.walking import Walk
from chat.records import PostMessage, decode_event, encode
from chat.settings import Settings
from tests.bench.bench import PARTITIONS, Bench, System
from tests.bench.figures import Reach
from tests.bench.load import Refused
from tests.bench.measure import Run
from tests.eventlog import EventLog, post
from tests.integration.sequencing import Log
from tests.stored import StoredLog
from web.hub import Hub

ROOMS: Final = 100
PEOPLE: Final = 7
BODY: Final = "x" * 100
COMMANDS: Final = 20_000
PRELOAD_MAX_S: Final = 5.0
"""The sequencer stands still while commands are laid up: less than its session."""
EVENTS_SKIMMED: Final = 100_000
EVENTS_VERIFIED: Final = 1_000_000
APPENDED_AT_ONCE: Final = 10_000


def _command(n: int) -> PostMessage:
    return PostMessage(
        v=1,
        room=f"room-{n % ROOMS}",
        sender=f"user-{n % PEOPLE}",
        nonce="n" * 22,
        client_id=f"id-{n}",
        body=BODY,
        create=True,
    )


async def _lay_up(log: Log, first: int, count: int) -> None:
    """Append commands, as fast as they go."""
    by_partition: dict[int, list[Record]] = defaultdict(list)
    for n in range(first, first + count):
        command = _command(n)
        record = Record(command.room.encode(), encode(command), [("cmd", b"%016d" % n)])
        by_partition[log.partition(command.room)].append(record)
    await asyncio.gather(*(append(log.producer, log.commands, p, records) for p, records in by_partition.items()))


async def _check(log: Log, commands: int) -> None:
    """Refuse when the log does not hold one event for each command, numbered 1, 2, 3 ... in each room."""
    last: dict[str, int] = defaultdict(int)
    for records in (await log.read(log.events)).values():
        taker = Taker()
        for record in records:
            if taker.take(record.offset, record.headers) is Take.EVENT:
                event = decode_event(record.value)
                if event.seq != last[event.room] + 1:
                    raise Refused(f"{event.room}: seq {event.seq} follows {last[event.room]}")
                last[event.room] = event.seq
    if sum(last.values()) != commands:
        raise Refused(f"{commands} commands came to {sum(last.values())} events")


async def sequencer(bench: Bench) -> None:
    """The sequencer with commands that wait: CPU per command, beside a bare consumer, the same rules and a producer"""
    count = bench.scaled(COMMANDS, 10_000)
    laid_up = 0

    async def ours(system: System, log: Log) -> Run:
        nonlocal laid_up
        worker = system.workers["sequencer"]
        ends = sum((await log.ends(log.events)).values())
        worker.pause()
        started = time.monotonic()
        await _lay_up(log, laid_up, count)
        laid_up += count
        if time.monotonic() - started > PRELOAD_MAX_S:
            worker.resume()
            raise Refused("the sequencer stood still for too long to keep its session")
        meter = bench.meter()
        worker.resume()
        while sum((await log.ends(log.events)).values()) < ends + count:
            await asyncio.sleep(0.02)
        return meter.stop(count)

    async def bare(system: System) -> Run:
        meter = bench.meter()
        seconds = await bench.bare_program("sequencer", str(count), environment=system.namespace.environment())
        run = meter.stop(count, us=float(seconds) / count * 1e6)
        # The bare loop is not among those that were there when the meter began.
        return Run(run.done, run.wall_s, run.cpu_s, run.resident_bytes, "", run.values)

    async with bench.system("sequencer") as system, Log(system.namespace.settings()) as log:
        await _lay_up(log, laid_up, count)
        laid_up += count
        await bench.settled(system.processes)
        runs = await bench.interleave({"ours": lambda: ours(system, log), "bare": lambda: bare(system)})
        await _check(log, laid_up)
    bench.conditions = {"commands": count, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure(
        "sequencer, preloaded: CPU per command",
        "us",
        lambda run: run.us("sequencer"),
        runs["ours"],
        runs["bare"],
        bare_value=lambda run: run.values["us"],
        reach=Reach(50),
    )
    bench.figure(
        "sequencer, preloaded: commands",
        "1/s",
        lambda run: run.per_s,
        runs["ours"],
        reach=Reach(5_000, at_most=False),
        smaller_is_better=False,
    )


async def _skim(settings: Settings) -> None:
    """A gateway's tail and hub, from the first record to the last; nobody watches any room."""

    async def positions() -> dict[int, Position]:
        return {}

    nobody: Any = SimpleNamespace(gateway_id=b"\0" * 8)
    hub = Hub(nobody, None, creates_on_first_use=True)  # type: ignore[arg-type]
    tail = Tail(settings, hub, positions=positions, on_health=lambda *_: None)
    task = asyncio.create_task(tail.run())
    await tail.caught_up.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _only_read(settings: Settings, count: int) -> None:
    topic = settings.topic(EVENTS)
    async with reader(settings, [topic]) as consumer:
        tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while count > 0:
            count -= sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))


async def skim(bench: Bench) -> None:
    """Events of rooms that nobody watches: how many a gateway's tail skims per second of CPU, beside only reading them"""
    count = bench.scaled(EVENTS_SKIMMED, 50_000)
    async with bench.system() as system:
        settings = system.namespace.settings()
        async with EventLog(settings) as log:
            for start in range(0, count, APPENDED_AT_ONCE):
                await log.commands(
                    post(f"room-{n % ROOMS}", body=BODY) for n in range(start, min(count, start + APPENDED_AT_ONCE))
                )

        async def side(work: Any) -> Run:
            gc.collect()
            meter = bench.meter()
            before = time.process_time()
            await work
            return meter.stop(count, per_core=count / (time.process_time() - before))

        runs = await bench.interleave(
            {"ours": lambda: side(_skim(settings)), "bare": lambda: side(_only_read(settings, count))}
        )
    bench.conditions = {"events": count, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure(
        "skim: unwatched events per core",
        "1/s of CPU",
        lambda run: run.values["per_core"],
        runs["ours"],
        runs["bare"],
        reach=Reach(100_000, at_most=False),
        smaller_is_better=False,
    )


async def verify(bench: Bench) -> None:
    """`faust -A app verify` of one clean room of a million events, in the log and both stores; beside only reading it"""
    room = "lobby"
    async with bench.system() as system:
        await asyncio.to_thread(system.namespace.make_keyspace)
        async with StoredLog(system.namespace.settings()) as log:
            for start in range(0, EVENTS_VERIFIED, APPENDED_AT_ONCE):
                await log.store(
                    await EventLog.commands(
                        log, (post(room, body=BODY, client_id=f"{n}") for n in range(start, start + APPENDED_AT_ONCE))
                    )
                )
                bench.say(f"{start + APPENDED_AT_ONCE:,} of {EVENTS_VERIFIED:,} events are stored")
            await log.committed()

            async def ours() -> Run:
                audit = Audit(log.settings, room=room)
                meter = bench.meter()
                try:
                    await audit.connect()
                    summary = await audit.run(60)
                finally:
                    await audit.stop()
                if summary.status:
                    raise Refused(f"verify found something: {summary.findings[0]}")
                return meter.stop(summary.events)

            async def bare() -> Run:
                partition, taken = log.partition(room), 0
                meter = bench.meter()
                async for records in Walk(log.settings, partition, START, log.offsets[partition] + 1):
                    taken += len(records)
                return meter.stop(taken)

            runs = await bench.interleave({"ours": ours, "bare": bare})
    bench.conditions = {"events": EVENTS_VERIFIED}
    bench.figure("verify, one room", "events/s", lambda run: run.per_s, *runs.values(), smaller_is_better=False)
    bench.figure("verify, one room: CPU per event", "us", lambda run: run.us("bench"), *runs.values())
