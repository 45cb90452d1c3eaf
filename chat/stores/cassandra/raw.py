"""The archive's rows as they stand, for whoever checks them: nothing is decoded, repaired or left out.

Columns may be None in every row here: an upsert that somebody made by hand has what it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from chat.settings import Settings
from chat.stores.cassandra.history import BUCKET_SEQS, bucket_of
from chat.stores.cassandra.session import PAGE_ROWS_MAX, Row, Session
from chat.stores.model import MemberRow

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1
PEOPLE_PAGE: Final = 1000
ROOMS_PAGE: Final = 1000

_LOG_COLUMNS = "seq, at, kind, sender, event"
_RANGE = f"SELECT {_LOG_COLUMNS} FROM room_log WHERE room = ? AND bucket = ? AND seq >= ? AND seq <= ?"  # noqa: S608
_ABOVE = f"SELECT {_LOG_COLUMNS} FROM room_log WHERE room = ? AND bucket = ? AND seq > ? LIMIT ?"  # noqa: S608
_BUCKETS_FIRST = "SELECT DISTINCT room, bucket FROM room_log LIMIT ?"
_BUCKETS_NEXT = "SELECT DISTINCT room, bucket FROM room_log WHERE token(room, bucket) > token(?, ?) LIMIT ?"
_ROOM_COLUMNS = ("room", "kind", "owner", "epoch", "first_seq", "seq", "msg_no", "members", "at", "name")
_ROOM = f"SELECT {', '.join(_ROOM_COLUMNS)} FROM rooms WHERE room = ?"  # noqa: S608
_ROOMS_FIRST = f"SELECT {', '.join(_ROOM_COLUMNS)} FROM rooms LIMIT ?"  # noqa: S608
_ROOMS_NEXT = f"SELECT {', '.join(_ROOM_COLUMNS)} FROM rooms WHERE token(room) > token(?) LIMIT ?"  # noqa: S608
_MEMBER_COLUMNS = "room, user, role, seq, at"
_MEMBERS = f"SELECT {_MEMBER_COLUMNS} FROM room_members WHERE room = ? AND user > ? LIMIT ?"  # noqa: S608
_MEMBER = f"SELECT {_MEMBER_COLUMNS} FROM room_members WHERE room = ? AND user = ?"  # noqa: S608
_USER_ROOM = f"SELECT {_MEMBER_COLUMNS} FROM user_rooms WHERE user = ? AND room = ?"  # noqa: S608
_LISTS_FIRST = f"SELECT {_MEMBER_COLUMNS} FROM user_rooms LIMIT ?"  # noqa: S608
_LISTS_SAME = f"SELECT {_MEMBER_COLUMNS} FROM user_rooms WHERE user = ? AND room > ? LIMIT ?"  # noqa: S608
_LISTS_NEXT = f"SELECT {_MEMBER_COLUMNS} FROM user_rooms WHERE token(user) > token(?) LIMIT ?"  # noqa: S608

STATEMENTS: Final = (
    _RANGE,
    _ABOVE,
    _BUCKETS_FIRST,
    _BUCKETS_NEXT,
    _ROOM,
    _ROOMS_FIRST,
    _ROOMS_NEXT,
    _MEMBERS,
    _MEMBER,
    _USER_ROOM,
    _LISTS_FIRST,
    _LISTS_SAME,
    _LISTS_NEXT,
)


class RawArchive:
    """Reads of one audit. Every method raises `Unavailable` while Cassandra is away, and may be asked again."""

    def __init__(self, settings: Settings) -> None:
        self._session = Session(settings, STATEMENTS)

    async def ready(self) -> None:
        """Return when connected."""
        await self._session.ready()

    async def stop(self) -> None:
        """Close the session."""
        await self._session.stop()

    # ------------------------------------------------------------ room_log: seq, at, kind, sender, event

    async def read_rows(self, room: str, first: int, last: int) -> list[Row]:
        """The rows of `first` to `last`, by seq. Where that is the end of a bucket, also what lies beyond it there."""
        pages = await asyncio.gather(
            *(
                self._session.rows(_RANGE, (room, bucket, *_within(bucket, first, last)))
                for bucket in range(bucket_of(first), bucket_of(last) + 1)
            )
        )
        return pages[0] if len(pages) == 1 else [row for page in pages for row in page]

    async def read_above(self, room: str, seq: int, limit: int) -> list[Row]:
        """At most `limit` rows after `seq`, where the next ones would stand."""
        return await self._session.rows(_ABOVE, (room, bucket_of(seq + 1), seq, limit))

    async def read_bucket(self, room: str, bucket: int, limit: int) -> list[Row]:
        """The first `limit` rows of a bucket."""
        return await self._session.rows(_ABOVE, (room, bucket, LOWEST, limit))

    async def buckets(self) -> AsyncIterator[list[Row]]:
        """Every (room, bucket) that has rows, in pages."""
        page = await self._session.rows(_BUCKETS_FIRST, (PAGE_ROWS_MAX,))
        while page:
            yield page
            page = await self._session.rows(_BUCKETS_NEXT, (*page[-1], PAGE_ROWS_MAX))

    # ------------------------------------------------------------ rooms

    async def read_room(self, room: str) -> dict[str, Any] | None:
        """The room's row, column to value, or None."""
        rows = await self._session.rows(_ROOM, (room,))
        return dict(zip(_ROOM_COLUMNS, rows[0], strict=True)) if rows else None

    async def rooms(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Every room's row, in pages."""
        page = await self._session.rows(_ROOMS_FIRST, (ROOMS_PAGE,))
        while page:
            yield [dict(zip(_ROOM_COLUMNS, row, strict=True)) for row in page]
            page = await self._session.rows(_ROOMS_NEXT, (page[-1][0], ROOMS_PAGE))

    # ------------------------------------------------------------ people

    async def members(self, room: str) -> AsyncIterator[list[MemberRow]]:
        """The rows of a room's people, in pages."""
        after = ""
        while page := await self._session.rows(_MEMBERS, (room, after, PEOPLE_PAGE)):
            yield [MemberRow(*row) for row in page]
            if len(page) < PEOPLE_PAGE:
                return  # most rooms: what comes between this page and an empty one, the next audit sees
            after = page[-1][1]

    async def member(self, room: str, user: str) -> MemberRow | None:
        """One person's row in a room's list."""
        rows = await self._session.rows(_MEMBER, (room, user))
        return MemberRow(*rows[0]) if rows else None

    async def user_room(self, user: str, room: str) -> MemberRow | None:
        """A room's row in one person's list."""
        rows = await self._session.rows(_USER_ROOM, (user, room))
        return MemberRow(*rows[0]) if rows else None

    async def user_rooms(self) -> AsyncIterator[list[MemberRow]]:
        """The rows of everybody's lists of rooms, in pages."""
        page = await self._session.rows(_LISTS_FIRST, (PEOPLE_PAGE,))
        while page:
            yield [MemberRow(*row) for row in page]
            # The list of the last one may have been cut.
            room, user, *_ = page[-1]
            page = await self._session.rows(_LISTS_SAME, (user, room, PEOPLE_PAGE))
            if not page:
                page = await self._session.rows(_LISTS_NEXT, (user, PEOPLE_PAGE))


def _within(bucket: int, first: int, last: int) -> tuple[int, int]:
    """The bounds in one bucket. A row that stands in the wrong bucket is found by the bucket's end being open."""
    low, high = max(bucket * BUCKET_SEQS, 1), (bucket + 1) * BUCKET_SEQS - 1
    return (LOWEST if first <= low else first), (HIGHEST if last >= high else last)
