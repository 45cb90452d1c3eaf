"""The log's clock of one partition: the time of its last record, and whether silence owes it a tick.

Rules and windows know no clock but the times in the log. So that a minute in which something happened also ends when
nothing more happens, the owner appends a `tick` after it: one, since a tick is no event. When that is due is estimated
from the broker's time stamps and the local monotonic clock; no wall clock of ours takes part.
"""

from __future__ import annotations

import time
from typing import Final

MINUTE_US: Final = 60_000_000
TICK_PERIOD_S: Final = 1.0
"""A tick whose time stamp still lies in the minute that it was to end is followed by another one, not sooner."""


class Clock:
    """Log time of one partition, in microseconds."""

    __slots__ = ("_minute", "_seen_s", "_stamp_us", "_ticked_s", "at")

    def __init__(self, at: int = 0) -> None:
        self.at = at
        """Of the last record taken."""
        # A checkpoint does not say whether its minute had events: one tick too many does no harm.
        self._minute: int | None = at // MINUTE_US if at else None
        self._stamp_us = at
        self._seen_s = time.monotonic()
        self._ticked_s = float("-inf")

    def passed(self, at: int, last_event_at: int, stamp_ms: int) -> None:
        """Records up to log time `at` were taken, the last event at `last_event_at` (-1: none among them).

        `stamp_ms` is the broker's time stamp of something that has just been appended.
        """
        self.at = at
        minute = at // MINUTE_US
        if last_event_at >= 0:
            self._minute = last_event_at // MINUTE_US
        if self._minute is not None and self._minute < minute:
            self._minute = None
        self.stamped(stamp_ms)

    def stamped(self, stamp_ms: int) -> None:
        """The broker's clock showed `stamp_ms` just now."""
        self._stamp_us = stamp_ms * 1000
        self._seen_s = time.monotonic()

    def tick_due(self) -> bool:
        """A minute with events is over and nothing in the log says so; answering True counts as ticking."""
        if self._minute is None:
            return False
        now_s = time.monotonic()
        log_now = self._stamp_us + int((now_s - self._seen_s) * 1_000_000)
        if log_now < (self._minute + 1) * MINUTE_US or now_s - self._ticked_s < TICK_PERIOD_S:
            return False
        self._ticked_s = now_s
        return True
