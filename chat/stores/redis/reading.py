"""What gateways read: the list of rooms, and the last events of active ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis.asyncio as driver

from chat import logs
from chat.errors import RoomlogError, Unavailable
from chat.records import Event, decode_event
from chat.settings import Settings
from chat.stores.model import RoomInfo
from chat.stores.redis.client import Client

log = logs.get(__name__)

READ_TIMEOUT_S: Final = 0.25
_HEAD_FIELDS: Final = ("seq", "msg_no", "members", "at")
_INFO_FIELDS: Final = ("kind", "owner", "epoch", "first_seq", "name")
TIES_MAX: Final = 16
"""Rooms whose last events have the same microsecond: from one partition none, over partitions a few."""


class Directory:
    """The list of rooms. Every method raises `Unavailable` while Redis is away or has not got all rooms yet."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings, READ_TIMEOUT_S)

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.stop()

    async def list_rooms(self, limit: int, cursor: str | None = None) -> tuple[list[RoomInfo], str | None]:
        """Rooms, most recently active first, at most `limit`; and the cursor of the next page, None after the last.

        A room that becomes active while somebody pages moves up, past them.
        """
        keys = self._client.keys
        at, slash, after = cursor.partition("/") if cursor is not None else ("+inf", "", "")
        if cursor is not None and not (slash and at.isascii() and at.isdigit()):
            raise Unavailable("Redis: a cursor of another list")

        async def read(redis: driver.Redis) -> tuple[list[tuple[bytes, float]], list[Any]]:
            pipe = redis.pipeline(transaction=False)
            pipe.hlen(keys.whole)
            # Rooms with the same time come in descending order of their ids; those up to `after` were shown.
            pipe.zrevrangebyscore(keys.rooms, at, "-inf", start=0, num=limit + TIES_MAX, withscores=True)
            whole, found = await pipe.execute()
            self._must_be_whole(whole)
            page = [(room, score) for room, score in found if not after or score < int(at) or room.decode() < after]
            page = page[:limit]
            for room, _ in page:
                pipe.hmget(keys.room(room.decode()), *_HEAD_FIELDS, *_INFO_FIELDS)
            return page, await pipe.execute() if page else []

        page, rows = await self._client.run(read)
        infos = [_info(room.decode(), row) for (room, _), row in zip(page, rows, strict=True)]
        following = f"{int(page[-1][1])}/{page[-1][0].decode()}" if len(page) == limit else None
        return [info for info in infos if info is not None], following

    async def get_room(self, room: str) -> RoomInfo | None:
        """One room, or None when there is none."""
        keys = self._client.keys

        async def read(redis: driver.Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=False)
            pipe.hlen(keys.whole)
            pipe.hmget(keys.room(room), *_HEAD_FIELDS, *_INFO_FIELDS)
            return list(await pipe.execute())

        whole, row = await self._client.run(read)
        info = _info(room, row)
        if info is None:
            self._must_be_whole(whole)
        return info

    def _must_be_whole(self, partitions: int) -> None:
        if partitions != self._client.partitions:
            raise Unavailable(f"Redis: the rooms of {partitions} of {self._client.partitions} partitions are there")


def _info(room: str, row: Sequence[bytes | None]) -> RoomInfo | None:
    seq, msg_no, members, at, kind, owner, epoch, first_seq, name = row
    if not (seq and msg_no and members and at and kind and owner and epoch and first_seq):
        return None
    return RoomInfo(
        room=room,
        kind=kind.decode(),
        owner=owner.decode(),
        epoch=epoch.decode(),
        first_seq=int(first_seq),
        seq=int(seq),
        msg_no=int(msg_no),
        members=int(members),
        at=int(at),
        name=None if name is None else name.decode(),
    )


class RecentTail:
    """The last events of active rooms."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings, READ_TIMEOUT_S)

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.stop()

    async def read_events(self, room: str, from_seq: int, limit: int) -> list[Event]:
        """Events `from_seq`, `from_seq` + 1, ... without a hole: at most `limit`; empty when `from_seq` is not there.

        Raises:
            Unavailable: Redis is away.
        """
        key = self._client.keys.tail(room)
        values: list[Any] = await self._client.run(lambda r: r.zrangebyscore(key, from_seq, from_seq + limit - 1))
        events: list[Event] = []
        for value in values:
            try:
                event = decode_event(value)
            except RoomlogError as error:
                log.warning("tail_event_unreadable", room=room, reason=str(error))
                break
            if (event.room, event.seq) != (room, from_seq + len(events)):
                break
            events.append(event)
        return events
