"""Drives the load generator (tests/bench/generator.py), a process of its own, and refuses what it says went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.bench.measure import Run
from tests.engines import ROOT

BUSY_MAX: Final = 0.9
"""A generator that used more of its core than this may itself have been what limited the run."""
LATE_MAX: Final = 0.03
"""One that sent more than this share of its messages 20 ms late did not offer the rate that was asked for."""
FILES: Final = 40_000
"""Sockets of one process."""
LINE_BYTES_MAX: Final = 16_777_216


class Refused(Exception):
    """A figure is not reported, and this is why: the generator was the limit, messages were lost, the machine busy."""


class Busy(Refused):
    """The machine was busy with something else: nothing is wrong but the moment."""


class Generator:
    """One process of the load generator."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def do(self, step: str, **arguments: Any) -> dict[str, Any]:
        """One step, see generator.py.

        Raises:
            Refused: the server lost, repeated or reordered something, or did not answer.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": step, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise Refused("the load generator died, see above")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise Refused(result["error"])
        return result


@contextlib.asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    """A load generator for the body of the `with`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.generator",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    try:
        yield Generator(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def allow_files() -> None:
    """Let this process and those that it starts open sockets enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_generator(run: Run, *, paced: bool) -> None:
    """Refuse a run whose limit may have been the generator; `Busy` when others kept it from its work.

    `paced`: at a given rate, which it has to keep; else as fast as goes, where it must not be what was full.
    """
    if run.disturbed and (run.core("generator") > BUSY_MAX or run.values.get("late_share", 0.0) > LATE_MAX):
        raise Busy(f"the machine was busy, and the load generator did not get its share: {run.disturbed}")
    busy = run.core("generator")
    if busy > BUSY_MAX:
        raise Refused(f"the load generator was the limit: it used {busy:.0%} of a core")
    late = run.values.get("late_share", 0.0)
    if paced and late > LATE_MAX:
        raise Refused(f"the load generator did not keep its rate: it sent {late:.0%} of the messages late")
