"""Processes: their mark, by which a later supervisor knows them again, and how they are found and ended.

A supervisor that is killed leaves its children running. Their process ids in run/*.pid may by then belong to somebody
else, so no id from a file is ever signalled: each child carries `ROOMLOG_STACK=DATA_DIR:NAME` in its environment, and
whoever carries our data folder there is ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stack.layout import Layout

MARK = "ROOMLOG_STACK"
ENGINE_NAMES = ("kafka", "cassandra", "redis")


def mark(data: Path, name: str) -> str:
    """Value of `MARK` in the environment of process `name` of the stack in `data`."""
    return f"{data}:{name}"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process of ours whose supervisor is gone."""

    pid: int
    name: str


def orphans(data: Path) -> list[Orphan]:
    """Every process that carries the mark of the stack in `data`."""
    wanted = f"{MARK}={data}:".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
        names = [v[len(wanted) :].decode() for v in environment.split(b"\0") if v.startswith(wanted)]
        found += [Orphan(int(entry.name), name) for name in names]
    return found


def end_orphans(data: Path, within_s: float) -> list[Orphan]:
    """End what an earlier supervisor left, workers before engines, and return it.

    Each gets SIGTERM and `within_s` seconds, then SIGKILL.
    """
    found = orphans(data)
    engines = [orphan for orphan in found if orphan.name in ENGINE_NAMES]
    for group in ([orphan for orphan in found if orphan not in engines], engines):
        _end([orphan.pid for orphan in group], within_s)
    return found


def _end(pids: list[int], within_s: float) -> None:
    # A descriptor of a process stays with that process when its id goes to another one, and becomes readable when all
    # of its threads are gone: only then are its ports free.
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    try:
        for number, seconds in ((signal.SIGTERM, within_s), (signal.SIGKILL, within_s)):
            deadline = time.monotonic() + seconds
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            if all(_ended(handle, deadline) for handle in handles):
                return
    finally:
        for handle in handles:
            os.close(handle)


def _ended(handle: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def take_lock(layout: Layout) -> IO[str] | None:
    """The lock of the stack's one supervisor, held until the file is closed; None when another process has it."""
    file = layout.lock.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def supervisor_pid(layout: Layout) -> int | None:
    """Process id of the living supervisor of this stack, if there is one."""
    try:
        with layout.lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None
