"""What the projector writes. The scripts compare seqs, so nothing is ever replaced by something older."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import redis.asyncio as driver

from chat.records import KIND_RENUMBERED
from chat.settings import Settings
from chat.stores.model import RoomInfo, Stored
from chat.stores.redis.client import Client

TAIL_EVENTS: Final = 200
"""Of a room, kept for those who were away for a moment."""
TAIL_TTL_S: Final = 86_400
"""A room that is silent for so long is read from Cassandra again."""
WRITE_TIMEOUT_S: Final = 5.0
PIPELINE_MAX: Final = 500
"""Commands sent together: a Redis that serves others, too, is not held for long."""

_UPDATE_ROOM: Final = """
local seq = redis.call('HGET', KEYS[1], 'seq')
if not seq or tonumber(seq) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'seq', ARGV[2], 'msg_no', ARGV[3], 'members', ARGV[4], 'at', ARGV[5])
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
end
local first = redis.call('HGET', KEYS[1], 'first_seq')
if ARGV[6] and (not first or tonumber(first) <= tonumber(ARGV[9])) then
  redis.call('HSET', KEYS[1], 'kind', ARGV[6], 'owner', ARGV[7], 'epoch', ARGV[8], 'first_seq', ARGV[9])
  if ARGV[10] then redis.call('HSET', KEYS[1], 'name', ARGV[10]) end
end
"""
"""KEYS: room, rooms. ARGV: room, seq, msg_no, members, at [, kind, owner, epoch, first_seq [, name]].

What a room is comes with the first event of an epoch: that of the latest epoch stays."""

_PUSH_TAIL: Final = """
local first, count = tonumber(ARGV[3]), #ARGV - 4
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local last = top[2] and tonumber(top[2]) or -1
if last >= 0 and (first > last + 1 or ARGV[4] == '1' and first > last) then
  redis.call('DEL', KEYS[1])
  last = -1
end
local new = {}
for i = 1, count do
  local seq = first + i - 1
  if seq > last then
    new[#new + 1] = seq
    new[#new + 1] = ARGV[i + 4]
  end
end
if #new > 0 then
  redis.call('ZADD', KEYS[1], unpack(new))
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[1]) - 1)
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""
"""KEYS: tail. ARGV: events kept, seconds kept, seq of the first event, 1 when that begins an epoch, events without a
hole. A hole before them, or a new epoch, empties the tail."""


_FINISH_REBUILD: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], '1')
return 1
"""
"""KEYS: rebuilding, whole. ARGV: partition, attempt. A memory that was lost meanwhile has lost the attempt, too."""


class RoomUpdate(NamedTuple):
    """Where a room stands after `seq`; with `about`, also what it is."""

    room: str
    seq: int
    msg_no: int
    members: int
    at: int
    about: tuple[str, ...] = ()
    """kind, owner, epoch, first_seq [, name]: of the event that began the epoch."""


class TailRun(NamedTuple):
    """Events of one room without a hole, of one epoch, as they stand in the log."""

    room: str
    first_seq: int
    begins_epoch: bool
    values: list[bytes]


class Projection:
    """The projector's pen. Every write is idempotent and never replaces something newer."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings, WRITE_TIMEOUT_S)
        self._update = self._client.redis.register_script(_UPDATE_ROOM)
        self._push = self._client.redis.register_script(_PUSH_TAIL)
        self._finish = self._client.redis.register_script(_FINISH_REBUILD)

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.stop()

    async def write_events(self, events: Sequence[Stored]) -> None:
        """Bring rooms and tails up to date with `events`, those of one room in their order.

        `Unavailable`: some of it may be written, write all of it again. No events: it returns when Redis is there.
        """
        if not events:
            await self.whole()
            return
        await self._write(updates_of(events), runs_of(events))

    async def write_rooms(self, rooms: Iterable[RoomInfo]) -> None:
        """Bring rooms up to date with what another store knows. `Unavailable`: do it again."""
        await self._write([_update_of(info) for info in rooms], [])

    async def _write(self, updates: Iterable[RoomUpdate], runs: Iterable[TailRun]) -> None:
        keys = self._client.keys
        calls: list[tuple[Any, list[str], list[Any]]] = [
            (
                self._update,
                [keys.room(u.room), keys.rooms],
                [u.room, u.seq, u.msg_no, u.members, u.at, *u.about],
            )
            for u in updates
        ]
        for run in runs:
            cut = max(0, len(run.values) - TAIL_EVENTS)
            begins = int(run.begins_epoch and not cut)
            args = [TAIL_EVENTS, TAIL_TTL_S, run.first_seq + cut, begins, *run.values[cut:]]
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


def updates_of(events: Iterable[Stored]) -> list[RoomUpdate]:
    """One update a room, true at its last event in `events`; what opens a room travels along."""
    updates: dict[str, RoomUpdate] = {}
    for event, _ in events:
        known = updates.get(event.room)
        about = known.about if known is not None else ()
        if (opens := event.opens) is not None:
            about = _about(opens.kind, opens.owner, event.epoch, event.seq, opens.name)
        updates[event.room] = RoomUpdate(event.room, event.seq, event.msg_no, event.members, event.at, about)
    return list(updates.values())


def runs_of(events: Iterable[Stored]) -> list[TailRun]:
    """The events of each room as runs without a hole, each of one epoch."""
    runs: list[TailRun] = []
    last: dict[str, TailRun] = {}
    for event, value in events:
        run = last.get(event.room)
        begins = event.kind == KIND_RENUMBERED
        if run is None or begins or event.seq != run.first_seq + len(run.values):
            run = last[event.room] = TailRun(event.room, event.seq, begins, [])
            runs.append(run)
        run.values.append(value)
    return runs


def _update_of(info: RoomInfo) -> RoomUpdate:
    about = _about(info.kind, info.owner, info.epoch, info.first_seq, info.name)
    return RoomUpdate(info.room, info.seq, info.msg_no, info.members, info.at, about)


def _about(kind: str, owner: str, epoch: str, first_seq: int, name: str | None) -> tuple[str, ...]:
    return (kind, owner, epoch, str(first_seq), *(() if name is None else (name,)))
