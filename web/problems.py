"""Refusals over HTTP: problem documents (RFC 9457) with the same codes as STOMP's ERROR."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

from chat import logs, metrics
from chat.errors import Code, Refused, Unavailable

log = logs.get(__name__)

_STATUS: Final = {
    Code.LOGIN_REFUSED: HTTPStatus.UNAUTHORIZED,
    Code.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.ROOM_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ROOM_EXISTS: HTTPStatus.CONFLICT,
    Code.EPOCH_CHANGED: HTTPStatus.CONFLICT,
    Code.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.TOO_MANY_IN_FLIGHT: HTTPStatus.TOO_MANY_REQUESTS,
    Code.TOO_MANY_CONNECTIONS: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.GOING_AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

RETRY_AFTER_S = 1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_of(code: Code) -> HTTPStatus:
    """The HTTP status of a refusal; what has none of its own is the client's to fix: 400."""
    return _STATUS.get(code, HTTPStatus.BAD_REQUEST)


def problem(code: Code, detail: str) -> web.Response:
    """A problem document."""
    status = status_of(code)
    metrics.gateway_refusals.labels(code.value).inc()
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, "code": code.value}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return web.Response(
        status=status.value, body=orjson.dumps(body), content_type="application/problem+json", headers=headers
    )


def answers_problems(handler: Handler) -> Handler:
    """A handler whose refusals become problem documents, and whose defects show no stack trace."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refusal:
            return problem(refusal.code, refusal.message)
        except Unavailable as error:
            return problem(Code.UNAVAILABLE, str(error))
        except web.HTTPException:
            raise
        except Exception:
            log.exception("request_failed", path=request.path)
            return problem(Code.INTERNAL, "a defect of this server; it has been logged")

    return handle
