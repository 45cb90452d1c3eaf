"""When to wait a little before writing: above some rate a joint beat of all partitions costs less than it delays.

A batch costs the same whether it holds one record or fifty, and the producer sends the batches of all partitions that
are ready in one request. So under load the writers wait for a common beat; without it nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

BEAT_S: Final = 0.003
WINDOW_S: Final = 0.1
BUSY_PER_S: Final = 2_000
"""Commands a second of this process; below it the beat would only add latency (tests/bench/rows/log.py)."""


class Pace:
    """The beat of one process."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._seen = 0
        self._busy = False
        self._beat: asyncio.Event | None = None

    async def wait(self) -> None:
        """Return at once, or under load with the next beat."""
        if not self._busy:
            return
        if self._beat is None:
            self._beat = asyncio.Event()
            asyncio.get_running_loop().call_later(BEAT_S, self._strike)
        await self._beat.wait()

    def count(self, commands: int) -> None:
        """So many commands have been taken."""
        self._seen += commands
        now_s = time.monotonic()
        if (passed_s := now_s - self._since_s) >= WINDOW_S:
            self._busy = self._seen > BUSY_PER_S * passed_s
            self._seen, self._since_s = 0, now_s

    def _strike(self) -> None:
        if self._beat is not None:
            self._beat.set()
            self._beat = None
