"""History for those who come late, from whichever source has it: Redis' tail, Cassandra, or the log itself.

Every answer is a dense run of events that begins exactly at the seq asked for; a source that cannot give that gives
nothing. None of the three is waited for longer than its own time limit, and Redis being away costs one failed look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from chat.errors import Unavailable
from chat.records import Event

REDIS_TAIL_EVENTS = 200
"""Redis keeps the last so many events of a room; deeper reads do not ask it."""


class Source(Protocol):
    """A place that keeps events."""

    async def read_events(self, room: str, from_seq: int, limit: int) -> list[Event]:
        """At most `limit` events from `from_seq` on, dense; empty when `from_seq` is not there.

        Raises:
            Unavailable: the place does not answer.
        """


class Backlog:
    """Reads pages of history."""

    def __init__(self, tail: Source, history: Source, scan: Callable[[str, int, int], Awaitable[list[Event]]]) -> None:
        """`scan(room, from_seq, limit)` reads the log itself from the archiver's position on."""
        self._tail = tail
        self._history = history
        self._scan = scan

    async def read(
        self, room: str, from_seq: int, limit: int, *, head_seq: int, scan: bool = True
    ) -> tuple[list[Event], str]:
        """A page and the name of its source; an empty page when no source has `from_seq` yet.

        Without `scan` the log itself is not read: it is the slowest source, and the others are a moment behind it.

        Raises:
            Unavailable: no source has it, and one that may have it does not answer.
        """
        away: Unavailable | None = None
        if head_seq - from_seq < REDIS_TAIL_EVENTS:
            try:
                if events := await self._tail.read_events(room, from_seq, limit):
                    return dense(events, from_seq), "redis"
            except Unavailable:
                pass  # Redis may die without harm: the next source has it too
        try:
            if events := await self._history.read_events(room, from_seq, limit):
                return dense(events, from_seq), "cassandra"
        except Unavailable as error:
            away = error
        if scan and (events := await self._scan(room, from_seq, limit)):
            return dense(events, from_seq), "log"
        if away is not None:
            raise away
        return [], "none"


def dense(events: list[Event], from_seq: int) -> list[Event]:
    """The part of `events` that runs from `from_seq` without a hole: no source is trusted blindly."""
    for i, event in enumerate(events):
        if event.seq != from_seq + i:
            return events[:i]
    return events
