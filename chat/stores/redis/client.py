"""The driver behind a circuit: a Redis that is away costs one short time limit, once in a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import redis.asyncio as driver
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chat import logs
from chat.errors import Unavailable
from chat.settings import Settings

log = logs.get(__name__)

_T = TypeVar("_T")

CONNECTIONS_MAX: Final = 16
OPEN_FIRST_S: Final = 0.5
OPEN_MAX_S: Final = 5.0
"""How long nobody asks after a failure: doubles up to this."""


class Keys:
    """The names of our keys."""

    def __init__(self, settings: Settings) -> None:
        self.rooms = f"{settings.namespace}:rooms"
        self.whole = f"{settings.namespace}:whole"
        self.rebuilding = f"{settings.namespace}:rebuilding"
        self._room = f"{settings.namespace}:room:"
        self._tail = f"{settings.namespace}:tail:"

    def room(self, room: str) -> str:
        """The hash of one room."""
        return self._room + room

    def tail(self, room: str) -> str:
        """The last events of one room."""
        return self._tail + room


class Client:
    """A connection pool behind a circuit."""

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        host, port = settings.redis_address
        self._timeout_s = timeout_s
        self.keys = Keys(settings)
        self.partitions = settings.partitions
        pool = driver.BlockingConnectionPool(
            host=host,
            port=port,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self.redis = driver.Redis(connection_pool=pool)
        self._open_until = 0.0
        self._open_s = 0.0
        self._failure: Unavailable | None = None

    async def run(self, work: Callable[[driver.Redis], Awaitable[_T]]) -> _T:
        """`work` done with the connection. `Unavailable` at once while the circuit is open."""
        now = time.monotonic()
        if self._failure is not None:
            if now < self._open_until:
                raise self._failure
            self._open_until = now + self._timeout_s + self._open_s  # the others go on failing while this one tries
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                result = await work(self.redis)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._open(error) from None
        if self._failure is not None:
            log.info("redis_back")
            self._failure, self._open_s = None, 0.0
        return result

    def _open(self, error: BaseException) -> Unavailable:
        failure = Unavailable(f"Redis: {str(error) or type(error).__name__}")
        if self._failure is None:
            log.warning("redis_away", reason=str(failure))
        self._open_s = min(max(self._open_s * 2, OPEN_FIRST_S), OPEN_MAX_S)
        self._open_until = time.monotonic() + self._open_s
        self._failure = failure
        return failure

    async def stop(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()
