"""The process behind stack/standby.py: imports, waits for one line on standard input, and is that worker from then on.

Run as a program, in the environment's Python, with nothing of the stack on its path.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys

PACKAGES = (
    "faust",
    "faust.app",
    "faust.cli.faust",
    "faust.livecheck",
    "faust.transport.drivers.aiokafka",
    "faust.web.drivers.aiohttp",
    "aiohttp.web",
    "aiokafka.admin",
    "cassandra.cluster",
    "redis.asyncio",
    "msgspec",
    "orjson",
    "prometheus_client",
    "structlog",
)
"""Other people's only: our own modules are read when a worker starts, so that it is always what lies in the folder."""


def main() -> None:
    """Wait, become, run."""
    for package in PACKAGES:
        importlib.import_module(package)
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
    sys.argv = list(order["argv"])
    importlib.import_module("faust.cli.faust").cli()


if __name__ == "__main__":
    main()
