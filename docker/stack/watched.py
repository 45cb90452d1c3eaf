"""One process that is kept alive: started, started again at once when it ends, stopped when told.

The child's end is learned from the kernel (asyncio waits for the process), not by polling, so the gap between a death
and the next start is a few milliseconds. A process that cannot live is not started in a busy loop: after
`FREE_RESTARTS` short lives in a row each further start waits, twice as long each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError
from stack.layout import ROOT, Layout, write_whole
from stack.probes import Probe
from stack.processes import MARK, mark
from stack.standby import Standby

SHORT_LIFE_S = 5.0
FREE_RESTARTS = 5
"""Restarts without a pause: somebody may kill a process several times to see what happens."""
START_ATTEMPTS = 2
"""Deaths before a process was ready for the first time, after which the start of the stack fails."""
PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 10.0
PROBE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Service:
    """How one process is started, known to be ready, and stopped."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Added to the supervisor's own."""
    probe: Probe
    address: str
    """Where it answers, for people."""
    ready_within_s: float
    stop_within_s: float
    """From SIGTERM to SIGKILL."""
    cwd: Path = ROOT
    stands_by: bool = False
    """Whether a stand-by may take its place after a death (a command of `faust`)."""


class Watched:
    """A service and its present process."""

    def __init__(
        self, service: Service, layout: Layout, tell: Callable[[str, str], None], standby: Standby | None = None
    ) -> None:
        self.service = service
        self.pid: int | None = None
        self.restarts = 0
        self.was_ready = False
        self._layout = layout
        self._tell = tell
        self._standby = standby if service.stands_by else None
        self._stopping = asyncio.Event()
        self._short_lives = 0
        self._keeper = asyncio.create_task(self._keep())

    async def ready(self) -> None:
        """Return when the service answers. `StackError` when it dies at its start or takes too long."""
        service = self.service
        deadline = time.monotonic() + service.ready_within_s
        while not await service.probe():
            if self.restarts >= START_ATTEMPTS and not self.was_ready:
                raise StackError(f"{service.name} does not start; end of {self._log}:\n{self._last_lines}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"{service.name} is not ready after {service.ready_within_s:.0f} s; "
                    f"end of {self._log}:\n{self._last_lines}"
                )
            if self._keeper.done():
                await self._keeper  # raises what ended it
                raise StackError(f"{service.name} was stopped while it started")
            await asyncio.sleep(PROBE_EVERY_S)
        self.was_ready = True

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the service's time; return when the process is gone and its pid file too."""
        self._stopping.set()
        with contextlib.suppress(StackError):
            await self._keeper

    def kill(self) -> None:
        """End the process now; `stop` must have been called."""
        if self.pid is not None:
            _signal(self.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        pid_file = self._layout.pid(self.service.name)
        try:
            while not self._stopping.is_set():
                process = await self._spawn()
                began = time.monotonic()
                self.pid = process.pid
                write_whole(pid_file, f"{process.pid}\n")
                if self.restarts:
                    self._tell(self.service.name, f"started again as process {process.pid}")
                ended = asyncio.create_task(process.wait())
                stopping = asyncio.create_task(self._stopping.wait())
                await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if self._stopping.is_set():
                    await self._end(process, ended)
                    return
                self.pid = None
                await self._after_death(ended.result(), time.monotonic() - began)
        finally:
            self.pid = None
            pid_file.unlink(missing_ok=True)

    async def _spawn(self) -> asyncio.subprocess.Process:
        service = self.service
        self._layout.rotate(service.name)
        own = self._layout.overrides(service.name)
        environment = {**os.environ, **service.env, **own, MARK: mark(self._layout.data, service.name)}
        # The loader reads LD_PRELOAD when a program begins, which a process in reserve did long ago.
        if self.restarts and self._standby is not None and "LD_PRELOAD" not in own:
            process = await self._standby.become(service.argv, environment, self._layout.log(service.name), service.cwd)
            if process is not None:
                return process
        with self._layout.log(service.name).open("ab") as log:
            try:
                # A session of its own: Ctrl-C in our terminal is for us, who stop the children in order.
                return await asyncio.create_subprocess_exec(
                    *service.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=service.cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{service.name}: cannot run {service.argv[0]} ({error.strerror})") from None

    async def _after_death(self, status: int, life_s: float) -> None:
        self._short_lives = self._short_lives + 1 if life_s < SHORT_LIFE_S else 0
        self.restarts += 1
        how = f"killed by signal {-status}" if status < 0 else f"status {status}"
        pause_s = 0.0
        if self._short_lives > FREE_RESTARTS:
            pause_s = min(PAUSE_MIN_S * 2 ** (self._short_lives - FREE_RESTARTS - 1), PAUSE_MAX_S)
        again = f", again in {pause_s:.1f} s; see {self._log}" if pause_s else ""
        self._tell(self.service.name, f"ended ({how}) after {life_s:.1f} s{again}")
        if pause_s:
            self._layout.pid(self.service.name).unlink(missing_ok=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        _signal(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(ended), self.service.stop_within_s)
        except TimeoutError:
            self._tell(self.service.name, f"did not stop within {self.service.stop_within_s:.0f} s: killed")
            _signal(process.pid, signal.SIGKILL)
            await ended

    @property
    def _log(self) -> Path:
        return self._layout.log(self.service.name)

    @property
    def _last_lines(self) -> str:
        return self._layout.last_lines(self.service.name)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
