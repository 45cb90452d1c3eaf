"""A process in reserve: the libraries imported, told only when a worker dies which one it is.

Importing Faust, aiohttp and the drivers is more than half of what a worker's start costs, and while a sequencer starts
its rooms are silent. The stand-by is a child like any other; when the supervisor goes, it goes.
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
AGAIN_S = 3.0
"""After one was used the next is started so much later: importing would take the core from the worker that starts."""


class Standby:
    """The stack's one process in reserve."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the one in reserve; None when there is none."""
        return None if self._process is None else self._process.pid

    def prepare(self, after_s: float = 0.0) -> None:
        """Have one ready in a while; harmless to repeat."""
        if self._process is None and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._start(after_s))

    async def become(
        self, argv: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path
    ) -> asyncio.subprocess.Process | None:
        """Have it be `argv` with the environment `env`, as if that had just been started; None when there is none.

        `argv` is a command of the console script `faust`.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        self.prepare(AGAIN_S)
        if process.returncode is not None:
            return None
        assert process.stdin is not None
        order = {"argv": list(argv), "env": dict(env), "log": str(log), "cwd": str(cwd)}
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
        except OSError:
            await process.wait()  # it died a moment ago
            return None
        process.stdin.close()
        return process

    async def stop(self) -> None:
        """End it, and start no other."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()

    async def _start(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._layout.rotate(NAME)
        with self._layout.log(NAME).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
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
