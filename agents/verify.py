"""An audit of what is stored: `faust -A app verify`. Walks the log once and holds Cassandra and Redis against it.

Everything may run meanwhile. So that it is clear what must be where:

1. the log's ends are looked up, then the committed positions of archiver and projector waited for: what lies before
   those must be in the stores;
2. each partition is walked to there, one after the other, as any reader would (`Taker`). Events of a room are collected
   to runs, and each run is read from Cassandra and compared while the walk goes on. At the partition's end each of its
   rooms is compared as a whole: its rows, its people, its entry and its tail in Redis;
3. rooms that only the stores know are looked for, and walked in the archive;
4. what a store said about later events (a claim) is held against the log once more: its ends are looked up again,
   after the stores were read, and what lies between is walked.

Memory holds no room's events: a bounded number of them wait for comparison. It grows with the rooms (about 200 bytes
each), with memberships (70) and, of one partition at a time, with its rooms' people and the hashes of their newest
200 events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agents.durable import read_event
from agents.verify_stores import PAGE_ROWS, InFlight, StoreChecks, parts
from chat.errors import LogHole, Refused
from chat.log.bases import begin_at, no_beginning, read_bases
from chat.log.positions import committed
from chat.log.taking import START, Position, Take
from chat.log.topics import EVENTS, partition_of
from chat.log.walking import Walk, extents
from chat.records import Event
from chat.settings import Settings
from chat.stores.cassandra.raw import RawArchive
from chat.stores.redis.raw import ROOMS_MAX, RawMemory
from chat.verifying.claims import Claims
from chat.verifying.findings import Findings, Store, Wrong
from chat.verifying.room import RoomWalk

RUN_BYTES_MAX: Final = 1_048_576
"""Of a room's events that wait for comparison; `PAGE_ROWS` is the bound of their number."""
WAITING_EVENTS_MAX: Final = 50_000
WAITING_BYTES_MAX: Final = 67_108_864
"""Of all rooms; then all are compared, however few events each has."""
POSITIONS_PERIOD_S: Final = 0.2


@dataclass(slots=True)
class Summary:
    """What an audit looked at and what it found."""

    findings: Findings = field(default_factory=Findings)
    rooms: int = 0
    events: int = 0
    foreign: int = 0
    """Records of the log that no code of ours wrote: every reader passes over them."""
    unread: list[str] = field(default_factory=list)
    """What could not be looked at, a line each."""

    def __str__(self) -> str:
        """One line."""
        foreign = f", {self.foreign} records of strangers passed over" if self.foreign else ""
        if len(self.findings):
            verdict = f"{len(self.findings)} findings"
        else:
            verdict = "not all could be read" if self.unread else "log, Cassandra and Redis agree"
        return f"{self.events} events of {self.rooms} rooms{foreign}: {verdict}"

    @property
    def status(self) -> int:
        """Exit status: 0 clean, 1 something is wrong, 2 nothing is known to be wrong but not all could be read."""
        return 1 if len(self.findings) else 2 if self.unread else 0


@dataclass(slots=True)
class _Stretch:
    """What is walked of one partition."""

    partition: int
    position: Position
    end: int


class Audit:
    """One audit: of everything, of one partition, or of one room."""

    def __init__(
        self,
        settings: Settings,
        *,
        room: str | None = None,
        partition: int | None = None,
        say: Callable[[str], None] = lambda _line: None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """An audit that tells `say` what it does, and `progress` how many records of how many it has walked."""
        self._settings = settings
        self._only = room
        if room is not None:
            partition = partition_of(room, settings.partitions)
        self._partitions = set(range(settings.partitions)) if partition is None else {partition}
        self._say = say
        self._progress = progress
        self._topic = settings.topic(EVENTS)
        self.summary = Summary()
        self._claims = Claims(self.summary.findings)
        self._archive = RawArchive(settings)
        self._memory = RawMemory(settings)
        self._checks = StoreChecks(settings, self._archive, self._memory, self.summary.findings, self._claims)
        self._known: dict[str, int] = {}
        """Rooms that were walked, and where the walk of each ended."""
        self._unproved: dict[str, Findings] = {}
        """Of rooms that the log did not hold: unless it turns out that they were made meanwhile."""
        self._done = self._total = 0

    # ------------------------------------------------------------ the whole of it

    async def connect(self) -> None:
        """Connect to the engines. `Unavailable` when one does not answer: may be called again."""
        await extents(self._settings, self._topic)
        await self._archive.ready()
        await self._memory.whole()

    async def stop(self) -> None:
        """Close all connections."""
        await self._archive.stop()
        await self._memory.stop()

    async def run(self, wait_s: float) -> Summary:
        """Do it, once. Waits `wait_s` seconds at most until archiver and projector are where the log ends.

        Raises:
            Unavailable: an engine does not answer. What was found before is in `summary`, and it is not all.
            BrokenInvariant: the log cannot be read by this version, or as any reader would.
        """
        stretches = await self._stretches(wait_s)
        self._total = sum(max(0, each.end - each.position.offset - 1) for each in stretches)
        self._progress(0, self._total)
        for stretch in stretches:
            await self._walk(stretch)
        if self._only is None:
            await self._beside({each.partition for each in stretches})
        elif stretches and self._only not in self._known:
            await self._stranger(self._only)
        await self._settle(stretches)
        self.summary.rooms = len(self._known)
        return self.summary

    async def _stretches(self, wait_s: float) -> list[_Stretch]:
        whole = await extents(self._settings, self._topic)
        bounds = {partition: whole[partition] for partition in sorted(self._partitions)}
        reached = await self._until_stored({p: end for p, (_, end) in bounds.items()}, time.monotonic() + wait_s)
        bases = await read_bases(self._settings) if any(begin for begin, _ in bounds.values()) else {}
        stretches = []
        for partition, (begin, end) in bounds.items():
            start = begin_at(begin, bases.get(partition))
            if start is None:
                self.summary.unread.append(no_beginning(self._topic, partition, begin))
                continue
            stored = end
            for role, positions in reached.items():
                offset = positions.get(partition, START).offset
                if offset + 1 < end:
                    stored = min(stored, offset + 1)
                    self.summary.unread.append(
                        f"{self._topic} partition {partition}: the {role} has come to {offset + 1} of {end}: what "
                        "follows is not verified"
                    )
            stretches.append(_Stretch(partition, start, stored))
        return stretches

    async def _until_stored(self, ends: Mapping[int, int], deadline: float) -> dict[str, dict[int, Position]]:
        """How far archiver and projector are, once both are at `ends`, or at the deadline."""
        waiting = False
        while True:
            reached = {
                role: {p: checkpoint.newest for p, checkpoint in (await committed(self._settings, role)).items()}
                for role in ("archiver", "projector")
            }
            whole = await self._memory.whole()
            missing = self._partitions - whole
            stored = all(
                positions.get(p, START).offset + 1 >= end for positions in reached.values() for p, end in ends.items()
            )
            if stored and not missing:
                return reached
            if time.monotonic() >= deadline:
                if missing:
                    self.summary.unread.append(f"Redis: {len(missing)} partitions are being rebuilt by the projector")
                return reached
            if not waiting:
                waiting = True
                self._say("waiting for archiver and projector")
            await asyncio.sleep(POSITIONS_PERIOD_S)

    # ------------------------------------------------------------ the log

    async def _walk(self, stretch: _Stretch) -> None:
        rooms: dict[str, RoomWalk] = {}
        compare = InFlight()
        try:
            await self._take(stretch, rooms, compare)
            for walk in rooms.values():
                walk.close()
                await compare.put(self._checks.rows(walk.room, walk.cut()))
            for walk in rooms.values():
                await compare.put(self._checks.room(walk))
                if self._only is not None:
                    await compare.put(self._checks.lists(walk))
            for some in parts(list(rooms.values()), ROOMS_MAX):
                await compare.put(self._checks.entries(some))
            await compare.landed()
        finally:
            await compare.cancel()
        self._known.update((room, walk.seq) for room, walk in rooms.items())

    async def _take(self, stretch: _Stretch, rooms: dict[str, RoomWalk], compare: InFlight) -> None:
        part = f"{EVENTS}/{stretch.partition}"
        waiting_events = waiting_bytes = 0
        async for event, value in self._events(stretch):
            walk = rooms.get(event.room)
            if walk is None:
                walk = rooms[event.room] = await self._enter(event, part)
            walk.take(event, value)
            waiting_events += 1
            waiting_bytes += len(value)
            if walk.waiting >= PAGE_ROWS or walk.rows_bytes >= RUN_BYTES_MAX:
                waiting_events -= walk.waiting
                waiting_bytes -= walk.rows_bytes
                await compare.put(self._checks.rows(walk.room, walk.cut()))
            elif waiting_events >= WAITING_EVENTS_MAX or waiting_bytes >= WAITING_BYTES_MAX:
                waiting_events = waiting_bytes = 0
                for each in rooms.values():
                    if each.waiting:
                        await compare.put(self._checks.rows(each.room, each.cut()))

    async def _enter(self, event: Event, part: str) -> RoomWalk:
        """The walk of a room whose first event in the log is `event`: what is before it only the archive has."""
        if event.opens is not None:
            return RoomWalk(event.room, self.summary.findings, Store.LOG, part)
        walk = RoomWalk(event.room, self.summary.findings, Store.CASSANDRA, "room_log")
        await self._checks.before(walk, event)
        walk.go_on_in(Store.LOG, part, event)
        return walk

    async def _events(self, stretch: _Stretch) -> AsyncIterator[tuple[Event, bytes]]:
        """The events that count, from the stretch's position to its end; of the one room only, when one was named."""
        only = None if self._only is None else self._only.encode()
        walk = Walk(self._settings, stretch.partition, stretch.position, stretch.end)
        try:
            async for records in walk:
                for take, record in records:
                    if take is Take.FOREIGN:
                        self.summary.foreign += 1
                    if take is not Take.EVENT or (only is not None and record.key != only):
                        continue
                    event = self._decoded(stretch.partition, record)
                    if event is not None:
                        yield event, record.value
                self._done += len(records)
                self._progress(self._done, self._total)
        except LogHole as hole:
            detail = f"{hole}; no reader takes what follows"
            self.summary.findings.add(Store.LOG, f"{EVENTS}/{stretch.partition}", "", Wrong.MISSING, 0, detail)
        stretch.position = walk.position

    def _decoded(self, partition: int, record: Any) -> Event | None:
        try:
            event = read_event(record.key, record.value)
        except Refused as refused:
            room = (record.key or b"").decode("utf-8", "replace")
            detail = f"at offset {record.offset}: {refused.message}"
            self.summary.findings.add(Store.LOG, f"{EVENTS}/{partition}", room, Wrong.UNDECODABLE, 0, detail)
            return None
        self.summary.events += 1
        return event

    # ------------------------------------------------------------ what the log does not hold

    async def _beside(self, partitions: set[int]) -> None:
        for room in await self._checks.strangers(self._known, partitions):
            await self._stranger(room)
        await self._checks.people(self._known, partitions)
        await self._checks.entries_of_strangers(self._known, partitions)

    async def _stranger(self, room: str) -> None:
        findings = Findings()
        walk = RoomWalk(room, findings, Store.CASSANDRA, "room_log")
        if not await self._checks.reporting_to(findings).archived(walk):
            self.summary.unread.append(f"room {room}: neither the log nor Cassandra has it")
            return
        if len(findings):
            self._unproved[room] = findings
        self._known[room] = walk.seq

    async def _settle(self, stretches: list[_Stretch]) -> None:
        """Hold the claims against the rest of the log."""
        if len(self._claims) or self._unproved:
            ends = await extents(self._settings, self._topic)
            for stretch in stretches:
                stretch.end = ends[stretch.partition].end
                async for event, value in self._events(stretch):
                    self._claims.settle(event, value)
                    if event.opens is not None:
                        self._unproved.pop(event.room, None)
        self._claims.close()
        for findings in self._unproved.values():
            self.summary.findings.update(findings)
