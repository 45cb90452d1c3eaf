"""Identical reads in flight are made once.

When a gateway restarts, a thousand clients of one room ask for the same page at the same moment. The first one reads;
the others wait for its answer. Nothing is kept after the answer: this is no cache and needs no invalidation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

_T = TypeVar("_T")


class Coalescer:
    """Joins equal reads. One per store client; belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, key: Hashable, read: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `read()`, or of the call with an equal `key` that is under way.

        The read goes on when one of its callers is cancelled; its error reaches every caller. The result is shared:
        do not alter it.
        """
        future = self._running.get(key)
        if future is None:
            future = self._running[key] = asyncio.ensure_future(read())
            future.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(future)

    def _forget(self, key: Hashable, future: asyncio.Future[Any]) -> None:
        del self._running[key]
        if not future.cancelled():
            future.exception()  # seen, also when every caller has gone
