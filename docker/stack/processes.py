"""Processes: their mark, by which a later supervisor knows them again, and how they are found and ended.

A supervisor that is killed leaves its children running. Their process ids in run/*.pid may by then belong to somebody
else, so no id from a file is ever signalled: each child carries `ROOMLOG_STACK=DATA_DIR:NAME` in its environment, and
whoever carries our data folder there is ours.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stack.layout import Layout

MARK = "ROOMLOG_STACK"


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
    engines = {"kafka", "cassandra", "redis"}
    for group in ([o for o in found if o.name not in engines], [o for o in found if o.name in engines]):
        left = [orphan for orphan in group if _signal(orphan.pid, signal.SIGTERM)]
        deadline = time.monotonic() + within_s
        while (left := [orphan for orphan in left if alive(orphan.pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        for orphan in left:
            _signal(orphan.pid, signal.SIGKILL)
    return found


def alive(pid: int) -> bool:
    """True while the process runs; one that has ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


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
