"""A partition with several writers, some of them dead, some of them hanging: the real rules on a log in memory.

The parts are the product's own: `decide`, the rows, `Restoring` (recovery's fold), `Taker`. What is modelled is what
Kafka and the processes do: batches that land late, writers that die between any two steps, snapshots whose records
become visible one after the other, compaction that has not happened yet. `Weakness` takes one rule away at a time; the
tests show that each is missed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

from agents.sequencing.recovery import Restoring
from agents.sequencing.rows import TABLES, Change, Checkpoint, Rows, load_rows, split_key
from chat.errors import Code, LogHole
from chat.log.producer import Record
from chat.log.taking import START, Position, Take, Taker
from chat.records import KIND_RENUMBERED, Command, Event, Writer, decode_event, encode, header, record_headers
from chat.rooms.decide import decide, log_time, refuse_undecodable


class Weakness(Enum):
    """A rule that is left out."""

    NO_FENCE = auto()
    """A new owner folds to the end that it saw and writes on, with the term of whoever was there."""
    BASE_OFFSET_NOT_LOOKED_AT = auto()
    CHECKPOINT_BEFORE_ITS_ROWS = auto()
    ROWS_OF_THE_FOLD_NOT_DIRTY = auto()
    KEYS_WITHOUT_TERM = auto()
    OLD_ROWS_DELETED_BEFORE_OWN = auto()
    READERS_TRUST_ANY_TERM = auto()
    ROWS_READ_BEFORE_CHECKPOINTS = auto()
    FENCE_BEFORE_ROWS = auto()
    FENCE_KNOWN_BY_WORKER = auto()
    END_READ_BEFORE_THE_FENCE = auto()
    """A new owner folds to an end that it looked up before its fence was there."""
    POSITION_FROM_COMMITS = auto()
    """A new owner goes on at the offset that the group has committed."""
    SNAPSHOT_WHEN_OUT = auto()
    SNAPSHOTS_NOT_IDEMPOTENT = auto()
    """A row that was sent twice may land a second time, later."""
    ALL_OLD_ROWS_DELETED = auto()
    """With a snapshot every row of an older term goes, not only those that it replaces."""
    ENDED_ROWS_DELETED = auto()
    """A membership that ends is deleted, not kept as ended."""
    COMPACTED_WHILE_READ = auto()
    """Compaction does not wait: a row goes after the changelog's end was looked up, and the newer one lies behind."""
    STOPPED_BY_OLD_ROWS = auto()
    """Rows that are older than the log's beginning stop the partition, though newer ones are there."""
    POSITION_RESET = auto()
    """A reader whose position is gone goes on at the log's beginning by itself."""
    FIRST_RECORD_TRUSTED = auto()
    """A tail begins at the log's end and believes the first record that it meets."""
    FENCE_WAITED_FOR = auto()
    """A tail begins at the log's beginning and takes nothing before it has met a fence."""
    TERM_OF_THE_LAST_TAKEN = auto()
    """A reader's checkpoint names the term of the last record taken, not of the last fence read."""


@dataclass
class Owner:
    """One attempt of one process."""

    name: str
    rows: Rows
    taker: Taker
    at: int
    next_: int
    data: dict[str, dict[bytes, bytes]]
    pending: list[tuple[str, Record | None]] = field(default_factory=list)
    """Records of a snapshot that are not in the changelogs yet, in the order of their sending."""
    dead: bool = False
    out: bool = False
    strict: bool = False
    """Another version: it refuses messages that say "x"."""


class TrustingTaker(Taker):
    """A reader that takes whatever comes first, of any term."""

    def take(self, offset: int, headers: Any) -> Take:
        term = header(headers, "term")
        if term is not None:
            self._term_header = term
        return super().take(offset, headers)


class Reader:
    """A gateway's tail or a durable reader: where it is, and what it has taken."""

    def __init__(self, taker: Taker) -> None:
        self.taker = taker
        self.taken: list[bytes | None] = []
        self.last_term = -1
        """Of the last record taken."""
        self.believes_the_next = False


class Model:
    """One partition: commands, events, changelogs, and whoever writes."""

    def __init__(self, weakness: Weakness | None = None) -> None:
        self.weakness = weakness
        self.commands: list[tuple[Command, int]] = []
        self.log: list[Record] = []
        self.changelogs: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.writers: list[Owner] = []
        self.beginning = 0
        """First offset that has not been trimmed. The model keeps what is gone, so that it can check the whole."""
        self.handed_over = 0
        """Next offset of the commands by the group's commits: Faust acknowledges what an agent has been given."""
        self._names = itertools.count()

    # ------------------------------------------------------------ the world

    def append_command(self, command: Command, stamp_ms: int) -> None:
        self.commands.append((command, stamp_ms))

    def start(self) -> Owner:
        """A new owner: rows, fence, fold."""
        return self.fence(self.read_rows())

    def read_rows(self) -> dict[str, dict[bytes, bytes]]:
        """The tables as a recovery reads them, checkpoints first: nothing lands in between here."""
        return {table: dict(rows) for table, rows in self.changelogs.items()}

    def trim(self) -> None:
        """The log is cut at the newest checkpoint, if there is one."""
        checkpoint = self.newest_checkpoint()
        if checkpoint is not None:
            self.beginning = max(self.beginning, checkpoint.offset + 1)

    def fence(self, data: dict[str, dict[bytes, bytes]], saw_end: int | None = None) -> Owner:
        """Append a fence for an attempt that has read `data`, and fold up to it.

        `saw_end` is the log's end when it looked, for the weakness that relies on that.
        """
        if self._known(data) + 1 < self.beginning and self.weakness is not Weakness.POSITION_RESET:
            # As recovery.begin_attempts: such an attempt leaves, and the next one reads the newer rows.
            assert self.weakness is not Weakness.STOPPED_BY_OLD_ROWS, "stands still though nothing is lost"
            data = self.read_rows()
            assert self._known(data) + 1 >= self.beginning, "stands still"
        name = "worker" if self.weakness is Weakness.FENCE_KNOWN_BY_WORKER else f"attempt-{next(self._names)}"
        rows = load_rows([0], data)[0]  # type: ignore[arg-type]
        restoring = Restoring(0, rows, name)
        if self.weakness is Weakness.READERS_TRUST_ANY_TERM:
            restoring.taker = TrustingTaker(restoring.taker.position)
        if restoring.taker.offset + 1 < self.beginning:
            restoring.taker.offset = self.beginning - 1
        if self.weakness is Weakness.END_READ_BEFORE_THE_FENCE and saw_end is not None:
            self.fold_to_the_end(restoring, saw_end)
            self.append_fence(name)
            restoring.taker = Taker(Position(len(self.log) - 1, restoring.taker.src, len(self.log) - 1))
        elif self.weakness is Weakness.NO_FENCE and any(dict(r.headers)["kind"] == b"writer" for r in self.log):
            self.fold_to_the_end(restoring)
        else:
            self.append_fence(name)
            self.fold(restoring)
        if self.weakness is Weakness.ROWS_OF_THE_FOLD_NOT_DIRTY:
            for column in rows._columns.values():
                column.dirty.clear()
        if self.weakness is Weakness.POSITION_FROM_COMMITS:
            restoring.taker.src = self.handed_over - 1
        writer = Owner(name, rows, restoring.taker, restoring.clock.at, restoring.taker.src + 1, data)
        self.writers.append(writer)
        return writer

    def _known(self, data: dict[str, dict[bytes, bytes]]) -> int:
        checkpoint = load_rows([0], data)[0].checkpoint  # type: ignore[arg-type]
        return -1 if checkpoint is None else checkpoint.offset

    def append_fence(self, name: str) -> None:
        self.log.append(Record(None, encode(Writer(v=1, id=name)), [("kind", b"writer")]))

    def fold_to_the_end(self, restoring: Restoring, end: int | None = None) -> None:
        """What a recovery without a fence does."""
        for offset, record in enumerate(self.log[:end]):
            if offset > restoring.taker.offset:
                restoring.feed(
                    SimpleNamespace(offset=offset, headers=tuple(record.headers), value=record.value, timestamp=0)
                )

    def fold(self, restoring: Restoring) -> None:
        """Fold the log from the checkpoint to the attempt's own fence."""
        for offset in range(restoring.taker.offset + 1, len(self.log)):
            record = self.log[offset]
            restoring.feed(
                SimpleNamespace(offset=offset, headers=tuple(record.headers), value=record.value, timestamp=0)
            )
            if restoring.done:
                break
        assert restoring.done, "the fold never meets its fence"

    # ------------------------------------------------------------ a writer's steps

    def decide(self, writer: Owner, count: int) -> list[Record]:
        """Take up to `count` commands and decide them: the batch that is on its way."""
        records = []
        for command, stamp_ms in self.commands[writer.next_ : writer.next_ + count]:
            writer.at = log_time(stamp_ms, writer.at)
            answer = decide(writer.rows.of(getattr(command, "room", "")), command, writer.at)
            if writer.strict and getattr(command, "body", "") == "x":
                answer = refuse_undecodable("", Code.FORBIDDEN, "no x", writer.at)
            kind = "verdict"
            if isinstance(answer, Event):
                writer.rows.fold(answer)
                kind = answer.kind
            records.append(Record(b"", encode(answer), record_headers(writer.next_, writer.taker.term, kind)))
            writer.next_ += 1
        self.handed_over = writer.next_
        return records

    def land(self, writer: Owner, batch: list[Record]) -> None:
        """The batch is appended and acknowledged; the writer looks where."""
        base = len(self.log)
        self.log += batch
        if writer.dead:
            return
        if base == writer.taker.offset + 1 or self.weakness is Weakness.BASE_OFFSET_NOT_LOOKED_AT:
            writer.taker.offset = base - 1
            writer.taker.wrote(len(batch))
            return
        for offset in range(writer.taker.offset + 1, base + len(batch)):
            if writer.taker.take(offset, tuple(self.log[offset].headers)) is Take.FENCE:
                writer.out = True
                return

    def write(self, writer: Owner, count: int = 1) -> None:
        """Decide and land without anything in between."""
        if not (writer.dead or writer.out):
            batch = self.decide(writer, count)
            if batch:
                self.land(writer, batch)

    def snapshot(self, writer: Owner) -> None:
        """Capture acknowledged state; its records wait to become visible, in order."""
        if writer.dead or (writer.out and self.weakness is not Weakness.SNAPSHOT_WHEN_OUT):
            return
        offset, src, term = writer.taker.position
        changes, checkpoint = writer.rows.capture(Checkpoint(offset, src, term, writer.at))

        def own(change: Change) -> tuple[str, Record | None]:
            ended = self.weakness is Weakness.ENDED_ROWS_DELETED and b'"role":"none"' in change.value
            return change.table, Record(self._key(change.key), None if ended else change.value, [])

        rows = [own(change) for change in changes]
        last = [own(checkpoint)]
        deletions = [
            (change.table, Record(self._key(key), None, []))
            for change in (*changes, checkpoint)
            for key in change.obsolete
        ]
        if self.weakness is Weakness.ALL_OLD_ROWS_DELETED:
            deletions = [
                (table, Record(key, None, []))
                for table, of_table in writer.data.items()
                for key in of_table
                if split_key(key)[1] < term
            ]
        if self.weakness is Weakness.CHECKPOINT_BEFORE_ITS_ROWS:
            writer.pending += last + rows + deletions
        elif self.weakness is Weakness.OLD_ROWS_DELETED_BEFORE_OWN:
            writer.pending += deletions + rows + last
        else:
            writer.pending += rows + last + deletions

    def _key(self, key: bytes) -> bytes:
        if self.weakness is Weakness.KEYS_WITHOUT_TERM:
            partition, _, rest = key.partition(b":")
            return partition + b":0:" + rest.partition(b":")[2]
        return key

    def show(self, writer: Owner, count: int = 1_000) -> None:
        """The next records of a writer's snapshots land; a dead writer's may, too (they were on their way)."""
        for table, record in writer.pending[:count]:
            assert record is not None
            assert record.key is not None
            if record.value is None:
                self.changelogs[table].pop(record.key, None)
            else:
                self.changelogs[table][record.key] = record.value
        del writer.pending[:count]

    def kill(self, writer: Owner) -> None:
        """The process is gone."""
        writer.dead = True

    # ------------------------------------------------------------ readers

    def newest_checkpoint(self) -> Checkpoint | None:
        """Where a new reader may begin."""
        return load_rows([0], self.read_rows())[0].checkpoint  # type: ignore[arg-type]

    def tail_begins(self) -> Reader:
        """A gateway starts: its tail begins at the newest checkpoint, or at offset 0 of a log that is whole."""
        if self.weakness is Weakness.FIRST_RECORD_TRUSTED:
            reader = Reader(Taker(Position(len(self.log) - 1, len(self.commands) - 1, -1)))
            reader.believes_the_next = True
            return reader
        if self.weakness is Weakness.FENCE_WAITED_FOR:
            return Reader(Taker(Position(self.beginning - 1, -1, -1)))
        checkpoint = self.newest_checkpoint()
        assert checkpoint is not None or self.beginning == 0, "a tail has nowhere to begin"
        return Reader(Taker(START if checkpoint is None else checkpoint.position))

    def follow(self, reader: Reader, count: int | None = None) -> None:
        """`reader` reads the next `count` records (None: to the end)."""
        start = reader.taker.offset + 1
        assert start >= self.beginning, "its position is gone"
        for offset in range(start, len(self.log) if count is None else min(len(self.log), start + count)):
            headers = tuple(self.log[offset].headers)
            if reader.believes_the_next and (term := header(headers, "term")) is not None:
                reader.taker = Taker(Position(offset - 1, int(header(headers, "src") or b"0") - 1, int(term)))
                reader.believes_the_next = False
            if reader.taker.take(offset, headers) in (Take.EVENT, Take.VERDICT):
                reader.taken.append(self.log[offset].value)
                reader.last_term = int(header(headers, "term") or b"-1")

    def restarted(self, reader: Reader) -> Reader:
        """`reader` was killed and begins again where its checkpoint says; what it took stays in its store."""
        offset, src, term = reader.taker.position
        if self.weakness is Weakness.TERM_OF_THE_LAST_TAKEN:
            term = reader.last_term
        again = Reader(Taker(Position(offset, src, term)))
        again.taken = reader.taken
        again.last_term = reader.last_term
        return again

    def taken(self, start: Position = START) -> list[Record]:
        """What a reader that begins at `start` takes."""
        taker = (TrustingTaker if self.weakness is Weakness.READERS_TRUST_ANY_TERM else Taker)(start)
        return [
            record
            for offset, record in enumerate(self.log)
            if offset > start.offset and taker.take(offset, tuple(record.headers)) in (Take.EVENT, Take.VERDICT)
        ]

    def check(self) -> None:
        """What is taken is what the rules make of the commands, in their order: AssertionError or LogHole if not."""
        expected = self._expected()
        taken = self.taken()
        got = [record.value for record in taken]
        assert got == expected[: len(got)], "a reader takes something else than the rules say"
        seqs: dict[str, int] = {}
        ids: set[tuple[str, str, str]] = set()
        for record in taken:
            if dict(record.headers)["kind"] == b"verdict":
                continue
            event = decode_event(record.value)
            jumps = event.kind == KIND_RENUMBERED and event.seq > seqs.get(event.room, 0)
            if not jumps and event.seq != seqs.get(event.room, 0) + 1:
                raise LogHole(f"{event.room}: {event.seq} follows {seqs.get(event.room, 0)}")
            seqs[event.room] = event.seq
            if event.client_id is not None:
                assert (event.room, event.sender, event.client_id) not in ids, "a client id stands twice"
                ids.add((event.room, event.sender, event.client_id))

    def _expected(self) -> list[bytes]:
        rows = Rows(0, {table: {} for table in TABLES})
        values, at = [], 0
        for command, stamp_ms in self.commands:
            at = log_time(stamp_ms, at)
            answer = decide(rows.of(getattr(command, "room", "")), command, at)
            if isinstance(answer, Event):
                rows.fold(answer)
            values.append(encode(answer))
        return values
