"""Redis: what makes lists and short resumes fast, and nothing that could not be rebuilt.

* `{ns}:room:{room}`   hash: what a room is, and where its log stands, true at its field `seq`
* `{ns}:rooms`         sorted set of rooms by the log time of their last event
* `{ns}:tail:{room}`   sorted set by seq: the last 200 events of an active room, as they stand in the log; dense
* `{ns}:whole`         hash with a field for every partition of the log whose rooms are all there
* `{ns}:rebuilding`    hash with a field for every partition that is being rebuilt: which attempt does it

Nothing is written that is older than what is there: the scripts compare seqs, so replays and late copies change
nothing. When Redis loses its memory, `whole` is gone with it: readers go to Cassandra and the projector rebuilds.

Redis may be away at any time and for long. Readers then lose one short time limit in all: after a failure nothing is
asked for a while (the circuit is open), and then by one of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import redis.asyncio as driver
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chat import logs
from chat.errors import RoomlogError, Unavailable
from chat.records import Event, decode_event
from chat.settings import Settings
from chat.stores.model import RoomInfo

log = logs.get(__name__)

_T = TypeVar("_T")

TAIL_EVENTS: Final = 200
"""Of a room, kept for those who were away for a moment."""
TAIL_TTL_S: Final = 86_400
"""A room that is silent for so long is read from Cassandra again."""
READ_TIMEOUT_S: Final = 0.25
WRITE_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 16
OPEN_FIRST_S: Final = 0.5
OPEN_MAX_S: Final = 5.0
"""How long nobody asks after a failure: doubles up to this."""
PIPELINE_MAX: Final = 500
"""Commands sent together: a Redis that serves others, too, is not held for long."""

_HEAD_FIELDS: Final = ("seq", "msg_no", "members", "at")
_INFO_FIELDS: Final = ("kind", "owner", "epoch", "first_seq", "name")

_UPDATE_ROOM: Final = """
local seq = redis.call('HGET', KEYS[1], 'seq')
if not seq or tonumber(seq) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'seq', ARGV[2], 'msg_no', ARGV[3], 'members', ARGV[4], 'at', ARGV[5])
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
end
if ARGV[6] then
  redis.call('HSET', KEYS[1], 'kind', ARGV[6], 'owner', ARGV[7], 'epoch', ARGV[8], 'first_seq', ARGV[9])
  if ARGV[10] then redis.call('HSET', KEYS[1], 'name', ARGV[10]) end
end
"""
"""KEYS: room, rooms. ARGV: room, seq, msg_no, members, at [, kind, owner, epoch, first_seq [, name]]."""

_PUSH_TAIL: Final = """
local first, count = tonumber(ARGV[3]), #ARGV - 3
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local last = top[2] and tonumber(top[2]) or -1
if last >= 0 and first > last + 1 then
  redis.call('DEL', KEYS[1])
  last = -1
end
local new = {}
for i = 1, count do
  local seq = first + i - 1
  if seq > last then
    new[#new + 1] = seq
    new[#new + 1] = ARGV[i + 3]
  end
end
if #new > 0 then
  redis.call('ZADD', KEYS[1], unpack(new))
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[1]) - 1)
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""
"""KEYS: tail. ARGV: events kept, seconds kept, seq of the first event, events without a hole."""


_FINISH_REBUILD: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], '1')
return 1
"""
"""KEYS: rebuilding, whole. ARGV: partition, attempt. A memory that was lost meanwhile has lost the attempt, too."""


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


class _Client:
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


# ---------------------------------------------------------------- reading


class Directory:
    """The list of rooms. Every method raises `Unavailable` while Redis is away or has not got all rooms yet."""

    def __init__(self, settings: Settings) -> None:
        self._client = _Client(settings, READ_TIMEOUT_S)

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


TIES_MAX: Final = 16
"""Rooms whose last events have the same microsecond: from one partition none, over partitions a few."""


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
        self._client = _Client(settings, READ_TIMEOUT_S)

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


# ---------------------------------------------------------------- writing


class RoomUpdate(NamedTuple):
    """Where a room stands after `seq`; with `info`, also what it is."""

    room: str
    seq: int
    msg_no: int
    members: int
    at: int
    info: tuple[str, ...] = ()
    """kind, owner, epoch, first_seq [, name]: of the event that opened the room."""


class TailRun(NamedTuple):
    """Events of one room without a hole, as they stand in the log."""

    room: str
    first_seq: int
    values: list[bytes]


class Projection:
    """The projector's pen. Every write is idempotent and never replaces something newer."""

    def __init__(self, settings: Settings) -> None:
        self._client = _Client(settings, WRITE_TIMEOUT_S)
        self._update = self._client.redis.register_script(_UPDATE_ROOM)
        self._push = self._client.redis.register_script(_PUSH_TAIL)
        self._finish = self._client.redis.register_script(_FINISH_REBUILD)

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.stop()

    async def write(self, updates: Iterable[RoomUpdate], runs: Iterable[TailRun] = ()) -> None:
        """Bring rooms and tails up to date. `Unavailable`: some of it may be written, write all of it again."""
        keys = self._client.keys
        calls: list[tuple[Any, list[str], list[Any]]] = [
            (
                self._update,
                [keys.room(u.room), keys.rooms],
                [u.room, u.seq, u.msg_no, u.members, u.at, *u.info],
            )
            for u in updates
        ]
        for run in runs:
            cut = max(0, len(run.values) - TAIL_EVENTS)
            args = [TAIL_EVENTS, TAIL_TTL_S, run.first_seq + cut, *run.values[cut:]]
            calls.append((self._push, [keys.tail(run.room)], args))
        for start in range(0, len(calls), PIPELINE_MAX):
            await self._client.run(partial(self._send, calls[start : start + PIPELINE_MAX]))

    async def _send(self, calls: list[tuple[Any, list[str], list[Any]]], redis: driver.Redis) -> None:
        pipe = redis.pipeline(transaction=False)
        for script, keys, args in calls:
            await script(keys=keys, args=args, client=pipe)
        await pipe.execute()

    async def whole(self) -> set[int]:
        """Partitions whose rooms are all there."""
        fields = await self._client.run(lambda r: r.hkeys(self._client.keys.whole))
        return {int(field) for field in fields}

    async def begin_rebuild(self, partitions: Iterable[int], attempt: str) -> None:
        """Note that `attempt` (random) rebuilds `partitions` from now on."""
        fields: dict[Any, Any] = {str(partition): attempt for partition in partitions}
        if fields:
            await self._client.run(lambda r: r.hset(self._client.keys.rebuilding, mapping=fields))

    async def finish_rebuild(self, partition: int, attempt: str) -> bool:
        """All rooms of `partition` are there. False when Redis lost its memory, or another began, after `attempt`."""
        keys = self._client.keys
        return bool(
            await self._client.run(
                lambda _: self._finish(keys=[keys.rebuilding, keys.whole], args=[partition, attempt])
            )
        )

    async def clear(self) -> int:
        """Forget all rooms and tails, so that the projectors rebuild them; the number of keys removed."""
        keys = self._client.keys
        # First and last: readers go elsewhere at once, and a rebuild that began in between begins again.
        await self._client.run(lambda r: r.delete(keys.whole, keys.rebuilding))
        removed = 0
        for pattern in (keys.rooms, keys.room("*"), keys.tail("*")):
            cursor = 0
            while True:
                cursor, found = await self._client.run(partial(self._scan, cursor, pattern))
                if found:
                    removed += await self._client.run(partial(self._unlink, found))
                if cursor == 0:
                    break
        await self._client.run(lambda r: r.delete(keys.whole, keys.rebuilding))
        return removed

    async def _scan(self, cursor: int, pattern: str, redis: driver.Redis) -> tuple[int, list[Any]]:
        following, found = await redis.scan(cursor, match=pattern, count=1_000)
        return int(following), found

    async def _unlink(self, found: list[Any], redis: driver.Redis) -> int:
        return int(await redis.unlink(*found))
