"""The whole way of a message, all roles and engines at work: how long it takes, how many a second, at whose cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from chat.log.topics import COMMANDS, DEAD_LETTERS
from tests.bench import stages
from tests.bench.bench import PARTITIONS, Bench
from tests.bench.figures import Reach
from tests.bench.load import Generator, Refused, check_generator
from tests.bench.measure import Run
from tests.engines import ROOT, clean_environment

ROLES = ("gateway", "sequencer", "archiver", "projector")
RATES = (100, 1_000)
LATENCY_S = 5
LATENCY_ROOMS = 100

TEN_ROOMS = 100
TEN_WINDOW = 8
DIRECT_ROOMS = 500
DIRECT_WINDOW = 2
SATURATED_S = 8

WARM_STEP_S = 5
WARM_PER_S = 800


class TwoHops:
    """The bare two-hop loop, between two topics of the namespace that nothing else uses at the time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, messages: int, per_s: int) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"messages": messages, "per_s": per_s}).encode() + b"\n")
        return await _line(self._process)


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout
    line = await process.stdout.readline()
    if not line:
        raise Refused("the bare two-hop loop died, see above")
    result: dict[str, Any] = json.loads(line)
    return result


@contextlib.asynccontextmanager
async def two_hops(bench: Bench) -> AsyncIterator[TwoHops]:
    """The bare loop on topics of its own, set as Roomlog's are."""
    async with bench.system() as other:
        settings = other.namespace.settings()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.bench.bare.twohop",
            settings.kafka_servers[0],
            settings.topic(COMMANDS),
            settings.topic(DEAD_LETTERS),
            str(PARTITIONS),
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            bench.started |= {"copier": (await _line(process))["copier"], "producer": (await _line(process))["pid"]}
            yield TwoHops(process)
        finally:
            for name in ("copier", "producer"):
                bench.started.pop(name, None)
            assert process.stdin
            process.stdin.close()
            await process.wait()


def _delays(result: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in result.items() if key.endswith("_ms")}


async def _paced(bench: Bench, load: Generator, rooms: list[str], per_s: int, seconds: int) -> Run:
    meter = bench.meter(load)
    result = await load.do("publish", rooms=rooms, messages=per_s * seconds, per_s=per_s)
    run = meter.stop(per_s * seconds, late_share=result["late_share"], **_delays(result))
    check_generator(run, paced=True)
    return run


async def _bare(bench: Bench, bare: TwoHops, per_s: int, seconds: int) -> Run:
    meter = bench.meter()
    return meter.stop(per_s * seconds, **(await bare.do(per_s * seconds, per_s)))


async def latency(bench: Bench) -> None:
    """Send to deliver, and send to RECEIPT, at 100 and 1,000 messages a second, beside the bare two-hop Kafka loop"""
    seconds = bench.scaled(LATENCY_S, 2)
    rooms = [f"latency-{n}" for n in range(LATENCY_ROOMS)]
    stages_ms: dict[int, dict[str, dict[str, float]]] = {}
    async with bench.system(*ROLES) as system, two_hops(bench) as bare, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=rooms, each=2)
        for per_s in RATES:
            await load.do("publish", rooms=rooms, messages=2 * per_s, per_s=per_s)
            await bare.do(2 * per_s, per_s)
            await bench.settled(system.processes)
            urls = [worker.url for worker in system.workers.values()]
            before = await stages.read(urls)
            runs = await bench.interleave(
                {
                    f"ours at {per_s}/s": lambda per_s=per_s: _paced(bench, load, rooms, per_s, seconds),
                    f"bare at {per_s}/s": lambda per_s=per_s: _bare(bench, bare, per_s, seconds),
                }
            )
            stages_ms[per_s] = stages.quantiles_ms(before, await stages.read(urls))
            ours, loop = runs.values()
            for what, key in (("deliver", "deliver"), ("RECEIPT", "receipt")):
                for q, bound in ((50, 1.5), (99, 2.0)):
                    bench.figure(
                        f"latency, send to {what} at {per_s}/s: p{q}",
                        "ms",
                        lambda run, key=key, q=q: run.values[f"{key}_p{q}_ms"],
                        ours,
                        loop,
                        bare_value=lambda run, q=q: run.values[f"deliver_p{q}_ms"],
                        reach=Reach(bound, ratio=True),
                    )
    bench.conditions = {"rooms": LATENCY_ROOMS, "people_a_room": 2, "partitions": PARTITIONS}
    bench.conditions |= {"stages_ms": stages_ms[RATES[0]], "stages_ms_at_1000": stages_ms[RATES[1]]}


async def _saturated(bench: Bench, load: Generator, rooms: list[str], window: int, seconds: int) -> Run:
    meter = bench.meter(load)
    result = await load.do("publish", rooms=rooms, messages=10_000_000, window=window, seconds=seconds)
    return meter.stop(
        result["messages"],
        deliveries=result["deliveries"] / result["wall_s"],
        **_delays(result),
    )


async def _throughput(bench: Bench, rooms: int, each: int, window: int, *, checked_all: bool) -> tuple[list[Run], int]:
    names = [f"room-{n}" for n in range(rooms)]
    async with bench.system(*ROLES) as system, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=names, each=each, checked_all=checked_all)
        await _saturated(bench, load, names, window, 2)  # Java's compilers are at work in the first seconds

        async def once() -> Run:
            await bench.settled(system.processes)
            return await _saturated(bench, load, names, window, SATURATED_S)

        runs = await bench.interleave({"ours": once})
    bench.conditions = {"rooms": rooms, "people_a_room": each, "window_a_sender": window, "partitions": PARTITIONS}
    return runs["ours"], each


async def warm_up(bench: Bench, seconds: int) -> None:
    """Load for a while: the engines' Java code is compiled while it runs, and is several times slower before."""
    names = [f"room-{n}" for n in range(TEN_ROOMS)]
    async with bench.system(*ROLES) as system, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=names, each=2)
        for _ in range(-(-seconds // WARM_STEP_S)):
            await load.do("publish", rooms=names, messages=WARM_STEP_S * WARM_PER_S, per_s=WARM_PER_S)


async def rooms_of_ten(bench: Bench) -> None:
    """100 rooms x 10, as fast as it goes, everything durable, stored and receipted"""
    runs, _ = await _throughput(bench, TEN_ROOMS, 10, TEN_WINDOW, checked_all=False)
    bench.figure(
        "100 rooms x 10: deliveries",
        "1/s",
        lambda run: run.values["deliveries"],
        runs,
        reach=Reach(30_000, at_most=False),
        smaller_is_better=False,
    )
    bench.figure("100 rooms x 10: CPU of all per message", "us", lambda run: run.us(), runs)
    bench.figure("100 rooms x 10: send to RECEIPT, p50", "ms", lambda run: run.values["receipt_p50_ms"], runs)


async def direct(bench: Bench) -> None:
    """Direct messages over 500 rooms of two, as fast as it goes, sequenced, durable, stored and receipted"""
    runs, _ = await _throughput(bench, DIRECT_ROOMS, 2, DIRECT_WINDOW, checked_all=True)
    bench.figure(
        "direct messages over 500 rooms: messages",
        "1/s",
        lambda run: run.per_s,
        runs,
        reach=Reach(3_000, at_most=False),
        smaller_is_better=False,
    )
    bench.figure("direct messages over 500 rooms: CPU of all per message", "us", lambda run: run.us(), runs)
