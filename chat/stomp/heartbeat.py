"""Heart-beat arithmetic: when something is due, given when something last went over the wire.

Seconds of any one monotonic clock go in and come out; nothing here reads it. Browsers throttle the timers of background
tabs to one a minute, so silence alone proves little: after twice the agreed period and a second the gateway sends a
WebSocket ping, which the browser itself answers, and the pong counts as life. Only after three periods is it over.
A client that agreed to no beats is watched by pings alone, at our own period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PING_SLACK_S: Final = 1.0
"""On top of twice the period, so that a beat on its way is not overtaken."""
PONG_SLACK_S: Final = 1.0
"""A pong has at least this long, however short the period."""
BEAT_MARGIN: Final = 0.9
"""We send at this part of our period: the client counts until the beat arrives, not until it is sent."""


@dataclass(frozen=True, slots=True)
class HeartBeats:
    """The deadlines of one connection."""

    client_period_s: float
    """The client sends at least this often, or answers a ping."""
    server_period_s: float
    """We send at least this often; 0: whenever we like."""

    @classmethod
    def agreed(cls, client_period_ms: int, server_period_ms: int, own_period_ms: int) -> HeartBeats:
        """From what the connection agreed on; `own_period_ms` stands in where the client promised nothing."""
        return cls((client_period_ms or own_period_ms) / 1000, server_period_ms / 1000)

    def beat_due_s(self, last_write_s: float) -> float:
        """When to send a line end if nothing else goes out before; infinity: never."""
        if not self.server_period_s:
            return math.inf
        return last_write_s + self.server_period_s * BEAT_MARGIN

    def ping_due_s(self, last_read_s: float) -> float:
        """When to send a WebSocket ping if nothing comes before; infinity: never."""
        if not self.client_period_s:
            return math.inf
        return last_read_s + 2 * self.client_period_s + PING_SLACK_S

    def close_due_s(self, last_read_s: float) -> float:
        """When to give the client up if nothing comes before, pongs included; infinity: never."""
        if not self.client_period_s:
            return math.inf
        return max(last_read_s + 3 * self.client_period_s, self.ping_due_s(last_read_s) + PONG_SLACK_S)
