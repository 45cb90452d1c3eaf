"""Half an hour at half load, and half an hour of nothing: what grows, what gets slower, and what has gone to sleep.

Both take `--minutes`. A trial of five minutes shows that the row works; it says little about memory, since a process
that has just started still fills its caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import Any, Final

from tests.bench.bench import Bench
from tests.bench.curve import Curve, drift, slope_after
from tests.bench.figures import Figure, Reach
from tests.bench.load import Generator, Refused
from tests.bench.measure import resident_bytes
from tests.bench.rows.rooms import ROLES

PER_S: Final = 1_500
"""Half of what `direct` has to reach (3,000 messages a second over 500 rooms of two). It reaches twice that and more,
but by batches that only form when everything waits: at half of that an unlucky second becomes a queue, and a soak is
about minutes."""
ROOMS: Final = 500
STEP_S: Final = 15
"""Between two steps the clients of the generator send heart-beats; no step may take much longer (generator.py)."""
STEPS_A_WINDOW: Final = 2
SAMPLE_S: Final = 10.0
WARM_MINUTES: Final = 5.0
"""Caches, pools and Java's compilers fill up: what grows afterwards grows for ever."""
PART_MINUTES: Final = 5.0
"""Of the minutes after the warm ones: so many first ones are compared with so many last ones."""

IDLE_ROOMS: Final = 100
IDLE_PER_S: Final = 100
IDLE_WARM_S: Final = 10
IDLE_STEP_S: Final = 60.0
BEATS: Final = "10000,10000"
BEAT_S: Final = 5.0


def warm_minutes(minutes: float) -> float:
    """Of a run so long, those that count for nothing: five, or half of a trial."""
    return min(WARM_MINUTES, minutes / 2)


async def _sample(pids: dict[str, int], started: float, at: list[float], memory: dict[str, list[float]]) -> None:
    """Memory of each process in MB, at once and then each `SAMPLE_S`."""
    n = 0
    while True:
        at.append((time.monotonic() - started) / 60)
        for name, pid in pids.items():
            memory[name].append(resident_bytes(pid) / 1e6)
        n += 1
        await asyncio.sleep(max(0.0, started + n * SAMPLE_S - time.monotonic()))


async def soak(bench: Bench) -> None:
    """1,500 messages a second over 500 rooms of two for half an hour (--minutes): does memory grow, does delay?

    Expected: flat, both.
    """
    names = [f"soak-{n}" for n in range(ROOMS)]
    windows_at: list[float] = []
    delays: dict[str, list[float]] = {"p50": [], "p99": []}
    sampled_at: list[float] = []
    late: list[float] = []
    async with bench.system(*ROLES) as system, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=names, each=2, checked_all=True)
        memory: dict[str, list[float]] = {name: [] for name in system.processes}
        started = time.monotonic()
        meter = bench.meter(load)
        sampling = asyncio.create_task(_sample(system.processes, started, sampled_at, memory))
        messages = 0
        try:
            while (minute := (time.monotonic() - started) / 60) < bench.minutes:
                steps = [await _step(load, names) for _ in range(STEPS_A_WINDOW)]
                messages += sum(step["messages"] for step in steps)
                late += [step["late_share"] for step in steps]
                windows_at.append(minute)
                # Two steps are one window: the middle of two medians, the worse of two tails.
                delays["p50"].append(statistics.fmean(step["deliver_p50_ms"] for step in steps))
                delays["p99"].append(max(step["deliver_p99_ms"] for step in steps))
                if sampling.done():
                    sampling.result()
                bench.say(f"minute {minute:.1f}: p50 {delays['p50'][-1]:.1f} ms, p99 {delays['p99'][-1]:.1f} ms")
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
        run = meter.stop(messages)
    if run.disturbed:
        bench.say(f"others used the machine: {run.disturbed}")
    bench.costs["ours"] = {name: round(run.us(name), 2) for name in run.cpu_s if not name.startswith("idle-")}
    bench.conditions = {
        "rooms": ROOMS,
        "messages_per_s": PER_S,
        "minutes": bench.minutes,
        "messages": messages,
        "late_share": round(statistics.fmean(late), 4),
        "disturbed": run.disturbed,
    }
    bench.plain_curve(Curve("soak: memory", "minutes", "MB resident", sampled_at, memory))
    bench.plain_curve(Curve("soak: send to deliver", "minutes", "ms", windows_at, delays))
    warm = warm_minutes(bench.minutes)
    disturbed = int(bool(run.disturbed))
    for name in (*system.workers, *system.engines):
        # Java takes what its heap may have, when it likes: engines are shown, and nothing is asked of them.
        bench.figures.append(
            Figure(
                f"soak: memory of {name} after minute {warm:g}",
                "MB/min",
                [slope_after(sampled_at, memory[name], warm)],
                reach=Reach(1) if name in system.workers else None,
                disturbed=disturbed,
            )
        )
    counted = [p50 for at, p50 in zip(windows_at, delays["p50"], strict=True) if at >= warm]
    part = int(PART_MINUTES * 60 / (STEP_S * STEPS_A_WINDOW))
    bench.figures += [
        Figure(
            f"soak: drift of p50 after minute {warm:g}", "%", [drift(counted, part)], [], Reach(20), disturbed=disturbed
        ),
        Figure("soak: send to deliver, p50 of a window", "ms", counted, disturbed=disturbed),
        Figure("soak: send to deliver, p99 of a window", "ms", delays["p99"][-len(counted) :], disturbed=disturbed),
    ]


async def _step(load: Generator, names: list[str]) -> dict[str, Any]:
    return await load.do("publish", rooms=names, messages=PER_S * STEP_S, per_s=PER_S)


async def soak_idle(bench: Bench) -> None:
    """The first message after half an hour of nothing (--minutes), beside the p99 of a warm run before

    Connections to engines that were closed for idleness, caches that ran out, a loop that waits too long: all of it
    would show in the first message. Its clients send heart-beats meanwhile, as clients do.
    """
    names = [f"idle-{n}" for n in range(IDLE_ROOMS)]
    async with bench.system(*ROLES) as system, bench.generator() as load:
        # Of clients that are not checked the generator counts the bytes, in which heart-beats must not stand.
        await load.do("connect", port=system.port, rooms=names, each=2, beats=BEATS, checked_all=True)

        async def warm() -> dict[str, Any]:
            return await load.do("publish", rooms=names, messages=IDLE_PER_S * IDLE_WARM_S, per_s=IDLE_PER_S)

        await warm()
        await bench.settled(system.processes)
        meter = bench.meter(load)
        before = await warm()
        run = meter.stop(before["messages"])
        if run.disturbed:
            bench.say(f"others used the machine in the warm run: {run.disturbed}")
        started = time.monotonic()
        while (left := bench.minutes * 60 - (time.monotonic() - started)) > 0:
            step = await load.do("idle", seconds=min(IDLE_STEP_S, left), beat_s=BEAT_S)
            if step["clients"] != 2 * IDLE_ROOMS:
                raise Refused(f"{2 * IDLE_ROOMS - step['clients']} connections did not live through it")
        meter = bench.meter(load)
        first = await load.do("publish", rooms=names[:1], messages=1, per_s=1)
        after = meter.stop(1)
        others = await load.do("publish", rooms=names[1:], messages=IDLE_ROOMS - 1, per_s=IDLE_PER_S)
    bench.conditions = {
        "rooms": IDLE_ROOMS,
        "idle_minutes": bench.minutes,
        "warm": {key: value for key, value in before.items() if key.endswith("_ms")},
        "first_of_the_other_rooms": {key: value for key, value in others.items() if key.endswith("_ms")},
    }
    disturbed = bool(run.disturbed) + bool(after.disturbed)
    for what, key in (("deliver", "deliver"), ("RECEIPT", "receipt")):
        bench.figures.append(
            Figure(
                f"first message after {bench.minutes:g} idle minutes: send to {what}, beside p99 before",
                "ms",
                [first[f"{key}_max_ms"]],
                [before[f"{key}_p99_ms"]],
                Reach(2, ratio=True),
                disturbed=disturbed,
            )
        )
