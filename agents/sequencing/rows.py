"""The rows of one partition: what stands in the tables, looked up as the rules want it, and which of it is new.

A row's physical key is `<partition>:<term>:<logical key>`: a writer that has been put out can only ever overwrite rows
of its own term, whenever its records land. Of one logical key the row with the highest term counts. Rows are decoded
when they are first asked for; what a fold changes is dirty until it has been captured for a snapshot.

Pure: knows dictionaries of bytes (the tables' data), no Faust and no Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from chat.errors import Code, Refused, UnknownVersion
from chat.log.taking import Position
from chat.records import VERSION, Event
from chat.rooms.state import Head, Member, Sender, fold_head, fold_member, fold_sender

TABLES: Final = ("rooms", "members", "senders", "checkpoints")

DECODED_MAX: Final = {"rooms": 20_000, "members": 20_000, "senders": 2_000}
"""Rows of a partition that stay decoded between snapshots; beyond it they are decoded again when asked for. A sender's
is the largest, about 25 KB with all of its ids."""

T = TypeVar("T")
Tables = dict[str, MutableMapping[bytes, bytes]]


class Row(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """The value of a row. No `row` means gone: it ended, and no older term's may bring it back."""

    v: int
    term: int
    src: int
    row: T | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """How far the rows of a partition are: everything up to this position of the event log is in them."""

    offset: int
    src: int
    term: int
    at: int
    """Log time of the last record taken."""
    rows: int = 0
    """How many rows it vouches for, of any age: none ever goes, so fewer means that a changelog has lost some. 0: an
    older Roomlog wrote it and did not count."""

    @property
    def position(self) -> Position:
        """Where a recovery goes on reading."""
        return Position(self.offset, self.src, self.term)


_encode = msgspec.json.Encoder().encode
_decoders: dict[str, msgspec.json.Decoder[Row[Any]]] = {
    "rooms": msgspec.json.Decoder(Row[Head]),
    "members": msgspec.json.Decoder(Row[Member]),
    "senders": msgspec.json.Decoder(Row[Sender]),
    "checkpoints": msgspec.json.Decoder(Row[Checkpoint]),
}


class _Stamp(msgspec.Struct):
    v: int
    term: int
    src: int


_stamp_decoder = msgspec.json.Decoder(_Stamp)


def physical_key(partition: int, term: int, key: str) -> bytes:
    """Key of a row as it stands in the changelog and the table."""
    return b"%d:%d:%s" % (partition, term, key.encode())


def split_key(physical: bytes) -> tuple[int, int, str]:
    """(partition, term, logical key); `Refused(undecodable)` for a key that is none of ours."""
    partition, _, rest = physical.partition(b":")
    term, separator, key = rest.partition(b":")
    if not (separator and partition.isdigit() and term.isdigit() and len(partition) < 10 and len(term) < 20):
        raise Refused(Code.UNDECODABLE, "not the key of a row")
    try:
        return int(partition), int(term), key.decode()
    except UnicodeDecodeError:
        raise Refused(Code.UNDECODABLE, "not the key of a row") from None


def check_row(partition: int, physical: bytes, value: bytes) -> None:
    """Return when a changelog record may be one of ours.

    Raises:
        Refused: it is none: park it, the row of that key stays what it was.
        UnknownVersion: a newer sequencer wrote it.
    """
    owner, term, _ = split_key(physical)
    try:
        stamp = _stamp_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Code.UNDECODABLE, f"not a row: {error}") from None
    if stamp.v > VERSION:
        raise UnknownVersion(f"row version {stamp.v}, this sequencer knows {VERSION}: upgrade this worker")
    if owner != partition or stamp.term != term:
        raise Refused(Code.IMPOSSIBLE, "a row whose key and value or partition disagree")


class Change(NamedTuple):
    """A row to be written, and the rows of older terms that it makes needless."""

    table: str
    key: bytes
    value: bytes
    obsolete: tuple[bytes, ...]


class Column(Generic[T]):
    """The rows of one kind in one partition, by logical key."""

    __slots__ = ("_data", "_decode", "_decoded", "_decoded_max", "_name", "_older", "_partition", "_terms", "dirty")

    def __init__(self, name: str, partition: int, data: MutableMapping[bytes, bytes]) -> None:
        self._name = name
        self._partition = partition
        self._data = data
        self._decode = _decoders[name].decode
        self._decoded: dict[str, T | None] = {}
        self._decoded_max = DECODED_MAX.get(name, 1)
        self._terms: dict[str, int] = {}
        self._older: dict[str, list[int]] = {}
        self.dirty: set[str] = set()

    @property
    def count(self) -> int:
        """Keys that stand in the table."""
        return len(self._terms)

    def load(self, term: int, key: str) -> None:
        """A row of `term` stands in the table: the highest term of each key counts."""
        known = self._terms.setdefault(key, term)
        if known != term:
            self._terms[key] = max(known, term)
            self._older.setdefault(key, []).append(min(known, term))

    def get(self, key: str) -> T | None:
        """The row as it is now, or None."""
        try:
            return self._decoded[key]
        except KeyError:
            term = self._terms.get(key)
            if term is None:
                return None
            row = self._decode(self._data[physical_key(self._partition, term, key)]).row
            self._decoded[key] = row
            return row

    def keys(self) -> Iterator[str]:
        """Every key that has a row, or had one."""
        return iter(self._terms.keys() | self._decoded.keys())

    def put(self, key: str, row: T | None) -> None:
        """The row has changed (None: it ended)."""
        self._decoded[key] = row
        self.dirty.add(key)

    def capture(self, term: int, src: int) -> Iterator[Change]:
        """Encode what is dirty, as rows of `term`; from here on it counts as clean."""
        for key in self.dirty:
            known = self._terms.get(key)
            obsolete = self._older.pop(key, [])
            if known is not None and known != term:
                obsolete.append(known)
            self._terms[key] = term
            value = _encode(Row(VERSION, term, src, self._decoded[key]))
            physical = physical_key(self._partition, term, key)
            # The table has it at once, and what it replaces no longer: it is only ever read through this writer.
            self._data[physical] = value
            replaced = tuple(physical_key(self._partition, old, key) for old in obsolete)
            for each in replaced:
                self._data.pop(each, None)
            yield Change(self._name, physical, value, replaced)
        self.dirty.clear()
        if len(self._decoded) > self._decoded_max:
            self._decoded.clear()

    def drop(self) -> None:
        """Take the rows out of the table: the partition has moved away."""
        for key, term in self._terms.items():
            for each in (term, *self._older.get(key, ())):
                self._data.pop(physical_key(self._partition, each, key), None)
        self._decoded.clear()
        self._terms.clear()
        self._older.clear()
        self.dirty.clear()


class _OfRoom(Generic[T]):
    """A column seen from one room: rows by user."""

    __slots__ = ("_column", "room")

    def __init__(self, column: Column[T]) -> None:
        self._column = column
        self.room = ""

    def get(self, user: str, /) -> T | None:
        return self._column.get(f"{self.room}/{user}")


class Rows:
    """All rows of one partition. `of(room)` is the room as `chat.rooms.decide` wants it."""

    def __init__(self, partition: int, tables: Tables) -> None:
        self._heads: Column[Head] = Column("rooms", partition, tables["rooms"])
        self._members: Column[Member] = Column("members", partition, tables["members"])
        self._senders: Column[Sender] = Column("senders", partition, tables["senders"])
        self._checkpoints: Column[Checkpoint] = Column("checkpoints", partition, tables["checkpoints"])
        self._columns: dict[str, Column[Any]] = {
            "rooms": self._heads,
            "members": self._members,
            "senders": self._senders,
            "checkpoints": self._checkpoints,
        }
        self.members = _OfRoom(self._members)
        self.senders = _OfRoom(self._senders)
        self._room = ""

    @property
    def count(self) -> int:
        """Rows that stand in the tables, checkpoints aside: one for each logical key."""
        return sum(self._columns[name].count for name in TABLES[:-1])

    def load(self, table: str, term: int, key: str) -> None:
        """A row of `table` is in the table's data."""
        self._columns[table].load(term, key)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest one."""
        return self._checkpoints.get("")

    def of(self, room: str) -> Rows:
        """The same rows, seen from `room`: valid until the next call."""
        self._room = self.members.room = self.senders.room = room
        return self

    @property
    def head(self) -> Head | None:
        """Of the room chosen by `of`."""
        return self._heads.get(self._room)

    def rooms(self) -> Iterator[str]:
        """Every room that has a head."""
        return self._heads.keys()

    def assume(self, room: str, head: Head) -> None:
        """Have the head of `room` be this one: for an operation that accepts a loss, and nobody else."""
        self._heads.put(room, head)

    def fold(self, event: Event) -> None:
        """Take `event` into the rows it concerns. Harmless to repeat."""
        room = event.room
        head = self._heads.get(room)
        after = fold_head(head, event)
        if after is not head:
            self._heads.put(room, after)
        if event.member is not None:
            key = f"{room}/{event.member.user}"
            member = self._members.get(key)
            changed = fold_member(member, event)
            if changed is not member:
                self._members.put(key, changed)
        key = f"{room}/{event.sender}"
        sender = self._senders.get(key)
        last = -1 if sender is None else sender.last
        sender = fold_sender(sender, event)
        if sender.last != last:
            self._senders.put(key, sender)

    def capture(self, checkpoint: Checkpoint, term: int | None = None) -> tuple[list[Change], Change]:
        """What a snapshot at `checkpoint` writes: the changed rows, and the checkpoint that goes after all of them.

        `term`: whose rows they are, for a writer whose rows do not come from its own term's records.
        """
        term, src = checkpoint.term if term is None else term, checkpoint.src
        changes = [change for name in TABLES[:-1] for change in self._columns[name].capture(term, src)]
        self._checkpoints.put("", msgspec.structs.replace(checkpoint, rows=self.count))
        (last,) = self._checkpoints.capture(term, src)
        return changes, last

    def drop(self) -> None:
        """Take every row out of the tables: the partition has moved away."""
        for column in self._columns.values():
            column.drop()


def load_rows(partitions: Iterable[int], tables: Tables) -> dict[int, Rows]:
    """Rows of `partitions` from the tables as the changelogs filled them: one pass over all keys."""
    rows = {partition: Rows(partition, tables) for partition in partitions}
    for table in TABLES:
        for physical in tables[table]:
            partition, term, key = split_key(physical)
            if partition in rows:
                rows[partition].load(table, term, key)
    return rows
