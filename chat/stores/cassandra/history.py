"""Reading the archive: pages of events, rooms, people.

What a page promises is arithmetic, because seq is dense: it starts (or ends) exactly where it was asked to and has no
hole, or it is shorter. Cassandra may be behind the log; it is never wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from chat import logs
from chat.errors import RoomlogError
from chat.records import Event, decode_event
from chat.settings import Settings
from chat.stores.cassandra.session import Row, Session
from chat.stores.coalesce import Coalescer
from chat.stores.model import MemberInfo, RoomInfo

log = logs.get(__name__)

OLDER_BUCKETS_MAX: Final = 40
"""Of numbers that may never have been given: looked through for one page of an older epoch."""
BUCKET_SEQS: Final = 5000
"""Events of a room in one Cassandra partition. Fixed for ever: stored rows are found by it."""
PAGE_MAX: Final = 1000
"""Events of one page: at the largest body some 50 MB, at a usual one 0.5."""
LIST_MAX: Final = 1000
"""Rooms or people of one page."""

_RANGE = "SELECT seq, event FROM room_log WHERE room = ? AND bucket = ? AND seq >= ? AND seq <= ?"
_OLDER = "SELECT seq, event FROM room_log WHERE room = ? AND bucket = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
_ROOM_COLUMNS = "room, kind, owner, epoch, first_seq, seq, msg_no, members, at, name"
_ROOM = f"SELECT {_ROOM_COLUMNS} FROM rooms WHERE room = ?"  # noqa: S608  (a constant)
_ROOMS_FIRST = f"SELECT {_ROOM_COLUMNS} FROM rooms LIMIT ?"  # noqa: S608
_ROOMS_NEXT = f"SELECT {_ROOM_COLUMNS} FROM rooms WHERE token(room) > token(?) LIMIT ?"  # noqa: S608
_MEMBERS = "SELECT room, user, role, seq, at FROM room_members WHERE room = ? AND user > ? LIMIT ?"
_MEMBER = "SELECT room, user, role, seq, at FROM room_members WHERE room = ? AND user = ?"
_USER_ROOMS = "SELECT room, user, role, seq, at FROM user_rooms WHERE user = ? AND room > ? LIMIT ?"

STATEMENTS: Final = (_RANGE, _OLDER, _ROOM, _ROOMS_FIRST, _ROOMS_NEXT, _MEMBERS, _MEMBER, _USER_ROOMS)


def bucket_of(seq: int) -> int:
    """The Cassandra partition of a room that holds `seq`."""
    return seq // BUCKET_SEQS


class HistoryStore:
    """Reads of one worker. Every method raises `Unavailable` while Cassandra is away, and may be asked again.

    Results are shared between callers that ask the same at the same time: do not alter them.
    """

    def __init__(self, settings: Settings) -> None:
        self._session = Session(settings, STATEMENTS)
        self._reads = Coalescer()

    @classmethod
    def open(cls, settings: Settings) -> HistoryStore:
        """A store that begins to connect now, in the background (otherwise the first request does)."""
        store = cls(settings)
        store._session.start()
        return store

    async def stop(self) -> None:
        """Close the session."""
        await self._session.stop()

    # ------------------------------------------------------------ events

    async def read_events(self, room: str, from_seq: int, limit: int) -> list[Event]:
        """Events `from_seq`, `from_seq` + 1, ... without a hole: at most `limit` (and `PAGE_MAX`) of them.

        Empty when `from_seq` itself is not there (not archived yet, or trimmed).
        """
        last = from_seq + min(limit, PAGE_MAX) - 1
        events = await self._range(room, max(from_seq, 1), last)
        end = 0
        while end < len(events) and events[end].seq == from_seq + end:
            end += 1
        return events[:end]

    async def read_before(self, room: str, before_seq: int, limit: int) -> list[Event]:
        """The events that end with `before_seq` - 1, ascending and without a hole: at most `limit` (and `PAGE_MAX`).

        Empty when `before_seq` - 1 itself is not there.
        """
        first = max(before_seq - min(limit, PAGE_MAX), 1)
        events = await self._range(room, first, before_seq - 1)
        start = len(events)
        while start and events[start - 1].seq == before_seq - 1 - (len(events) - start):
            start -= 1
        return events[start:]

    async def read_older(self, room: str, before_seq: int, limit: int) -> list[Event]:
        """What there is below `before_seq`, the nearest first but ascending: at most `limit`, perhaps with holes.

        For numbers of epochs that are over, of which nobody promises all. Empty: there is nothing in the
        `OLDER_BUCKETS_MAX` buckets below.
        """
        left = min(limit, PAGE_MAX)
        rows: list[Row] = []
        highest = bucket_of(before_seq - 1)
        for bucket in range(highest, max(highest - OLDER_BUCKETS_MAX, -1), -1):
            rows += await self._session.rows(_OLDER, (room, bucket, before_seq, left - len(rows)))
            if len(rows) >= left:
                break
        return [event for row in reversed(rows) if (event := _event(room, row)) is not None]

    async def _range(self, room: str, first: int, last: int) -> list[Event]:
        if last < first:
            return []
        return await self._reads.run(("range", room, first, last), lambda: self._read_range(room, first, last))

    async def _read_range(self, room: str, first: int, last: int) -> list[Event]:
        pages = await asyncio.gather(
            *(
                self._session.rows(_RANGE, (room, bucket, first, last))
                for bucket in range(bucket_of(first), bucket_of(last) + 1)
            )
        )
        return [event for page in pages for row in page if (event := _event(room, row)) is not None]

    # ------------------------------------------------------------ rooms and people

    async def get_room(self, room: str) -> RoomInfo | None:
        """The room as the archive knows it, or None."""
        rows = await self._reads.run(("room", room), lambda: self._session.rows(_ROOM, (room,)))
        return _room(rows[0]) if rows else None

    async def list_rooms(self, limit: int, after: str | None = None) -> list[RoomInfo]:
        """Rooms, at most `limit` (and `LIST_MAX`), in an order that is fixed but means nothing.

        The next page is `after` the last room of this one. A page shorter than asked for is not the last one: only an
        empty page is.
        """
        limit = min(limit, LIST_MAX)
        # A cursor of the directory in Redis, which went away in between, names a room, too.
        after = after.rpartition("/")[2] if after is not None else None
        cql, values = (_ROOMS_FIRST, (limit,)) if after is None else (_ROOMS_NEXT, (after, limit))
        while True:
            rows = await self._reads.run(("rooms", values), lambda: self._session.rows(cql, values))  # noqa: B023
            rooms = [info for row in rows if (info := _room(row)) is not None]
            if rooms or not rows:
                return rooms
            cql, values = _ROOMS_NEXT, (rows[-1][0], limit)

    async def members(self, room: str, limit: int = LIST_MAX, after: str = "") -> list[MemberInfo]:
        """People of `room` by user id, those who left included (role `none`); next page: `after` the last user."""
        values = (room, after, min(limit, LIST_MAX))
        return _memberships(await self._reads.run(("members", values), lambda: self._session.rows(_MEMBERS, values)))

    async def member(self, room: str, user: str) -> MemberInfo | None:
        """One person's membership, or None for somebody who never was one."""
        rows = await self._reads.run(("member", room, user), lambda: self._session.rows(_MEMBER, (room, user)))
        return MemberInfo(*rows[0]) if rows else None

    async def rooms_of(self, user: str, limit: int = LIST_MAX, after: str = "") -> list[MemberInfo]:
        """Memberships of `user` by room id, ended ones included (role `none`); next page: `after` the last room."""
        values = (user, after, min(limit, LIST_MAX))
        return _memberships(await self._reads.run(("of", values), lambda: self._session.rows(_USER_ROOMS, values)))


def _event(room: str, row: Row) -> Event | None:
    seq, value = row
    try:
        event = decode_event(value)
    except RoomlogError as error:
        # Not shown, and a hole for whoever reads: the same event stands in the log.
        log.error("archived_event_unreadable", room=room, seq=seq, reason=str(error))
        return None
    return event if (event.room, event.seq) == (room, seq) else None


def _room(row: Row) -> RoomInfo | None:
    # A room whose opening event is not archived yet (another archiver's write is under way) is not there yet.
    return RoomInfo(*row) if all(value is not None for value in row[:-1]) else None


def _memberships(rows: Sequence[Any]) -> list[MemberInfo]:
    return [MemberInfo(*row) for row in rows]
