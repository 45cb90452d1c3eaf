"""How far a durable reader is: batches in flight, and per partition the position below which everything is written.

Batches are cut from the log in order and written several at a time; they may end in any order. A partition's position
moves when all batches up to it are written: the low-water mark. Only that is ever committed. Pure: no loop, no Kafka.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from chat.log.positions import Checkpoint
from chat.log.producer import Record
from chat.log.taking import Position, Taker
from chat.stores.model import Stored

MARK_S: Final = 1.0
"""How finely the past is remembered for `Checkpoint.again`."""


class Reading:
    """One partition, from its assignment to its revocation (or to a rewind, which begins a new one)."""

    __slots__ = (
        "_again_s",
        "_known",
        "_marks",
        "committed",
        "held",
        "partition",
        "sought_at",
        "taken_at_ms",
        "taker",
        "written",
    )

    def __init__(self, partition: int, start: Checkpoint, *, again_s: float, now: float) -> None:
        """Begins after `start.again`. `again_s`: how old a write must be to count as safe without a repetition."""
        self.partition = partition
        self.taker = Taker(start.again)
        self.written = start.again
        """Everything at or before it is written."""
        self.committed = start
        self.held = ""
        """Why it goes no further; empty while it does."""
        self.sought_at = 0.0
        self.taken_at_ms = 0
        """Log time of the last record read."""
        self._known = start.newest
        self._again_s = again_s
        self._marks: deque[tuple[float, Position]] = deque([(now, start.again)])

    def hold(self, why: str) -> None:
        """The event that was just taken cannot be read here: stand right before it, for good."""
        offset, src, term = self.taker.position
        self.taker = Taker(Position(offset - 1, src - 1, term))
        self.held = why

    @property
    def again(self) -> bool:
        """True while it writes what it, or the reader before it, has written before."""
        return self.taker.offset <= self._known.offset

    def checkpoint(self, now: float) -> Checkpoint:
        """What may be committed now. `newest` never goes back behind what the reader before this one had reached."""
        if self.written.offset >= self._known.offset:
            self._known = self.written
        marks = self._marks
        if now - marks[-1][0] >= MARK_S and marks[-1][1] != self.written:
            marks.append((now, self.written))
        while len(marks) > 1 and marks[1][0] <= now - self._again_s:
            marks.popleft()
        return Checkpoint(self._known, marks[0][1])


class Presence:
    """How long a store has been there, by looks at it: a clock that stands still while it is away.

    A write grows safe with the time that its store lives on after it. One that was acknowledged a moment before a crash
    is no safer an hour later, when the store is back.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """In which the store was there."""
        self.there = False
        """When it was looked at last."""
        self._was_there = False
        self._looked_at = 0.0

    def look(self, there: bool, now: float) -> bool:
        """The store was seen there, or not. True when it has just come back."""
        if self.there and there:
            self.seconds += now - self._looked_at
        back = there and not self.there and self._was_there
        self.there = there
        self._was_there |= there
        self._looked_at = now
        return back


class Batch:
    """Events of any partitions in log order, with the positions that are reached when they are written."""

    __slots__ = ("done", "events", "parked", "positions", "readings", "size_bytes")

    def __init__(self) -> None:
        self.events: list[Stored] = []
        self.parked: list[Record] = []
        self.readings: set[Reading] = set()
        self.positions: dict[Reading, Position] = {}
        self.size_bytes = 0
        self.done = False


class Pipeline:
    """The batch that is being filled, and those that are being written, oldest first."""

    def __init__(self) -> None:
        self.open = Batch()
        self.flying: deque[Batch] = deque()

    def close(self) -> Batch:
        """Cut the open batch at where its partitions are read to, begin a new one."""
        batch, self.open = self.open, Batch()
        batch.positions = {reading: reading.taker.position for reading in batch.readings}
        self.flying.append(batch)
        return batch

    def finished(self, batch: Batch) -> None:
        """`batch` is written: move the positions of every partition whose earlier batches are, too."""
        batch.done = True
        while self.flying and self.flying[0].done:
            for reading, position in self.flying.popleft().positions.items():
                reading.written = position
