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
from agents.sequencing.rows import TABLES, Change, Checkpoint, Rows, load_rows
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


class Model:
    """One partition: commands, events, changelogs, and whoever writes."""

    def __init__(self, weakness: Weakness | None = None) -> None:
        self.weakness = weakness
        self.commands: list[tuple[Command, int]] = []
        self.log: list[Record] = []
        self.changelogs: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.writers: list[Owner] = []
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

    def fence(self, data: dict[str, dict[bytes, bytes]]) -> Owner:
        """Append a fence for an attempt that has read `data`, and fold up to it."""
        name = "worker" if self.weakness is Weakness.FENCE_KNOWN_BY_WORKER else f"attempt-{next(self._names)}"
        rows = load_rows([0], data)[0]  # type: ignore[arg-type]
        restoring = Restoring(0, rows, name)
        if self.weakness is Weakness.READERS_TRUST_ANY_TERM:
            restoring.taker = TrustingTaker(restoring.taker.position)
        if self.weakness is Weakness.NO_FENCE and any(dict(r.headers)["kind"] == b"writer" for r in self.log):
            self.fold_to_the_end(restoring)
        else:
            self.append_fence(name)
            self.fold(restoring)
        if self.weakness is Weakness.ROWS_OF_THE_FOLD_NOT_DIRTY:
            for column in rows._columns.values():
                column.dirty.clear()
        writer = Owner(name, rows, restoring.taker, restoring.clock.at, restoring.taker.src + 1, data)
        self.writers.append(writer)
        return writer

    def append_fence(self, name: str) -> None:
        self.log.append(Record(None, encode(Writer(v=1, id=name)), [("kind", b"writer")]))

    def fold_to_the_end(self, restoring: Restoring) -> None:
        """What a recovery without a fence does."""
        for offset, record in enumerate(self.log):
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
        if writer.dead or writer.out:
            return
        offset, src, term = writer.taker.position
        changes, checkpoint = writer.rows.capture(Checkpoint(offset, src, term, writer.at))

        def own(change: Change) -> tuple[str, Record | None]:
            return change.table, Record(self._key(change.key), change.value, [])

        rows = [own(change) for change in changes]
        last = [own(checkpoint)]
        deletions = [
            (change.table, Record(self._key(key), None, []))
            for change in (*changes, checkpoint)
            for key in change.obsolete
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
