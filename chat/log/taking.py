"""Which records of the event log count: the one rule that every reader obeys (docs/architecture.md, "first wins").

A partition of the event log may hold records of writers that have lost it (zombies, an older version, a second start),
repeats, and bytes that no code of ours wrote. All readers must take the same records, so all of them (sequencer
recovery, gateway tail, archiver, projector) hold one `Taker` per partition and feed it every record in offset order:

* a `writer` record is a fence: its offset is the *term* of what follows;
* a record whose `term` header is not the latest fence's offset is a put-out writer's: ignored;
* of the rest, only `src` > the last taken counts (first wins), and it is exactly one more, since each command causes
  exactly one record: anything else is a hole, and holes stop.

A reader may begin only at offset 0 or at a `Position` that another reader of the same log has reached. Pure: no clock,
no loop, no Kafka.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from chat.errors import LogHole
from chat.records import H_CMD, H_KIND, H_SRC, H_TERM, KIND_VERDICT, KIND_WRITER, RecordHeaders, header


class Position(NamedTuple):
    """How far a reader has come in one partition: the checkpoint of every durable reader.

    `offset`: of the last record read, taken or not. `src`: of the last record taken. `term`: offset of the last fence
    read, taken from or not (not the term of the last record taken: see docs/architecture.md). -1 means none yet.
    """

    offset: int
    src: int
    term: int

    def encode(self) -> str:
        """Text for the metadata of a committed offset."""
        return f"{self.offset},{self.src},{self.term}"

    @classmethod
    def decode(cls, text: str) -> Position | None:
        """The position in `text`, or None when it holds none."""
        try:
            offset, src, term = (int(part) for part in text.split(","))
        except ValueError:
            return None
        return cls(offset, src, term)


NUMBER_DIGITS: Final = 20
"""An offset has fewer digits; a longer number was written by nobody of ours (and is slow to read)."""

START = Position(-1, -1, -1)
"""Before the first record of a partition that nobody has trimmed."""


class Take(IntEnum):
    """What a record is to a reader."""

    EVENT = 0
    """Counts: something happened in a room."""
    VERDICT = 1
    """Counts: the answer to a command that became no event."""
    FENCE = 2
    """A writer begins here."""
    FENCED = 3
    """Ignored: its writer had been put out by a later fence."""
    REPEAT = 4
    """Ignored: this command's record has been taken before."""
    FOREIGN = 5
    """Ignored: no record of ours. A durable reader parks it."""


class Taker:
    """The rule, for one partition. Feed it every record, in offset order, exactly once."""

    __slots__ = ("_term_header", "offset", "src", "term")

    def __init__(self, start: Position = START) -> None:
        self.offset, self.src, self.term = start
        self._term_header = b"%d" % self.term

    @property
    def position(self) -> Position:
        """Where this reader is: a valid start for another one."""
        return Position(self.offset, self.src, self.term)

    def wrote(self, count: int) -> None:
        """The next `count` records are the latest fence's writer's, one a command: what it knows of its own batch."""
        self.offset += count
        self.src += count

    def take(self, offset: int, headers: RecordHeaders) -> Take:
        """What the record at `offset` is.

        Raises:
            LogHole: the offset does not follow the last one, or a command's record is missing.
        """
        if offset != self.offset + 1:
            raise LogHole(f"event log: offset {offset} follows {self.offset}")
        # Ours stand in a fixed order; the slow path finds the same answers in any order.
        try:
            (src_name, src_raw), (term_name, term_raw), (kind_name, kind) = headers[:3]
        except ValueError:
            src_name = term_name = kind_name = ""
            src_raw = term_raw = kind = b""
        if src_name != H_SRC or term_name != H_TERM or kind_name != H_KIND:
            src_raw = header(headers, H_SRC) or b""
            term_raw = header(headers, H_TERM) or b""
            kind = header(headers, H_KIND) or b""
        if kind == KIND_WRITER:
            self.offset = self.term = offset
            self._term_header = b"%d" % offset
            return Take.FENCE
        if not (
            kind and src_raw and term_raw and src_raw.isdigit() and term_raw.isdigit() and len(src_raw) < NUMBER_DIGITS
        ):
            self.offset = offset
            return Take.FOREIGN
        if term_raw != self._term_header:
            self.offset = offset
            return Take.FENCED
        src = int(src_raw)
        if src <= self.src:
            self.offset = offset
            return Take.REPEAT
        if src != self.src + 1:
            raise LogHole(f"event log: at offset {offset} command {src} follows {self.src}")
        self.offset = offset
        self.src = src
        return Take.VERDICT if kind == KIND_VERDICT else Take.EVENT


def command_id(headers: RecordHeaders) -> bytes | None:
    """Id that a gateway gave the command which caused this record."""
    if len(headers) > 3 and headers[3][0] == H_CMD:
        return headers[3][1]
    return header(headers, H_CMD)
