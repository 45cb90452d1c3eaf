"""The log's own readers: the sequencer that writes it, and a gateway that skims what nobody there watches."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import defaultdict
from dataclasses import replace
from typing import Final

from agents.verify import Audit
from chat.log.producer import Record, append
from chat.log.taking import START, Take, Taker
from chat.log.walking import Walk
from chat.records import H_CMD, Command, Event, PostMessage, decode_event, encode
from tests.bench.bench import PARTITIONS, Bench, System
from tests.bench.figures import Reach
from tests.bench.load import Refused
from tests.bench.measure import Run
from tests.eventlog import EventLog, post
from tests.integration.sequencing import Log
from tests.stored import StoredLog

ROOMS: Final = 100
PEOPLE: Final = 7
BODY: Final = "x" * 100
COMMANDS: Final = 20_000
PRELOAD_MAX_S: Final = 5.0
"""The sequencer stands still while commands are laid up: less than its session."""
ANSWERED_WITHIN_S: Final = 60.0
TRICKLE_PER_S: Final = 20
TRICKLE_S: Final = 6
LATE_MAX: Final = 1.05
"""A paced load that took longer than this times what it should was not offered at its rate."""
EVENTS_SKIMMED: Final = 200_000
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


async def _ahead(log: Log) -> int:
    """Records that the event log holds beyond one for each command; while all are answered, these are the fences.

    The sequencer's own ticks are commands too, and are answered. The events' ends are read first: never too many.
    """
    events = sum((await log.ends(log.events)).values())
    return events - sum((await log.ends(log.commands)).values())


async def _until_answered(log: Log, fences: int) -> None:
    """Wait until every command has its record; `fences`: what `_ahead` was when all had."""
    deadline = time.monotonic() + ANSWERED_WITHIN_S
    while (ahead := await _ahead(log)) < fences:
        if time.monotonic() > deadline:
            raise Refused(f"{fences - ahead} commands were not answered within {ANSWERED_WITHIN_S:.0f} s")
        await asyncio.sleep(0.02)


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


def _ended_s() -> float:
    """CPU of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def program(bench: Bench, system: System, name: str, *arguments: str) -> Run:
    """A run of a program of tests/bench/bare that prints its CPU seconds, any more figures, and how much it did.

    `us` is its CPU per unit of that; what it printed between stands in `printed_1` and so on.
    """
    meter, before = bench.meter(), _ended_s()
    printed = await bench.bare_program(name, *arguments, environment=system.namespace.environment())
    meter.ended(_ended_s() - before)
    cpu_s, *more, done = map(float, printed.split())
    return meter.stop(int(done), us=cpu_s / done * 1e6, **{f"printed_{n}": figure for n, figure in enumerate(more, 1)})


async def sequencer(bench: Bench) -> None:
    """The sequencer with commands that wait: CPU per command, beside a bare consumer, the same rules and a producer"""
    count = bench.scaled(COMMANDS, 10_000)
    laid_up = 0

    async def ours(system: System, log: Log) -> Run:
        nonlocal laid_up
        worker = system.workers["sequencer"]
        worker.pause()
        started = time.monotonic()
        await _lay_up(log, laid_up, count)
        laid_up += count
        if time.monotonic() - started > PRELOAD_MAX_S:
            worker.resume()
            raise Refused("the sequencer stood still for too long to keep its session")
        meter = bench.meter()
        worker.resume()
        await _until_answered(log, fences)
        return meter.stop(count)

    async def bare(system: System) -> Run:
        return await program(bench, system, "sequencer", str(count))

    async with bench.system("sequencer") as system, Log(system.namespace.settings()) as log:
        fences = await _ahead(log)
        await _lay_up(log, laid_up, count)
        laid_up += count
        await _until_answered(log, fences)
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


async def trickle(bench: Bench) -> None:
    """The sequencer with 20 commands a second: CPU per command; and what it uses while nothing comes"""
    count = TRICKLE_PER_S * TRICKLE_S
    sent = 0

    async def idle(system: System) -> Run:
        meter = bench.meter()
        await asyncio.sleep(TRICKLE_S)
        run = meter.stop(1)
        return replace(run, values={"share": run.core("sequencer") * 100})

    async def paced(log: Log) -> Run:
        nonlocal sent
        meter = bench.meter()
        started = time.monotonic()
        for n in range(count):
            await asyncio.sleep(max(0.0, started + n / TRICKLE_PER_S - time.monotonic()))
            await _lay_up(log, sent, 1)
            sent += 1
        took_s = time.monotonic() - started
        if took_s > TRICKLE_S * LATE_MAX:
            raise Refused(f"{count} commands took {took_s:.1f} s: not {TRICKLE_PER_S} a second")
        await _until_answered(log, fences)
        return meter.stop(count)

    async with bench.system("sequencer") as system, Log(system.namespace.settings()) as log:
        fences = await _ahead(log)
        await _lay_up(log, sent, COMMANDS)
        sent += COMMANDS
        await _until_answered(log, fences)
        await bench.settled(system.processes)
        # Not by turns: what a trickle leaves to do (snapshots, a tick) would be counted as idleness.
        silent = await bench.interleave({"idle": lambda: idle(system)})
        runs = await bench.interleave({"trickle": lambda: paced(log)})
        await _check(log, sent)
    bench.conditions = {"commands_per_s": TRICKLE_PER_S, "seconds": TRICKLE_S, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure(
        f"sequencer, {TRICKLE_PER_S} commands a second: CPU per command",
        "us",
        lambda run: run.us("sequencer"),
        runs["trickle"],
    )
    bench.figure("sequencer, idle", "% of a core", lambda run: run.values["share"], silent["idle"])


class FullLog(EventLog):
    """An event log with every header that the sequencer's records have: readers pay for each."""

    def decide(self, command: Command) -> tuple[int, Record, Event]:
        """The next record of the command's partition; it must be appended."""
        partition, record, event = super().decide(command)
        return partition, record._replace(headers=[*record.headers, (H_CMD, b"%016d" % self.at)]), event


async def skim(bench: Bench) -> None:
    """Events of rooms that nobody watches: how many a gateway's tail skims per second of CPU, beside only reading them"""
    count = bench.scaled(EVENTS_SKIMMED, 100_000)

    async def side(system: System, *how: str) -> Run:
        return await program(bench, system, "skim", str(count), *how)

    async with bench.system() as system:
        async with FullLog(system.namespace.settings()) as log:
            for start in range(0, count, APPENDED_AT_ONCE):
                await log.commands(
                    post(f"room-{n % ROOMS}", body=BODY) for n in range(start, min(count, start + APPENDED_AT_ONCE))
                )
        runs = await bench.interleave({"ours": lambda: side(system, "gateway"), "bare": lambda: side(system)})
    for run in (*runs["ours"], *runs["bare"]):
        if run.done != count:
            raise Refused(f"{run.done} events were read of {count}")
    bench.conditions = {"events": count, "rooms": ROOMS, "partitions": PARTITIONS}
    bench.figure(
        "skim: unwatched events per core",
        "1/s of CPU",
        lambda run: 1e6 / run.values["us"],
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
