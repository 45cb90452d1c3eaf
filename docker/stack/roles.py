"""How the workers and the operations are started: `faust -A app ...`, one process each."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

from chat.settings import Settings
from stack import probes
from stack.errors import StackError
from stack.layout import Layout
from stack.oneshot import run_logged
from stack.plan import Worker
from stack.watched import Service

OPERATIONS = ("migrate", "topics")
"""What has to be done once before workers start; each may be done again."""


def service(worker: Worker, settings: Settings, layout: Layout) -> Service:
    """The process of one worker."""
    return Service(
        name=worker.name,
        argv=(_faust(), "-A", "app", "worker", "-l", "info"),
        env={
            "ROOMLOG_ROLE": worker.role,
            # The instance names its static member of the consumer group: constant over restarts.
            "ROOMLOG_INSTANCE": worker.name,
            "ROOMLOG_WEB_PORT": str(worker.port),
            "ROOMLOG_DATA_DIR": str(layout.data),
            "PYTHONUNBUFFERED": "1",
        },
        probe=partial(probes.worker, _reachable(settings.web_host), worker.port),
        address=f"http://{_reachable(settings.web_host)}:{worker.port}",
        ready_within_s=60,
        stop_within_s=settings.drain_seconds + 10,
        stands_by=True,
    )


async def operation(name: str, layout: Layout) -> None:
    """Run `faust -A app NAME` to its end; `StackError` with what it said if it fails."""
    await run_logged(name, [_faust(), "-A", "app", name], layout, env={"ROOMLOG_DATA_DIR": str(layout.data)})


def page_address(settings: Settings) -> str:
    """Where a person opens the page."""
    return f"http://{_reachable(settings.web_host)}:{settings.web_port}/"


def _reachable(host: str) -> str:
    """An address that a client may connect to, from one that a server binds."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (a comparison, nothing is bound)


def _faust() -> str:
    beside = Path(sys.executable).with_name("faust")
    found = str(beside) if beside.exists() else shutil.which("faust")
    if not found:
        raise StackError("the command `faust` is not there; run `make .venv`")
    return found
