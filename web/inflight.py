"""How many commands wait for their answer: bounds that slow a sender down instead of refusing it.

A stock client that pipelines a thousand SENDs breaks no rule, so a full bound pauses the reading of that one socket
(TCP carries the pressure to the client) until answers come. That alone would let a socket's buffers fill with seconds
of work, so whoever presses on while the log lags is refused in the end. The bound per user and room must stay below the
number of events that the sequencer remembers per sender, or a resend after a lost connection could meet a forgotten
client id.
"""

from __future__ import annotations

import asyncio
from typing import Final

from chat import metrics

PRESSURE_S: Final = 5.0
"""A client that presses for so long against a log that lags is not waited for any more: its socket holds more than it
will ever be glad to have answered, and each of its commands makes everybody wait."""

RELIEF_S: Final = 2.0
"""Not pausing for so long: the client has stopped pressing."""


class Pressure:
    """How long one connection has sent more than its bounds take."""

    __slots__ = ("_began", "_felt")

    def __init__(self) -> None:
        self._began = self._felt = float("-inf")

    def at(self, now: float) -> float:
        """Its socket is paused now: for how many seconds it has been, again and again."""
        if now - self._felt > RELIEF_S:
            self._began = now
        self._felt = now
        return now - self._began


class InFlight:
    """Counts of one gateway."""

    def __init__(self, *, per_connection: int, per_user_room: int) -> None:
        self._per_connection = per_connection
        self._per_user_room = per_user_room
        self._counts: dict[tuple[str, str], int] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.total = 0

    def full(self, of_connection: int, user: str, room: str, commands: int, *, paused: bool) -> bool:
        """True when `commands` more are too many for now, for a connection or for one user in one room.

        A socket that is paused already stays so down to half of a bound: commands then come in batches, not one by one
        as answers come.
        """
        part = 2 if paused else 1
        if of_connection and of_connection + commands > self._per_connection // part:
            return True
        count = self._counts.get((user, room), 0)
        return count > 0 and count + commands > self._per_user_room // part

    def began(self, user: str, room: str) -> None:
        """A command was appended."""
        key = (user, room)
        self._counts[key] = self._counts.get(key, 0) + 1
        self.total += 1

    def ended(self, user: str, room: str) -> None:
        """A command was answered, or given up."""
        key = (user, room)
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
        self.total -= 1
        for waiter in self._waiters.pop(user, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def change(self, user: str) -> None:
        """Wait until a command of this user has ended."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(user, []).append(waiter)
        await waiter

    def observe(self) -> None:
        """Bring the metric up to date; called by the gateway's wheel."""
        metrics.gateway_commands_in_flight.set(self.total)
