"""The sequencer's tables, made again from Cassandra and the log: for when their changelogs are gone.

The tables are the fold of all events (chat/rooms/state.py), and the changelogs only save folding them from the first
one. Where the log has been trimmed they are the only place that reaches back, and when they are lost, too, Cassandra is
left: it has every event up to the partition's base and some more.

This is a recovery of the sequencer (agents/sequencing/recovery.py) whose rows come from Cassandra instead of a table,
and a snapshot of what it comes to. In this order, for one partition:

1. look where the log begins, at START or at the base, and then which rooms Cassandra knows;
2. append a fence. Its offset F is the term of every row that is written here;
3. fold the events of each room from Cassandra. They reach at least to the base, since nothing is trimmed that is not
   archived;
4. fold the log from its beginning up to F. Cassandra may have been further than the base: an event that a row knows
   already changes nothing (each row remembers the seq it is true at), and one that is missing between the two shows,
   because seq is dense;
5. check that every room has come at least as far as Cassandra says;
6. write the rows, and when all are acknowledged the checkpoint {F, src, F, at}.

Why that is right, whoever else is there. A row of term F is the fold of the log up to F or of more, and one that is
newer than the checkpoint is harmless: the next recovery folds from F on, and repeating an event changes nothing. Rows
that a changelog still has are of a term below F and lose against these, or of one above F: then an owner that came
after F wrote them, they are newer, and its checkpoint, which is of the higher term too, counts. An owner from before F
is put out by the fence and leaves. Killed before 6, nothing has changed but for a fence in the log. Killed within 6,
there are rows without a checkpoint of their term: a recovery that finds no checkpoint stands still as before, or folds
a whole log from its start over rows that are newer. So it may be repeated.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from aiokafka.errors import OffsetOutOfRangeError

from agents.mending.remains import head_before
from agents.sequencing.log import Log
from agents.sequencing.recovery import FENCE_ID_BYTES, Restoring
from agents.sequencing.rows import TABLES, Checkpoint, Rows, Tables
from agents.upkeeping.census import WINDOW, ArchivedRoom, Census, Known
from agents.upkeeping.tasks import together
from chat.errors import BrokenInvariant, LogHole, RoomlogError
from chat.failpoints import failpoint
from chat.log.bases import Base, begin_at, no_beginning
from chat.log.following import follow
from chat.log.producer import Record
from chat.log.topics import EVENTS, changelog
from chat.log.walking import Extent, extents
from chat.records import H_KIND, KIND_WRITER, Event, decode_writer, header
from chat.settings import Settings
from chat.stores.cassandra.raw import RawArchive

WORKER: Final = "rebuild-tables"
"""Who the fence says that it is."""
CAPTURE_EVENTS: Final = 20_000
"""So many events are folded before rows are encoded, which bounds those that are decoded."""
WRITE_ROWS: Final = 5_000
PROGRESS_S: Final = 1.0

Say = Callable[[str], None]


class Rebuilt(NamedTuple):
    """What a partition's tables hold now."""

    partition: int
    rooms: int
    events: int
    rows: int
    checkpoint: Checkpoint

    def __str__(self) -> str:
        return (
            f"partition {self.partition}: {self.rows} rows of {self.rooms} rooms from {self.events} events, "
            f"checkpoint at {self.checkpoint.offset}"
        )


def stands_still(extent: Extent, rows: Rows) -> bool:
    """Whether a sequencer can do nothing with these rows: some are lost, or the log does not reach back to them."""
    checkpoint = rows.checkpoint
    if checkpoint is None:
        return extent.beginning > 0
    return checkpoint.offset + 1 < extent.beginning or rows.count < checkpoint.rows


class TableBuilder:
    """Rebuilds the tables of partitions, one after the other: the rows of one partition are in memory at a time."""

    def __init__(self, settings: Settings, log: Log, archive: RawArchive, tell: Say) -> None:
        """`log` must be started; `archive` may be connecting still. `tell` hears once a second how far it is."""
        self._settings = settings
        self._log = log
        self._archive = archive
        self._tell_line = tell
        self._told_s = time.monotonic()

    async def rebuild(self, partition: int, extent: Extent, base: Base | None, census: Census) -> Rebuilt:
        """Rebuild one partition. `extent`, `base` and `census` were read in this order.

        Raises:
            RoomlogError: the log has no beginning, or Cassandra and the log together do not hold every event: the line
                names the room. Nothing of this partition's tables has changed.
            Unavailable: an engine does not answer.
        """
        start = begin_at(extent.beginning, base)
        if start is None:
            raise RoomlogError(no_beginning(self._settings.topic(EVENTS), partition, extent.beginning))
        at = 0 if base is None or extent.beginning == 0 else base.at
        beginning = Checkpoint(offset=start.offset, src=start.src, term=start.term, at=at)
        fence_id, term = await self._fence(partition)
        failpoint("rebuild-after-fence")

        data: Tables = {table: {} for table in TABLES}
        folding = _Folding(Rows(partition, data), beginning, term)
        await self._fold_archive(partition, census[partition], folding)
        folding.capture()
        restoring = await self._fold_log(partition, folding.rows, fence_id, extent)
        if restoring.taker.term != term:
            raise BrokenInvariant(f"partition {partition}: the fence at {term} was read at {restoring.taker.term}")
        self._check(census[partition], folding.rows)
        position = restoring.taker.position
        checkpoint = Checkpoint(position.offset, position.src, position.term, max(restoring.clock.at, folding.at))
        folding.rows.capture(checkpoint)
        written = await self._write(partition, data)
        return Rebuilt(partition, len(data["rooms"]), folding.events, written, checkpoint)

    async def _fence(self, partition: int) -> tuple[str, int]:
        """Append a fence; its id and its offset."""
        end = (await extents(self._settings, self._settings.topic(EVENTS)))[partition].end
        fence_id = secrets.token_hex(FENCE_ID_BYTES)
        await self._log.append_fence(partition, fence_id, WORKER)
        # The broker may have lost the place of the batch, or have it twice: the first one is the fence.
        for record in await self._log.read_events(partition, end):
            if header(record.headers, H_KIND) == KIND_WRITER:
                writer = decode_writer(record.value)
                if writer is not None and writer.id == fence_id:
                    return fence_id, record.offset
        raise BrokenInvariant(f"partition {partition}: an acknowledged fence is not in the log")

    # ------------------------------------------------------------ Cassandra

    async def _fold_archive(self, partition: int, rooms: Mapping[str, Known], folding: _Folding) -> None:
        left = iter(rooms.items())
        done = 0

        async def fold_rooms() -> None:
            nonlocal done
            for room, known in left:
                async for page in ArchivedRoom(self._archive, room, known).pages():
                    for event, _ in page:
                        folding.fold(event)
                done += 1
                self._tell(f"partition {partition}: {done} of {len(rooms)} rooms, {folding.events} events")

        async with together() as tasks:
            for _ in range(min(WINDOW, len(rooms))):
                tasks.create_task(fold_rooms())

    # ------------------------------------------------------------ the log

    async def _fold_log(self, partition: int, rows: Rows, fence_id: str, extent: Extent) -> Restoring:
        restoring = Restoring(partition, rows, fence_id)
        tp = self._log.event_partition(partition)
        try:
            async with self._log.reader() as consumer:
                ends = await consumer.end_offsets([tp])
                async for _, records in follow(consumer, {tp: restoring.taker.offset + 1}, ends):
                    for record in records:
                        if not restoring.done:
                            restoring.feed(record)
                    self._tell(f"partition {partition}: log read up to {restoring.taker.offset} of {ends[tp]}")
        except OffsetOutOfRangeError:
            raise RoomlogError(f"partition {partition}: the log was trimmed meanwhile: run this again") from None
        except LogHole as hole:
            raise RoomlogError(
                f"partition {partition}: Cassandra and the log, which begins at {extent.beginning}, do not meet: {hole}"
            ) from None
        if not restoring.done:
            raise BrokenInvariant(f"partition {partition}: the log ends before this fence")
        return restoring

    @staticmethod
    def _check(rooms: Mapping[str, Known], rows: Rows) -> None:
        for room, known in rooms.items():
            head = rows.of(room).head
            if head is None or head.seq < known.least:
                raise RoomlogError(
                    f"room {room}: Cassandra says that it has come to seq {known.least}, but its events end at "
                    f"{0 if head is None else head.seq}: `faust -A app verify --room {room}` says more"
                )

    # ------------------------------------------------------------ the changelogs

    async def _write(self, partition: int, data: Tables) -> int:
        written = 0
        *tables, checkpoints = TABLES
        for table in tables:
            topic = self._settings.topic(changelog(table))
            records = [Record(key, value, []) for key, value in data[table].items()]
            for first in range(0, len(records), WRITE_ROWS):
                await self._log.append_rows(topic, partition, records[first : first + WRITE_ROWS])
                failpoint("rebuild-mid-rows")
                written += len(records[first : first + WRITE_ROWS])
                self._tell(f"partition {partition}: {written} rows written")
        failpoint("rebuild-before-checkpoint")
        await self._log.append_rows(
            self._settings.topic(changelog(checkpoints)),
            partition,
            [Record(key, value, []) for key, value in data[checkpoints].items()],
        )
        return written

    def _tell(self, line: str) -> None:
        if time.monotonic() - self._told_s >= PROGRESS_S:
            self._told_s = time.monotonic()
            self._tell_line(line)


class _Folding:
    """Rows of one partition while they are made; encoded from time to time, so that few are decoded at once."""

    def __init__(self, rows: Rows, beginning: Checkpoint, term: int) -> None:
        self.rows = rows
        self.events = 0
        self.at = 0
        """Log time of the newest event."""
        self._beginning = beginning
        self._term = term

    def fold(self, event: Event) -> None:
        head = self.rows.of(event.room).head
        if event.opens is None and (head is None or event.seq > head.seq + 1):
            # Of an older epoch, behind a hole that somebody has accepted: members and client ids of it still count.
            self.rows.assume(event.room, head_before(head, event))
        self.rows.fold(event)
        self.at = max(self.at, event.at)
        self.events += 1
        if self.events % CAPTURE_EVENTS == 0:
            self.capture()

    def capture(self) -> None:
        self.rows.capture(self._beginning, self._term)
