"""A program that runs once and must succeed; what it writes goes to a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import StackError
from stack.layout import ROOT, Layout
from stack.processes import MARK, mark


async def run_logged(
    name: str,
    argv: Sequence[str],
    layout: Layout,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> None:
    """Run `argv` to its end, output appended to log/NAME.log. `StackError` with the log's last lines if it fails.

    `env` is added to our own environment.
    """
    layout.rotate(name)
    environment = {**os.environ, **(env or {}), MARK: mark(layout.data, name)}
    with layout.log(name).open("ab") as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"{name}: cannot run {argv[0]} ({error.strerror})") from None
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        # npm and Maven have children: the whole session of the program goes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if status != 0:
        raise StackError(f"{name} failed; end of {layout.log(name)}:\n{layout.last_lines(name)}")
