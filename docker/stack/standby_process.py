"""The process behind stack/standby.py: imports, waits for one line on standard input, and is that worker from then on.

Run as a program, in the environment's Python and Roomlog's folder, with nothing of the stack on its path.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path

PACKAGES = (
    "faust",
    "faust.app",
    "faust.app.router",
    "faust.assignor.leader_assignor",
    "faust.cli.faust",
    "faust.events",
    "faust.fixups.django",
    "faust.livecheck",
    "faust.stores.memory",
    "faust.tables.manager",
    "faust.tables.objects",
    "faust.tables.recovery",
    "faust.tables.sets",
    "faust.tables.wrappers",
    "faust.topics",
    "faust.transport.drivers.aiokafka",
    "faust.transport.utils",
    "faust.web.drivers.aiohttp",
    "faust.worker",
    "aiohttp.web",
    "aiokafka.admin",
    "cassandra.cluster",
    "redis.asyncio",
    "msgspec",
    "orjson",
    "prometheus_client",
    "structlog",
)
"""Other people's: they change when they are installed anew."""

OWN = (
    "agents.engine",
    "agents.readings",
    "agents.sequencing.recovery",
    "agents.sequencing.snapshots",
    "chat.stores.cassandra.archive",
    "web.dispatch",
    "web.hub",
)
"""Ours that do not ask which worker this is (`app` does), with all that they import."""


def main() -> None:
    """Wait, become, run."""
    began_ns = time.time_ns()
    for package in PACKAGES:
        importlib.import_module(package)
    root = Path.cwd()
    sys.path.insert(0, str(root))
    # Somebody may be in the middle of an edit: then the worker says so when it is one.
    with contextlib.suppress(Exception):
        for module in OWN:
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    line = sys.stdin.buffer.readline()
    if not line:  # the supervisor is gone
        return
    order = json.loads(line)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.close(null)
    os.close(log)
    if _changed(root, began_ns):
        # A worker is always what lies in the folder when it starts.
        os.execv(order["argv"][0], order["argv"])  # noqa: S606  (there is no shell to start it with)
    sys.argv = list(order["argv"])
    importlib.import_module("faust.cli.faust").cli()


def _changed(root: Path, since_ns: int) -> bool:
    """True when a module of ours was written or deleted after it may have been imported."""
    files = [Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    own = [file for file in files if file.is_relative_to(root) and ".venv" not in file.parts]
    return any(not file.exists() or file.stat().st_mtime_ns >= since_ns for file in own)


if __name__ == "__main__":
    main()
