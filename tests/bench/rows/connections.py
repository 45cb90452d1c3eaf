"""What a connection costs: to open, to keep, to lose and to have back; and what its frames cost to read."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal

from tests.bench.bench import Bench, System
from tests.bench.figures import Reach
from tests.bench.load import Generator, check_generator
from tests.bench.measure import Run, resident_bytes

CONNECTS = 2_000
MEMORY_CONNECTIONS = 5_000
IDLE_CONNECTIONS = 10_000
IDLE_S = 12
BEATS = "10000,10000"
BEAT_S = 10
RESTART_CONNECTIONS = 10_000

SLOW_ROOM = 100
STUCK = 6
TIMED = 10
SLOW_PER_S = 100
SLOW_BODY = 8_192
"""Large enough that what the stuck ones do not read fills their sockets within the run."""
SLOW_S = 8

_run_names = itertools.count(1)


def _rooms(count: int) -> list[str]:
    """Names that no run before has used."""
    run = next(_run_names)
    return [f"connect-{run}-{n}" for n in range(count)]


# ---------------------------------------------------------------- connects


async def _connects(bench: Bench, load: Generator, port: int, rooms: int) -> Run:
    names = _rooms(rooms)
    meter = bench.meter(load)
    result = await load.do("connect", port=port, rooms=names, each=CONNECTS // rooms)
    run = meter.stop(
        result["count"],
        p50_ms=result["connect_p50_ms"],
        p99_ms=result["connect_p99_ms"],
        per_s=result["count"] / result["wall_s"],
    )
    await load.do("drop")
    return run


async def connects(bench: Bench) -> None:
    """CONNECT + SUBSCRIBE + RECEIPT a second: 100 rooms, 1 room, a room each; beside a minimal aiohttp server"""
    async with (
        bench.system("gateway", "sequencer") as system,
        bench.bare_server("fanout") as port,
        bench.generator() as load,
    ):
        await _connects(bench, load, system.port, 100)
        for rooms, name in ((100, "100 rooms"), (1, "1 room"), (CONNECTS, "a room each")):
            runs = await bench.interleave(
                {
                    f"ours, {name}": lambda rooms=rooms: _connects(bench, load, system.port, rooms),
                    f"bare, {name}": lambda rooms=rooms: _connects(bench, load, port, rooms),
                }
            )
            ours, bare = runs.values()
            bench.figure(
                f"connects, {name}",
                "1/s",
                lambda run: run.values["per_s"],
                ours,
                bare,
                reach=Reach(2_000, at_most=False) if rooms == 100 else None,
                smaller_is_better=False,
            )
            bench.figure(
                f"connects, {name}: gateway CPU per connect",
                "us",
                lambda run: run.us("gateway"),
                ours,
                bare,
                bare_value=lambda run: run.us("server"),
            )
    bench.conditions = {"connections": CONNECTS, "opening_at_once": 256}


# ---------------------------------------------------------------- memory


async def memory(bench: Bench) -> None:
    """Memory of a subscribed connection: growth of the gateway over 5,000 of them, beside a minimal aiohttp server"""
    rooms = 100

    async def once(kind: str) -> Run:
        # A process of its own each time: what has been freed once is not asked for again.
        async with bench.generator() as load:
            if kind == "ours":
                async with bench.system("gateway", "sequencer") as system:
                    return await grown(load, system.port, "gateway")
            async with bench.bare_server("fanout") as port:
                return await grown(load, port, "server")

    async def grown(load: Generator, port: int, process: str) -> Run:
        names = _rooms(rooms)
        await load.do("connect", port=port, rooms=names, each=1)
        pid = bench.started[process]
        before = resident_bytes(pid)
        meter = bench.meter(load)
        await load.do("connect", port=port, rooms=names, each=MEMORY_CONNECTIONS // rooms)
        await load.do("publish", rooms=names, messages=rooms, per_s=rooms)
        return meter.stop(MEMORY_CONNECTIONS, bytes=(resident_bytes(pid) - before) / MEMORY_CONNECTIONS)

    runs = await bench.interleave({"ours": lambda: once("ours"), "bare": lambda: once("bare")})
    bench.conditions = {"connections": MEMORY_CONNECTIONS, "rooms": rooms}
    bench.figure(
        "memory of a subscribed connection",
        "KB",
        lambda run: run.values["bytes"] / 1000,
        runs["ours"],
        runs["bare"],
        reach=Reach(25),
    )


# ---------------------------------------------------------------- idle


async def idle(bench: Bench) -> None:
    """10,000 idle connections with heart-beats each 10 s, both ways: share of a core that the gateway uses"""
    async with bench.system("gateway", "sequencer") as system, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=_rooms(100), each=IDLE_CONNECTIONS // 100, beats=BEATS)
        await load.do("idle", seconds=BEAT_S, beat_s=BEAT_S)

        async def once() -> Run:
            meter = bench.meter(load)
            result = await load.do("idle", seconds=IDLE_S, beat_s=BEAT_S)
            return meter.stop(result["beats"])

        runs = (await bench.interleave({"ours": once}))["ours"]
    bench.conditions = {"connections": IDLE_CONNECTIONS, "heart_beat": BEATS}
    bench.figure("10,000 idle connections", "% of a core", lambda run: 100 * run.core("gateway"), runs, reach=Reach(10))
    bench.figure("idle: gateway CPU per beat there and back", "us", lambda run: run.us("gateway"), runs)


# ---------------------------------------------------------------- a restart


async def restart(bench: Bench) -> None:
    """A gateway with 10,000 clients is killed and started again: until all are back, with no delay of their own"""

    async def once() -> Run:
        async with bench.system("gateway", "sequencer") as system, bench.generator() as load:
            names = _rooms(100)
            await load.do("connect", port=system.port, rooms=names, each=RESTART_CONNECTIONS // 100)
            gateway = system.workers["gateway"]
            gateway.kill9()
            await load.do("gone")
            gateway.spawn()
            bench.started["gateway"] = gateway.pid
            meter = bench.meter(load)
            result = await load.do(
                "connect", port=system.port, rooms=names, each=RESTART_CONNECTIONS // 100, retry=True
            )
            return meter.stop(result["count"], back_s=result["wall_s"], refused=result["retries"])

    runs = (await bench.interleave({"ours": once}))["ours"]
    bench.conditions = {"connections": RESTART_CONNECTIONS, "rooms": 100}
    bench.figure("restart: 10,000 clients are back after", "s", lambda run: run.values["back_s"], runs, reach=Reach(6))


# ---------------------------------------------------------------- slow readers


async def slow_readers(bench: Bench) -> None:
    """6 of 100 subscribers stop reading: delay of the others, beside the same room with nobody stuck"""

    async def once(system: System, *, stuck: int) -> Run:
        async with bench.generator() as load:
            names = _rooms(1)
            await load.do("connect", port=system.port, rooms=names, each=TIMED, checked_all=True)
            await load.do("connect", port=system.port, rooms=names, each=SLOW_ROOM - TIMED - stuck)
            async with bench.generator() as others:
                if stuck:
                    await others.do("connect", port=system.port, rooms=names, each=stuck)
                    # A process that stands still reads nothing, and its sockets stay open.
                    _stand_still(others)
                meter = bench.meter(load)
                result = await load.do(
                    "publish", rooms=names, messages=SLOW_PER_S * SLOW_S, per_s=SLOW_PER_S, body=SLOW_BODY
                )
                run = meter.stop(
                    result["deliveries"],
                    late_share=result["late_share"],
                    p50_ms=result["deliver_p50_ms"],
                    p99_ms=result["deliver_p99_ms"],
                )
                check_generator(run, paced=True)
                return run

    async with bench.system("gateway", "sequencer") as system:
        await once(system, stuck=0)
        runs = await bench.interleave(
            {"stuck": lambda: once(system, stuck=STUCK), "none": lambda: once(system, stuck=0)}
        )
    bench.conditions = {"subscribers": SLOW_ROOM, "stuck": STUCK, "messages_per_s": SLOW_PER_S, "body_bytes": SLOW_BODY}
    for q, bound in ((50, 1.2), (99, 2.0)):
        bench.figure(
            f"6 of 100 stop reading: delay of the others, p{q}",
            "ms",
            lambda run, q=q: run.values[f"p{q}_ms"],
            runs["stuck"],
            runs["none"],
            reach=Reach(bound, ratio=True),
        )


def _stand_still(load: Generator) -> None:
    """Have a generator stand still; it is killed at its end all the same."""
    os.kill(load.pid, signal.SIGSTOP)


# ---------------------------------------------------------------- catching up

MISSED = 10_000
LIVE_PER_S = 100
LIVE_ROOMS = 20


async def catch_up(bench: Bench) -> None:
    """A client catches up with 10,000 missed messages: messages a second, and the delay of others meanwhile"""
    missed = "missed"
    live = [f"live-{n}" for n in range(LIVE_ROOMS)]
    async with (
        bench.system("gateway", "sequencer", "archiver", "projector") as system,
        bench.generator() as writers,
        bench.generator() as others,
        bench.generator() as late,
    ):
        await writers.do("connect", port=system.port, rooms=[missed], each=8, writers=True)
        await writers.do("publish", rooms=[missed], messages=MISSED, window=100)
        await others.do("connect", port=system.port, rooms=live, each=2)
        await others.do("publish", rooms=live, messages=3 * LIVE_PER_S, per_s=LIVE_PER_S)
        await bench.settled(system.processes)

        async def once() -> Run:
            meter = bench.meter(late)
            await late.do("connect", port=system.port, rooms=[missed], each=1, subscribe="x-from-seq:1\n")
            await late.do("expect", messages=MISSED)
            run = meter.stop(MISSED)
            await late.do("drop")
            return run

        async def others_live() -> Run:
            meter = bench.meter(others)
            result = await others.do("publish", rooms=live, messages=3 * LIVE_PER_S, per_s=LIVE_PER_S)
            return meter.stop(result["messages"], p50_ms=result["deliver_p50_ms"])

        async def meanwhile() -> Run:
            ended = asyncio.Event()

            async def again_and_again() -> None:
                while not ended.is_set():
                    await once()

            catching = asyncio.create_task(again_and_again())
            try:
                return await others_live()
            finally:
                ended.set()
                await catching

        runs = await bench.interleave({"catch-up": once, "live": others_live, "live meanwhile": meanwhile})
    bench.conditions = {"missed": MISSED, "live_messages_per_s": LIVE_PER_S}
    bench.figure(
        "catch-up of 10,000 missed messages",
        "1/s",
        lambda run: run.per_s,
        runs["catch-up"],
        reach=Reach(20_000, at_most=False),
        smaller_is_better=False,
    )
    bench.figure("catch-up: gateway CPU per message", "us", lambda run: run.us("gateway"), runs["catch-up"])
    bench.figure(
        "catch-up: delay of others meanwhile, p50",
        "ms",
        lambda run: run.values["p50_ms"],
        runs["live meanwhile"],
        runs["live"],
        reach=Reach(2.0, ratio=True),
    )
