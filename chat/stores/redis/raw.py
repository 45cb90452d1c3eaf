"""What Redis holds of rooms as it stands, for whoever checks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import redis.asyncio as driver

from chat.settings import Settings
from chat.stores.redis.client import Client

READ_TIMEOUT_S: Final = 5.0
ROOMS_MAX: Final = 50
"""Of one request: with their tails some 5 MB of usual events."""
TAIL_MAX: Final = 400
"""Read of a tail: twice what the projector keeps."""
_NUMBERS: Final = ("first_seq", "seq", "msg_no", "members", "at")
_TEXTS: Final = ("kind", "owner", "epoch", "name")


class RoomEntry(NamedTuple):
    """What Redis says of one room, all of it at one moment."""

    fields: dict[str, Any] | None
    """Its hash, numbers as numbers; None when there is none."""
    listed_at: float | None
    """Its score in the list of rooms."""
    tail: list[tuple[float, bytes]]
    """Score and event, ascending."""


class RawMemory:
    """Reads of one audit. Every method raises `Unavailable` while Redis is away, and may be asked again."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings, READ_TIMEOUT_S)

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.stop()

    async def whole(self) -> set[int]:
        """Partitions whose rooms are said to be all there."""
        fields = await self._client.run(lambda r: r.hkeys(self._client.keys.whole))
        return {int(field) for field in fields}

    async def read_rooms(self, rooms: Sequence[str]) -> list[RoomEntry]:
        """What is there of `rooms`, at most `ROOMS_MAX` of them."""
        keys = self._client.keys

        async def read(redis: driver.Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=True)
            for room in rooms:
                pipe.hmget(keys.room(room), *_NUMBERS, *_TEXTS)
                pipe.zscore(keys.rooms, room)
                pipe.zrange(keys.tail(room), -TAIL_MAX, -1, withscores=True)
            return list(await pipe.execute())

        found = await self._client.run(read)
        return [
            RoomEntry(_fields(fields), listed_at, [(score, value) for value, score in tail])
            for fields, listed_at, tail in zip(*[iter(found)] * 3, strict=True)
        ]

    async def rooms(self) -> AsyncIterator[set[str]]:
        """Ids of all rooms that have a hash, a place in the list or a tail, in parts; some come more than once."""
        keys = self._client.keys
        for prefix in (keys.room(""), keys.tail("")):
            async for found in self._scan(lambda redis, cursor, prefix=prefix: redis.scan(cursor, prefix + "*", 1000)):
                yield {key.decode("utf-8", "replace").removeprefix(prefix) for key in found}
        async for pairs in self._scan(lambda redis, cursor: redis.zscan(keys.rooms, cursor, count=1000)):
            yield {room.decode("utf-8", "replace") for room, _ in pairs}

    async def _scan(self, step: Any) -> AsyncIterator[Any]:
        cursor = 0
        while True:
            cursor, found = await self._client.run(partial(_step, step, cursor))
            if found:
                yield found
            if int(cursor) == 0:
                return


async def _step(step: Any, cursor: int, redis: driver.Redis) -> tuple[int, Any]:
    following, found = await step(redis, cursor)
    return int(following), found


def _fields(row: Sequence[bytes | None]) -> dict[str, Any] | None:
    if all(value is None for value in row):
        return None
    numbers = {name: _number(value) for name, value in zip(_NUMBERS, row, strict=False)}
    texts = {
        name: None if value is None else value.decode("utf-8", "replace")
        for name, value in zip(_TEXTS, row[len(_NUMBERS) :], strict=True)
    }
    return numbers | texts


def _number(value: bytes | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None
