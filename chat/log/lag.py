"""How far one partition's answers are behind, and how many commands may wait for it then. Pure: it is told the time.

A log that answers soon is never held back by this, and neither is one that was away for a moment: it has caught up
before it counts as lagging. But when more is offered than it takes, every further command only makes all of them wait
longer. So once answers have come late for a while, no more may wait than are answered within `QUEUE_S`; the rest is
refused at once, and the queue is short again a moment after the offer is. A log that does not answer at all is the
same, from the first command on that has waited in vain.
"""

from __future__ import annotations

from typing import Final

LATE_S: Final = 0.25
"""An answer that took longer is late: some ten times what it takes, and a person begins to notice."""

LAGS_AFTER_S: Final = 1.0
"""Late answers without a break for so long make a lag. What a restarted sequencer finds is answered sooner."""

QUEUE_S: Final = 2.0
"""While it lags, so much work may wait, in seconds of what it answers. Above `LATE_S`, or it would seem to be over."""

QUEUE_MIN: Final = 256
"""And never fewer commands than this."""

WINDOW_S: Final = 1.0
"""Over which answers are counted."""


class Lag:
    """One partition."""

    __slots__ = ("_answered", "_late_since", "_room", "_window_began", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        """Commands that wait for their answer; the owner counts them."""
        self._late_since: float | None = None
        self._answered = 0
        self._window_began = 0.0
        self._room: float | None = None

    @property
    def lasts(self) -> bool:
        """True while more is offered than is answered."""
        return self._room is not None

    def takes(self, commands: int) -> bool:
        """False when `commands` more would wait too long."""
        return self._room is None or self.waiting + commands <= self._room

    def unanswered(self, now: float) -> bool:
        """A command has waited for its answer in vain. True when a lag has begun by it."""
        if self.lasts:
            return False
        self._room = QUEUE_MIN
        self._late_since = self._window_began = now
        self._answered = 0
        return True

    def answered(self, took_s: float, now: float) -> bool:
        """An answer has come, `took_s` after its command. True when a lag has begun or ended by it."""
        lagged = self.lasts
        if took_s < LATE_S:
            self._late_since = self._room = None
            return lagged
        if self._late_since is None:
            self._late_since = self._window_began = now
            self._answered = 0
        self._answered += 1
        passed_s = now - self._window_began
        if passed_s >= WINDOW_S and now - self._late_since >= LAGS_AFTER_S:
            self._room = max(QUEUE_MIN, QUEUE_S * self._answered / passed_s)
            self._window_began, self._answered = now, 0
        return self.lasts is not lagged
