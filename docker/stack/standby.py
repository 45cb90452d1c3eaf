"""Processes in reserve: everything imported, told only when a worker dies which one they are.

Importing Faust, aiohttp and the drivers is more than half of what a worker's start costs, and while a sequencer starts
its rooms are silent. A stand-by is a child like any other; when the supervisor goes, it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.layout import ROOT, Layout
from stack.processes import MARK, mark

PROGRAM = Path(__file__).with_name("standby_process.py")
NAME = "standby"
RESERVE = 2
"""The second is for the worker that dies while the first's successor still imports."""
AGAIN_S = 3.0
"""After one was used the next is started so much later: importing would take the core from the worker that starts."""


class Standby:
    """The stack's processes in reserve."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._processes: list[asyncio.subprocess.Process] = []
        """The one that has been there longest first."""
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the next one; None when there is none."""
        return self._processes[0].pid if self._processes else None

    def prepare(self, after_s: float = 0.0) -> None:
        """Have `RESERVE` of them in a while; harmless to repeat."""
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start(after_s))

    async def become(
        self, argv: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path
    ) -> asyncio.subprocess.Process | None:
        """Have it be `argv` with the environment `env`, as if that had just been started; None when there is none.

        `argv` is a command of the console script `faust`.
        """
        self.prepare(AGAIN_S)
        order = {"argv": list(argv), "env": dict(env), "log": str(log), "cwd": str(cwd)}
        while self._processes:
            process = self._processes.pop(0)
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                await process.stdin.drain()
            except OSError:
                pass  # it died a moment ago
            else:
                if process.returncode is None:
                    process.stdin.close()
                    return process
            await process.wait()
        return None

    async def stop(self) -> None:
        """End them, and start no other."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        processes, self._processes = self._processes, []
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()

    async def _start(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._layout.rotate(NAME)
        while len(self._processes) < RESERVE:
            self._processes.append(await self._spawn())
            await asyncio.sleep(AGAIN_S)  # one after the other

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self._layout.log(NAME).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: mark(self._layout.data, NAME)},
                cwd=ROOT,
                start_new_session=True,
            )
