"""What a person sees while things start and stop: one line a fact, with the seconds since the beginning."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STILL_S = 10.0
"""A step that takes longer than this says so, and again after as long."""


class Progress:
    """Prints lines of progress, to standard output."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, name: str, text: str) -> None:
        """One line about `name`."""
        sys.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {name:<12} {text}\n")
        sys.stdout.flush()

    @asynccontextmanager
    async def step(self, name: str, doing: str, done: str) -> AsyncIterator[None]:
        """Say that something begins, that it still goes on, and that it is done (unless it raises)."""
        self.say(name, doing)
        still = asyncio.create_task(self._still(name, doing))
        try:
            yield
        finally:
            still.cancel()
        self.say(name, done)

    async def _still(self, name: str, doing: str) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(STILL_S)
            self.say(name, f"still {doing} ({time.monotonic() - began:.0f} s)")
