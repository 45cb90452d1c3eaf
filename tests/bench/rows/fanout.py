"""One room with many subscribers: what a delivery costs the gateway, beside an aiohttp loop that writes the same bytes."""

from __future__ import annotations

from tests.bench.bench import Bench
from tests.bench.figures import Reach
from tests.bench.load import Generator, check_generator
from tests.bench.measure import Run

SUBSCRIBERS = 1_000
PER_S = 100
SECONDS = 5
WRITERS = 8
WINDOW = 100
SATURATED_S = 5


async def _paced(bench: Bench, load: Generator, messages: int, subscribers: int) -> Run:
    meter = bench.meter(load)
    result = await load.do("publish", rooms=["bench"], messages=messages, per_s=PER_S)
    run = meter.stop(messages * subscribers, late_share=result["late_share"])
    check_generator(run, paced=True)
    return run


async def paced(bench: Bench) -> None:
    """1 room x 1,000 subscribers, 100 messages a second: CPU of the gateway per delivery"""
    subscribers, messages = bench.scaled(SUBSCRIBERS, 500), bench.scaled(SECONDS * PER_S, 2 * PER_S)
    async with (
        bench.system("gateway", "sequencer") as system,
        bench.bare_server("fanout") as port,
        bench.generator() as ours,
        bench.generator() as bare,
    ):
        for load, target in ((ours, system.port), (bare, port)):
            await load.do("connect", port=target, rooms=["bench"], each=subscribers)
            await load.do("connect", port=target, rooms=["bench"], each=1, writers=True)
            await load.do("publish", rooms=["bench"], messages=PER_S, per_s=PER_S)
        await bench.settled(system.processes)
        runs = await bench.interleave(
            {
                "ours": lambda: _paced(bench, ours, messages, subscribers),
                "bare": lambda: _paced(bench, bare, messages, subscribers),
            }
        )
    bench.conditions = {"subscribers": subscribers, "messages_per_s": PER_S}
    bench.figure(
        "fan-out, paced: gateway CPU per delivery",
        "us",
        lambda run: run.us("gateway"),
        runs["ours"],
        runs["bare"],
        bare_value=lambda run: run.us("server"),
        reach=Reach(1.5, ratio=True),
    )


async def _saturated(bench: Bench, load: Generator, seconds: float) -> Run:
    meter = bench.meter(load)
    result = await load.do("publish", rooms=["bench"], messages=10_000_000, window=WINDOW, seconds=seconds)
    return meter.stop(result["deliveries"])


async def saturated(bench: Bench) -> None:
    """1 room x 1,000 subscribers, as fast as it goes: deliveries a second, beside a loop with joined writes"""
    async with (
        bench.system("gateway", "sequencer") as system,
        bench.bare_server("fanout", "joined") as port,
        bench.generator() as ours,
        bench.generator() as bare,
    ):
        for load, target in ((ours, system.port), (bare, port)):
            await load.do("connect", port=target, rooms=["bench"], each=SUBSCRIBERS)
            await load.do("connect", port=target, rooms=["bench"], each=WRITERS, writers=True)
        await bench.settled(system.processes)
        runs = await bench.interleave(
            {
                "ours": lambda: _saturated(bench, ours, SATURATED_S),
                "bare": lambda: _saturated(bench, bare, SATURATED_S),
            }
        )
    bench.conditions = {"subscribers": SUBSCRIBERS, "writers": WRITERS, "window": WINDOW}
    bench.figure(
        "fan-out, saturated: deliveries",
        "1/s",
        lambda run: run.per_s,
        runs["ours"],
        runs["bare"],
        reach=Reach(1_000_000, at_most=False),
        smaller_is_better=False,
    )
    bench.figure(
        "fan-out, saturated: gateway CPU per delivery",
        "us",
        lambda run: run.us("gateway"),
        runs["ours"],
        runs["bare"],
        bare_value=lambda run: run.us("server"),
    )
