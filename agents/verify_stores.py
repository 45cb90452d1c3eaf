"""The stores' side of an audit: reads rows of Cassandra and Redis and has them compared with what the log says.

Reads run several in flight beside the walk of the log. What they are compared with was fixed before they were started,
so it does not matter when they end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from agents.durable import read_event
from chat.errors import Refused
from chat.log.topics import partition_of
from chat.records import Event
from chat.settings import Settings
from chat.stores.cassandra.history import bucket_of
from chat.stores.cassandra.raw import RawArchive
from chat.stores.model import MemberInfo, MemberRow
from chat.stores.redis.raw import ROOMS_MAX, RawMemory
from chat.verifying.claims import Claim, Claims
from chat.verifying.compare import (
    claim_head,
    claim_of_member,
    claim_rows,
    compare_directory,
    compare_head,
    compare_member,
    compare_rows,
    compare_tail,
    runs_of,
)
from chat.verifying.findings import Findings, Store, Wrong
from chat.verifying.room import LogRow, RoomWalk

_T = TypeVar("_T")

IN_FLIGHT_MAX: Final = 16
"""Tasks that wait for a store, beside the walk; each holds at most a page."""
PAGE_ROWS: Final = 1_000
"""Events of one page of an archived room, and rows beyond the walk's end that are looked at."""
PEOPLE_AT_ONCE: Final = 32
EMPTY_PAGES_MAX: Final = 10
"""In a row: then the rest of an archived room is not looked for (its row may name any number)."""


class InFlight:
    """A bounded number of tasks. The first failure is raised by the next `put`, or by `landed`."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def put(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` as soon as there is a slot."""
        try:
            await self._slots.acquire()
        except BaseException:
            work.close()
            raise
        if self._failure is not None:
            work.close()
            raise self._failure
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def landed(self) -> None:
        """Return when everything has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure

    async def cancel(self) -> None:
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and self._failure is None:
            self._failure = task.exception()


class StoreChecks:
    """Compares what both stores hold with `RoomWalk`s."""

    def __init__(
        self,
        settings: Settings,
        archive: RawArchive,
        memory: RawMemory,
        findings: Findings,
        claims: Claims,
        listed: set[int] | None = None,
    ) -> None:
        self._settings = settings
        self._partitions = settings.partitions
        self._archive = archive
        self._memory = memory
        self._findings = findings
        self._claims = claims
        self._listed: set[int] = set() if listed is None else listed
        """Hashes of the rows that people's lists of rooms must have."""

    def reporting_to(self, findings: Findings) -> StoreChecks:
        """The same checks with findings of their own."""
        return StoreChecks(self._settings, self._archive, self._memory, findings, self._claims, self._listed)

    # ------------------------------------------------------------ one room

    async def rows(self, room: str, rows: list[LogRow]) -> None:
        """Compare the archive with events of the log."""
        for run in runs_of(rows):
            found = await self._archive.read_rows(room, run[0][0], run[-1][0])
            compare_rows(self._findings, room, run, found)

    async def room(self, walk: RoomWalk) -> None:
        """Compare the archive's rows about a room with the whole walk, and look at what lies beyond it.

        Its people's lists of rooms are compared all together, by `people`.
        """
        found = await self._archive.read_room(walk.room)
        compare_head(self._findings, self._claims, Store.CASSANDRA, "rooms", walk, found)
        claim_rows(self._claims, walk.room, await self._archive.read_above(walk.room, walk.seq, PAGE_ROWS))
        missing = set(walk.members)
        async for page in self._archive.members(walk.room):
            for member in page:
                missing.discard(member.user)
                compare_member(self._findings, self._claims, "room_members", walk, member.user, member)
        for user in missing:
            compare_member(self._findings, self._claims, "room_members", walk, user, None)
        self._listed.update(map(_print_of, walk.members.values()))

    async def lists(self, walk: RoomWalk) -> None:
        """Compare the room's place in its people's lists of rooms, one list after the other."""
        for users in parts(list(walk.members), PEOPLE_AT_ONCE):
            lists = await asyncio.gather(*(self._archive.user_room(user, walk.room) for user in users))
            for user, listed in zip(users, lists, strict=True):
                compare_member(self._findings, self._claims, "user_rooms", walk, user, listed)

    async def entries(self, walks: Sequence[RoomWalk]) -> None:
        """Compare what Redis says of rooms."""
        found = await self._memory.read_rooms([walk.room for walk in walks])
        for walk, entry in zip(walks, found, strict=True):
            compare_directory(self._findings, self._claims, walk, entry.fields, entry.listed_at)
            compare_tail(self._findings, self._claims, walk, entry.tail)

    # ------------------------------------------------------------ rooms that the log does not hold whole

    async def before(self, walk: RoomWalk, event: Event) -> None:
        """Walk what the archive has of a room up to `event`, the first one of it that the log has."""
        row = await self._archive.read_room(walk.room)
        first = (row and row["first_seq"]) or 1
        if first > event.seq:
            walk.adopt(event)
        else:
            await self._walk(walk, first, event.seq - 1)

    async def archived(self, walk: RoomWalk) -> bool:
        """Walk all that the archive has of a room that the log does not hold at all, then compare it as any other.

        False when it has nothing of it.
        """
        row = await self._archive.read_room(walk.room)
        if row is None:
            rows = await self._archive.read_above(walk.room, 0, PAGE_ROWS)
            if not rows:
                return False
            self._wrong("rooms", walk.room, Wrong.MISSING, 1, "the room's row")
            row = {"seq": rows[-1][0]}
        last = row["seq"] or 0
        await self._walk(walk, row.get("first_seq") or 1, last)
        walk.close()
        if walk.seq < last:
            # Perhaps the row is on its way: then the log has it.
            claim = Claim(
                Store.CASSANDRA, "room_log", walk.room, walk.seq + 1, lambda *_: True, absent=Wrong.MISSING,
                otherwise=f"seq {walk.seq + 1} to {last}",
            )  # fmt: skip
            self._claims.add(claim)
        if walk.head is not None:
            await self.room(walk)
            await self.entries([walk])
        return True

    async def _walk(self, walk: RoomWalk, first: int, last: int) -> None:
        silent = 0
        for seq in range(first, last + 1, PAGE_ROWS):
            page = await self._archive.read_rows(walk.room, seq, min(seq + PAGE_ROWS - 1, last))
            silent = 0 if page else silent + 1
            if silent > EMPTY_PAGES_MAX:
                return
            for row in page:
                try:
                    event = read_event(walk.room.encode(), row[4])
                except Refused as refused:
                    self._wrong("room_log", walk.room, Wrong.UNDECODABLE, row[0], refused.message)
                    continue
                if walk.head is None and event.opens is None and first > 1:
                    walk.adopt(event)
                walk.take(event, row[4])
            walk.cut()

    # ------------------------------------------------------------ what there is beside the rooms of the log

    async def strangers(self, known: Mapping[str, int], partitions: Container[int]) -> set[str]:
        """Rooms of `partitions` that the archive has and the log has not; looks at misplaced rows of the others."""
        found: set[str] = set()
        async for rows in self._archive.rooms():
            found.update(room for row in rows if self._is_stranger(room := row["room"], known, partitions))
        async for buckets in self._archive.buckets():
            for room, bucket in buckets:
                if self._is_stranger(room, known, partitions):
                    found.add(room)
                elif room in known and not 0 <= bucket <= bucket_of(known[room] + 1):
                    await self._bucket(room, bucket, known[room])
        return found

    def _is_stranger(self, room: str, known: Mapping[str, int], partitions: Container[int]) -> bool:
        return room not in known and partition_of(room, self._partitions) in partitions

    async def _bucket(self, room: str, bucket: int, seq: int) -> None:
        for row in await self._archive.read_bucket(room, bucket, PAGE_ROWS):
            if row[0] > seq and bucket_of(row[0]) == bucket:
                claim_rows(self._claims, room, [row])
            else:
                self._wrong("room_log", room, Wrong.TOO_MANY, row[0], f"stands in bucket {bucket}")

    async def people(self, known: Mapping[str, int], partitions: Container[int]) -> None:
        """Compare everybody's lists of rooms with what all rooms' people must have in theirs."""
        explained: set[tuple[str, str]] = set()
        async for page in self._archive.user_rooms():
            for row in page:
                if _print_of(row) in self._listed:
                    self._listed.discard(_print_of(row))
                elif partition_of(row.room, self._partitions) in partitions:
                    explained.add((row.room, row.user))
                    await self._odd(row, known)
        missing = len(self._listed)
        if missing:
            # Which ones, the rooms' own lists say, which have been compared before.
            for room in known:
                async for members in self._archive.members(room):
                    for member in members:
                        if _print_of(member) in self._listed:
                            missing -= 1
                            if (room, member.user) not in explained:
                                self._wrong("user_rooms", room, Wrong.MISSING, member.seq or 0, f"user {member.user}")
        if missing > len(explained):
            self._wrong("user_rooms", "", Wrong.MISSING, 0, f"{missing - len(explained)} rows")

    async def _odd(self, row: MemberRow, known: Mapping[str, int]) -> None:
        """A row in somebody's list of rooms that the walk of the room did not ask for."""
        if row.seq is not None and row.seq > known.get(row.room, 0):
            self._claims.add(claim_of_member("user_rooms", row, row.seq))
            return
        member = await self._archive.member(row.room, row.user)
        if member == row:
            return  # a room that was not read from its beginning: its own list is all there is to compare with
        if member is None:
            wrong = Wrong.TOO_MANY
        else:
            wrong = Wrong.STALE if (row.seq or 0) < (member.seq or 0) else Wrong.DIFFERS
        self._wrong("user_rooms", row.room, wrong, row.seq or 0, f"user {row.user}")

    def _wrong(self, part: str, room: str, wrong: Wrong, seq: int, detail: str) -> None:
        self._findings.add(Store.CASSANDRA, part, room, wrong, seq, detail)

    async def entries_of_strangers(self, known: Container[str], partitions: Container[int]) -> None:
        """Look for rooms in Redis that neither the log nor the archive had."""
        async for rooms in self._memory.rooms():
            unknown = [
                room for room in rooms if room not in known and partition_of(room, self._partitions) in partitions
            ]
            for some in parts(unknown, ROOMS_MAX):
                for room, entry in zip(some, await self._memory.read_rooms(some), strict=True):
                    if entry.fields is not None and entry.fields.get("seq") is not None:
                        claim_head(self._claims, Store.REDIS, "room", room, entry.fields)
                    elif entry.fields is not None or entry.tail or entry.listed_at is not None:
                        self._findings.add(Store.REDIS, "room", room, Wrong.TOO_MANY, 0, "no such room")


def _print_of(row: MemberInfo | MemberRow) -> int:
    return hash((row.room, row.user, row.role, row.seq, row.at))


def parts(items: list[_T], size: int) -> Iterator[list[_T]]:
    """`items` in parts of `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
