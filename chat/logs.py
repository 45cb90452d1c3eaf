"""Logs are events with fields, not sentences: `log.info("frame_rejected", code=..., room=...)`.

Never a body, a token, a passcode or a header value of a client. JSON a line in production, aligned text in development.
An engine that is away, or a client that sends one bad frame after another, must not fill a disk: of one kind of line
there are at most `LINES_PER_S`, and the next one after that says how many were left out.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

import orjson
import structlog

from chat.settings import Settings

LINES_PER_S: Final = 20
"""Of one kind: the same event and code of a module, the same message of a library, whatever its fields."""
KINDS_MAX: Final = 1_000
REPEATING_LOGGERS: Final = (
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
"""Say the same thing in a tight loop while Kafka is away (thousands of lines a second, measured)."""


class Pace:
    """Lets `LINES_PER_S` lines of a kind pass in each second, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, kind: Hashable) -> int | None:
        """How many lines of this kind were left out before this one, which may pass; None: this one may not."""
        now = self._clock()
        began, lines = self._kinds.get(kind, (now, 0))
        left_out = 0
        if now - began >= 1:
            began, lines, left_out = now, 0, max(0, lines - LINES_PER_S)
        if len(self._kinds) >= KINDS_MAX and kind not in self._kinds:
            self._kinds.clear()
        self._kinds[kind] = (began, lines + 1)
        return left_out if lines < LINES_PER_S else None


class _Paced(logging.Filter):
    """For the loggers of libraries: a kind is a message before its arguments are put in."""

    def __init__(self) -> None:
        super().__init__()
        self._pace = Pace()

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._pace.left_out((record.name, record.msg))
        if left_out:
            record.msg = f"{record.msg} ({left_out} lines like this one left out)"
        return left_out is not None


_paced = _Paced()
_pace = Pace()


def _keep_pace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    left_out = _pace.left_out((event.get("module"), event.get("event"), event.get("code")))
    if left_out is None:
        raise structlog.DropEvent
    if left_out:
        event["lines_left_out"] = left_out
    return event


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
            _keep_pace,
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
    for name in REPEATING_LOGGERS:
        logging.getLogger(name).addFilter(_paced)


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger of one module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
