"""The chat page at `/`: files that npm built into web/static, served with headers that let nothing else run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

from web.gateway import web_app

STATIC: Final = Path(__file__).resolve().parent / "static"
_INDEX: Final = STATIC / "index.html"

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

NOT_BUILT: Final = "The page is not built yet: run `make page`, or `make run`, which does it.\n"


async def index(_: web.Request) -> web.StreamResponse:
    """`GET /`."""
    if not _INDEX.is_file():
        return web.Response(status=503, text=NOT_BUILT)
    return web.FileResponse(_INDEX, headers={**_HEADERS, "Cache-Control": "no-cache"})


async def asset(request: web.Request) -> web.StreamResponse:
    """`GET /assets/...` and the few files beside the page. Names under assets carry a hash: kept for ever."""
    wanted = (STATIC / request.path.lstrip("/")).resolve()
    if not wanted.is_relative_to(STATIC) or not wanted.is_file():
        raise web.HTTPNotFound(text="no such file\n")
    forever = request.path.startswith("/assets/")
    caching = "public, max-age=31536000, immutable" if forever else "no-cache"
    return web.FileResponse(wanted, headers={**_HEADERS, "Cache-Control": caching})


web_app.router.add_get("/", index)
web_app.router.add_get("/assets/{name:.+}", asset)
web_app.router.add_get(r"/{name:[A-Za-z0-9_-]+\.(?:svg|png|ico|webmanifest|txt)}", asset)
