"""What a row of the benchmark is given: engines, workers, the generator, and a way to repeat and to report.

A row measures ours and its bare loop by turns, so that whatever else happens on the machine happens to both. A run that
was disturbed is marked and, while the patience lasts, repeated; a row of which most runs were disturbed is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.curve import Curve, Shape
from tests.bench.figures import Figure, Reach
from tests.bench.load import Busy, Generator, Refused, generator
from tests.bench.measure import Meter, Run
from tests.engines import ROOT, Engines, Namespace, Worker, Workers, clean_environment, eventually, free_ports

PARTITIONS: Final = 16
"""As in development."""
SETTLED_CORE: Final = 0.25
SETTLED_WITHIN_S: Final = 20.0
"""Before a run: until the processes do nothing any more (compilers of Java, archivers that catch up), at most so long."""
EXTRA_RUNS: Final = 3
"""Disturbed runs of a side are repeated at most so often."""

MINUTES: Final = 30.0
POINTS_SAID: Final = 8
"""Of a curve, in the terminal; all are in the JSON."""

Side = Callable[[], Awaitable[Run]]


@dataclass
class System:
    """Roomlog's workers for one row."""

    workers: dict[str, Worker]
    namespace: Namespace
    engines: Mapping[str, int]

    @property
    def processes(self) -> dict[str, int]:
        """Name -> pid of workers and engines."""
        return {name: worker.pid for name, worker in self.workers.items()} | dict(self.engines)

    @property
    def port(self) -> int:
        """Where the gateway serves."""
        return self.workers["gateway"].port


@dataclass
class Bench:
    """The context of one row."""

    engines: Engines
    quick: bool
    repetitions: int
    say: Callable[[str], None]
    minutes: float = MINUTES
    """How long a soak lasts."""
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """By side, microseconds of CPU per unit of every process."""

    started: dict[str, int] = field(default_factory=dict)
    """Name -> pid of all that runs for this row: what they use is nobody else's disturbance."""

    def meter(self, load: Generator | None = None) -> Meter:
        """Begin to measure all that runs for this row."""
        named = {
            name: pid for name, pid in (self.engine_pids() | self.started).items() if load is None or pid != load.pid
        }
        return Meter(named if load is None else {**named, "generator": load.pid})

    def scaled(self, full: int, quick: int) -> int:
        """How much to do in this mode."""
        return quick if self.quick else full

    # ------------------------------------------------------------ what is measured

    @contextlib.asynccontextmanager
    async def system(
        self, *roles: str, count: Mapping[str, int] | None = None, **changed: Any
    ) -> AsyncIterator[System]:
        """Workers of `roles` in a namespace of their own, ready; `changed` are settings by name."""
        data = Path(tempfile.mkdtemp(prefix="roomlog-bench-"))
        partitions = changed.pop("partitions", PARTITIONS)
        namespace = Namespace(self.engines, f"b{os.getpid()}-{next(_namespaces)}", data, partitions)
        await asyncio.to_thread(namespace.make_topics)
        workers = Workers(namespace)
        changed = {"connects_per_s": 1_000_000, "connections_max": 50_000, "log_level": "warning"} | changed
        names = [role for role in roles for _ in range((count or {}).get(role, 1))]
        try:
            made = await workers.together(*names, **changed)
            system = System({worker.name: worker for worker in made}, namespace, self.engine_pids())
            self.started |= system.processes
            yield system
        finally:
            workers.kill()
            for worker in workers.all:
                self.started.pop(worker.name, None)
            await asyncio.to_thread(namespace.drop)
            shutil.rmtree(data, ignore_errors=True)

    def engine_pids(self) -> dict[str, int]:
        """Name -> pid of the engines, where they are ours."""
        stack = self.engines.stack
        return {} if stack is None else {name: stack.pid(name) for name in ("kafka", "cassandra", "redis")}

    @contextlib.asynccontextmanager
    async def bare_server(self, name: str, *arguments: str) -> AsyncIterator[int]:
        """A program of tests/bench/bare that serves on a port; its process is `server`."""
        port = free_ports()
        program = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.bare.{name}", str(port), *arguments], cwd=ROOT, env=clean_environment()
        )
        try:
            await eventually(lambda: asyncio.to_thread(_answers, port), f"the bare loop {name}")
            self.started["server"] = program.pid
            yield port
        finally:
            self.started.pop("server", None)
            program.kill()
            program.wait()

    async def bare_program(self, name: str, *arguments: str, environment: Mapping[str, str]) -> str:
        """Run a program of tests/bench/bare to its end; gives what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"tests.bench.bare.{name}",
            *arguments,
            cwd=ROOT,
            env={**clean_environment(), **environment},
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise Refused(f"the bare loop {name} failed")
        return out.decode()

    @contextlib.asynccontextmanager
    async def generator(self) -> AsyncIterator[Generator]:
        """A load generator for the body of the `with`."""
        async with generator() as load:
            name = f"idle-generator-{load.pid}"
            self.started[name] = load.pid
            try:
                yield load
            finally:
                del self.started[name]

    # ------------------------------------------------------------ repeating

    async def interleave(self, sides: Mapping[str, Side]) -> dict[str, list[Run]]:
        """Every side by turns, `repetitions` times; disturbed runs are repeated at the end."""
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        extra = dict.fromkeys(sides, 0)
        for n in range(self.repetitions + EXTRA_RUNS):
            for name, side in sides.items():
                good = sum(not run.disturbed for run in runs[name])
                if good >= self.repetitions or (n >= self.repetitions and extra[name] >= EXTRA_RUNS):
                    continue
                extra[name] += n >= self.repetitions
                started = time.monotonic()
                run = await side()
                runs[name].append(run)
                note = f"  ({run.disturbed})" if run.disturbed else ""
                self.say(f"{name} {n + 1}/{self.repetitions}: {time.monotonic() - started:.1f} s{note}")
        for name, of_side in runs.items():
            good_runs = [run for run in of_side if not run.disturbed]
            if len(good_runs) * 2 < self.repetitions:
                raise Busy(f"the machine was busy: {name}: {of_side[-1].disturbed}")
            # The good ones count; a disturbed one only fills up what is missing.
            runs[name] = (good_runs + [run for run in of_side if run.disturbed])[: self.repetitions]
            lasting = set.intersection(*(set(run.cpu_s) for run in of_side))
            self.costs[name] = {
                process: round(statistics.median(run.cpu_s[process] / max(1, run.done) * 1e6 for run in of_side), 2)
                for process in of_side[0].cpu_s
                if process in lasting and not process.startswith("idle-")
            }
        return runs

    def figure(
        self,
        name: str,
        unit: str,
        value: Callable[[Run], float],
        ours: Sequence[Run],
        bare: Sequence[Run] = (),
        *,
        bare_value: Callable[[Run], float] | None = None,
        reach: Reach | None = None,
        smaller_is_better: bool = True,
    ) -> None:
        """Report `value` of each run."""
        self.figures.append(
            Figure(
                name,
                unit,
                [value(run) for run in ours],
                [(bare_value or value)(run) for run in bare],
                reach,
                smaller_is_better,
                sum(bool(run.disturbed) for run in (*ours, *bare)),
            )
        )

    def curve(
        self,
        name: str,
        x_label: str,
        y_label: str,
        points: Mapping[float, Sequence[Run]],
        series: Mapping[str, Callable[[Run], float]],
        *,
        shape: Shape,
    ) -> None:
        """Report how the medians of `series` grow over the runs of each x, and say so when they leave the expected
        `shape` at the end."""
        ys = {what: [[value(run) for run in runs] for runs in points.values()] for what, value in series.items()}
        self.plain_curve(
            Curve(
                name,
                x_label,
                y_label,
                list(points),
                {what: [statistics.median(values) for values in all_values] for what, all_values in ys.items()},
                {what: [(min(values), max(values)) for values in all_values] for what, all_values in ys.items()},
                shape,
            )
        )

    def plain_curve(self, curve: Curve) -> None:
        """Report a curve whose points are no runs."""
        self.curves.append(curve)
        for what, ys in curve.series.items():
            points = ", ".join(f"{y:,.4g} at {x:,.4g}" for x, y in zip(curve.xs[:POINTS_SAID], ys, strict=False))
            self.say(f"{curve.name}, {what}: {points}{' ...' if len(ys) > POINTS_SAID else ''}")
        for text in curve.superlinear():
            self.say(text)

    async def settled(self, processes: Mapping[str, int]) -> None:
        """Wait until `processes` do next to nothing, so that what they still owe is not counted."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while time.monotonic() < deadline:
            meter = Meter(processes)
            await asyncio.sleep(0.3)
            run = meter.stop(1)
            if sum(run.cpu_s[name] for name in processes) / run.wall_s < SETTLED_CORE:
                return


_namespaces = iter(range(1, 1_000_000))


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
