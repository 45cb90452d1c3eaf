"""Logs are events with fields, not sentences: `log.info("frame_rejected", code=..., room=...)`.

Never a body, a token, a passcode or a header value of a client. JSON a line in production, aligned text in development.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from chat.settings import Settings


def configure(settings: Settings) -> None:
    """Set up structlog for this process; the standard library's loggers (Faust, drivers) join in the same format."""
    as_json = (settings.log_format or ("json" if settings.production else "console")) == "json"
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=settings.worker)


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger of one module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
