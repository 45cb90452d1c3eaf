"""`/livez`, `/readyz` and `/metrics` of every worker, whatever its role."""

from __future__ import annotations

import orjson
from aiohttp import web
from prometheus_client import generate_latest

import app as roomlog
from chat.readiness import readiness
from chat.version import __version__


async def livez(_: web.Request) -> web.Response:
    """200 while the process turns its loop."""
    return web.Response(text="ok\n")


async def readyz(_: web.Request) -> web.Response:
    """200 when this worker may be sent work, else 503 with what it waits for."""
    body = {
        "ready": readiness.ready,
        "role": roomlog.settings.role,
        "worker": roomlog.settings.worker,
        "version": __version__,
        "waiting_for": readiness.reasons(),
    }
    return web.Response(
        status=200 if readiness.ready else 503,
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        content_type="application/json",
    )


async def metrics(_: web.Request) -> web.Response:
    """Everything in chat.metrics, in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


web_app: web.Application = roomlog.app.web.web_app  # type: ignore[attr-defined]  # Faust names no driver
web_app.router.add_get("/livez", livez)
web_app.router.add_get("/readyz", readyz)
web_app.router.add_get("/metrics", metrics)
