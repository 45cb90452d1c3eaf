"""Which rooms Cassandra knows, and every event of one of them, in order and checked.

Both come from `room_log` itself; the view `rooms` only says how far a room has come. So a row that is missing in either
shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from agents.durable import read_event
from chat.errors import BrokenInvariant, Refused
from chat.log.topics import partition_of
from chat.records import KIND_RENUMBERED, Event
from chat.rooms.chain import genesis, verify
from chat.settings import Settings
from chat.stores.cassandra.history import BUCKET_SEQS, PAGE_MAX, bucket_of
from chat.stores.cassandra.raw import RawArchive
from chat.stores.model import Stored


@dataclass(slots=True)
class Known:
    """What Cassandra says about one room before any of its events is read."""

    seq: int = 0
    """Of the last event, by the room's row; 0 when it has none."""
    first_seq: int = 0
    """Of the first event of its epoch, by the same row."""
    buckets: list[int] = field(default_factory=list)
    """Partitions of `room_log` that hold events of it."""

    @property
    def least(self) -> int:
        """The room has come at least so far."""
        return max(self.seq, max((bucket * BUCKET_SEQS for bucket in self.buckets), default=0))


Census = dict[int, dict[str, Known]]
"""Rooms by partition of the log."""


async def take_census(settings: Settings, archive: RawArchive, partitions: Iterable[int]) -> Census:
    """All rooms of `partitions`: some hundred bytes of memory each.

    Raises:
        Unavailable: Cassandra does not answer.
    """
    census: Census = {partition: {} for partition in partitions}
    async for buckets in archive.buckets():
        for room, bucket in buckets:
            if (rooms := census.get(partition_of(room, settings.partitions))) is not None:
                rooms.setdefault(room, Known()).buckets.append(bucket)
    async for page in archive.rooms():
        for row in page:
            room = row["room"]
            if (rooms := census.get(partition_of(room, settings.partitions))) is not None:
                known = rooms.setdefault(room, Known())
                known.seq, known.first_seq = row["seq"] or 0, row["first_seq"] or 0
    return census


class ArchivedRoom:
    """The events of one room as Cassandra has them, each one chained to the one before it.

    Of older epochs there may be holes: somebody has accepted that these events are lost, and begun a new epoch.
    """

    def __init__(self, archive: RawArchive, room: str, known: Known) -> None:
        self._archive = archive
        self._room = room
        self._buckets = sorted(known.buckets)
        self._first_seq = known.first_seq
        self._last: Event | None = None
        self._hole: int | None = None

    @property
    def seq(self) -> int:
        """Of the last event that was handed out."""
        return 0 if self._last is None else self._last.seq

    async def pages(self) -> AsyncIterator[list[Stored]]:
        """Pages of events, by seq. In the room's epoch they have no hole.

        What lies behind a hole there is left out: writes of the archiver land in any order, so events beyond its
        position may be there without the ones before them.

        Raises:
            BrokenInvariant: an event does not decode or does not follow the one before it, or a hole is followed by no
                new epoch.
            Unavailable: Cassandra does not answer.
        """
        for bucket in self._buckets:
            after = max(bucket * BUCKET_SEQS, 1) - 1
            while True:
                rows = await self._archive.read_above(self._room, after, PAGE_MAX)
                if page := [stored for row in rows if (stored := self._next(row[0], row[4])) is not None]:
                    yield page
                if len(rows) < PAGE_MAX or bucket_of(rows[-1][0] + 1) != bucket:
                    break
                after = rows[-1][0]
        if self._hole is not None:
            raise self._wrong(self._hole, "events before it are missing, and no new epoch begins after it")

    def _next(self, seq: int, value: bytes | None) -> Stored | None:
        try:
            event = read_event(self._room.encode(), value)
        except Refused as refused:
            raise self._wrong(seq, refused.message) from None
        if event.seq != seq:
            raise self._wrong(seq, f"holds the event of seq {event.seq}")
        last = self._last
        if event.kind == KIND_RENUMBERED or (last is None and event.opens is not None):
            previous: str | None = genesis(self._room, event.epoch)
            self._hole = None
        elif last is not None and event.seq == last.seq + 1:
            previous = last.chain
        elif seq < self._first_seq:
            previous, self._hole = None, seq
        else:
            return None
        if previous is not None and not verify(previous, event):
            raise self._wrong(seq, "does not follow the event before it: its chain is broken")
        self._last = event
        return Stored(event, value or b"")

    def _wrong(self, seq: int, what: str) -> BrokenInvariant:
        return BrokenInvariant(
            f"Cassandra, room {self._room}, seq {seq}: {what}; `faust -A app verify --room {self._room}` says more"
        )


WINDOW: Final = 16
"""Rooms that are read side by side: most are small, and each costs a round trip."""
