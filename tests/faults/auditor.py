"""Does everybody tell the same story? The history of a run beside what each store holds.

Pure: it opens nothing and waits for nothing. What it finds it lists; it never raises it away, and it never stops at the
first. The measure is the event log, taken as every reader takes it; but the log itself is held against what clients
were told, so a log that everybody agrees on and that lost a receipted message is found, too.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import pairwise

from chat.errors import RoomlogError
from chat.records import Event, decode_event
from chat.rooms.chain import genesis, verify
from tests.faults.history import Call, History, Outcome, Record, body_of, seen_digest

VALUE_DIGEST_BYTES = 16
LISTED_MAX = 12
"""Findings of one kind and place that are written out; all are counted."""

_RECEIPTED = (Outcome.NUMBERED, Outcome.REPEATED)


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """A receipted message, or an event of the log, that is not where it must be."""
    DOUBLED = "doubled"
    """A message or a number that stands twice."""
    REORDERED = "reordered"
    """Later before earlier."""
    WRONG_NUMBER = "wrong number"
    """A RECEIPT that named another number than the message has."""
    HOLE = "hole"
    """A number that nobody has."""
    ALTERED = "altered"
    """Other bytes than were sent, or than the log has."""
    FOREIGN = "foreign"
    """Something that nobody sent, or that the log does not have."""
    CHAIN = "chain"
    """An event that does not follow from the one before it."""
    UNREADABLE = "unreadable"
    """A store, or a part of it, that could not be read: nothing is proved about it."""
    UNANSWERED = "unanswered"
    """Somebody who still waited when all was well again."""
    UNSAFE = "unsafe"
    """A RECEIPT at a time when too few replicas could have what it is for."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    where: str
    """`log`, `cassandra`, `redis`, `reader r3`, `receipts` ..."""
    room: str
    seq: int
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}, room {self.room}, seq {self.seq}: {self.text}"


@dataclass
class Findings:
    """Everything that is wrong: all of it counted, the first of each kind and place listed."""

    counts: Counter[Kind] = field(default_factory=Counter)
    listed: list[Finding] = field(default_factory=list)
    _places: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    def add(self, kind: Kind, where: str, room: str, seq: int, text: str) -> None:
        """Something is wrong."""
        self.counts[kind] += 1
        self._places[kind, where] += 1
        if self._places[kind, where] <= LISTED_MAX:
            self.listed.append(Finding(kind, where, room, seq, text))

    def __bool__(self) -> bool:
        return bool(self.counts)


class RoomLog:
    """A room as its event log has it: feed it the value of every record that counts, in order."""

    def __init__(self, room: str, findings: Findings, *, first_seq: int = 1, where: str = "log") -> None:
        self.room = room
        self.first_seq = first_seq
        self.head = first_seq - 1
        """The highest number; one below the first of an empty room."""
        self.seqs: array[int] = array("q")
        self.values: list[bytes] = []
        """Digest of each event's bytes."""
        self.seen: list[bytes] = []
        """What a client is shown of each event."""
        self.messages: dict[tuple[str, str], int] = {}
        """(sender, client id) to seq."""
        self._numbers: set[int] = set()
        self._findings = findings
        self._where = where
        self._chain = ""

    def add(self, value: bytes) -> None:
        """The next event."""
        expected = self.head + 1
        try:
            event = decode_event(value)
        except RoomlogError as error:
            self._find(Kind.UNREADABLE, expected, str(error))
            return
        if event.room != self.room:
            self._find(Kind.FOREIGN, event.seq, f"an event of room {event.room} under this room's key")
        if event.seq in self._numbers:
            self._find(Kind.DOUBLED, event.seq, "the number stands twice")
        elif event.seq < expected:
            self._find(Kind.REORDERED, event.seq, f"stands after {self.head}")
        elif event.seq > expected:
            self._find(Kind.HOLE, expected, f"{event.seq - expected} numbers before {event.seq} are missing")
        if not verify(self._chain or genesis(self.room, event.epoch), event):
            self._find(Kind.CHAIN, event.seq, "does not follow from the event before it")
        self._chain = event.chain
        self._add(event, value)

    def _add(self, event: Event, value: bytes) -> None:
        body = event.body_bytes()
        client_id = event.client_id or ""
        self._numbers.add(event.seq)
        self.head = max(self.head, event.seq)
        self.seqs.append(event.seq)
        self.values.append(value_digest(value))
        self.seen.append(
            seen_digest(
                event.seq,
                event.epoch,
                event.kind,
                event.sender,
                event.msg_no,
                client_id,
                event.content_type or "",
                body,
            )
        )
        name = (event.sender, client_id)
        if name in self.messages:
            self._find(Kind.DOUBLED, event.seq, f"{client_id} of {event.sender} has seq {self.messages[name]} already")
            return
        self.messages[name] = event.seq
        n = _number(event.sender, client_id)
        if event.kind != "message" or n is None:
            self._find(Kind.FOREIGN, event.seq, f"{event.kind} {client_id!r} of {event.sender}: nobody sent that")
        elif body != body_of(event.sender, n):
            self._find(Kind.ALTERED, event.seq, f"{client_id} of {event.sender} has another body than was sent")

    def _find(self, kind: Kind, seq: int, text: str) -> None:
        self._findings.add(kind, self._where, self.room, seq, text)


def value_digest(value: bytes) -> bytes:
    """An event's bytes in sixteen."""
    return blake2b(value, digest_size=VALUE_DIGEST_BYTES).digest()


def audit_clients(history: History, logs: dict[str, RoomLog], findings: Findings) -> None:
    """What writers were told against what the log has."""
    sent: dict[str, set[tuple[str, str]]] = {}
    for call in history.calls:
        author = history.authors[call.writer]
        name = (author.login, author.client_id(call.n))
        sent.setdefault(author.room, set()).add(name)
        if call.outcome not in _RECEIPTED:
            continue
        log = logs.get(author.room)
        seq = None if log is None else log.messages.get(name)
        if seq is None:
            findings.add(Kind.LOST, "log", author.room, call.seq, f"{name[1]} was receipted and is not there")
        elif seq != call.seq:
            findings.add(
                Kind.WRONG_NUMBER, "receipts", author.room, call.seq, f"{name[1]} was receipted so, and has {seq}"
            )
    for room, log in logs.items():
        for name in log.messages.keys() - sent.get(room, set()):
            findings.add(Kind.FOREIGN, "log", room, log.messages[name], f"{name[1]} of {name[0]}: nobody sent that")
    _audit_order(history, logs, findings)


def _audit_order(history: History, logs: dict[str, RoomLog], findings: Findings) -> None:
    """Two rules: on one connection frames keep their order; and what was receipted before another message was even
    sent has a lower number than that, whoever sent them."""
    last_on_line: dict[int, Call] = {}
    asked_s: dict[str, dict[int, float]] = {}
    told_s: dict[str, dict[int, float]] = {}
    for call in history.calls:
        room = history.authors[call.writer].room
        author = history.authors[call.writer]
        log = logs.get(room)
        seq = None if log is None else log.messages.get((author.login, author.client_id(call.n)))
        if seq is not None:
            # The first call is the one that may have made it; the first RECEIPT is when it was known.
            asked_s.setdefault(room, {}).setdefault(seq, call.invoked_s)
            if call.outcome in _RECEIPTED:
                known = told_s.setdefault(room, {})
                known[seq] = min(known.get(seq, call.answered_s), call.answered_s)
        if call.outcome is Outcome.NUMBERED:
            earlier = last_on_line.get(call.line)
            if earlier is not None and earlier.seq > call.seq and earlier.writer == call.writer:
                text = (
                    f"{author.client_id(call.n)} was sent after {author.client_id(earlier.n)}, which has {earlier.seq}"
                )
                findings.add(Kind.REORDERED, "receipts", room, call.seq, text)
            last_on_line[call.line] = call
    for room, asked in asked_s.items():
        told = told_s.get(room, {})
        earliest_s, earliest = float("inf"), 0
        for seq in sorted(asked, reverse=True):
            if earliest_s < asked[seq]:
                text = f"was sent {asked[seq] - earliest_s:.3f} s after seq {earliest} had been receipted"
                findings.add(Kind.REORDERED, "log", room, seq, text)
            if seq in told and told[seq] < earliest_s:
                earliest_s, earliest = told[seq], seq


def audit_archive(
    log: RoomLog, rows: Iterable[tuple[int, bytes]], findings: Findings, where: str = "cassandra"
) -> None:
    """A full copy of a room, as (seq, bytes): it must be the log."""
    theirs: dict[int, bytes] = {}
    previous = None
    for seq, value in rows:
        if seq in theirs:
            findings.add(Kind.DOUBLED, where, log.room, seq, "the number stands twice")
        elif previous is not None and seq < previous:
            findings.add(Kind.REORDERED, where, log.room, seq, f"stands after {previous}")
        previous = seq
        theirs[seq] = value_digest(value)
    ours = dict(zip(log.seqs, log.values, strict=True))
    for seq, value_hash in ours.items():
        if seq not in theirs:
            findings.add(Kind.LOST, where, log.room, seq, "the log has it, the archive does not")
        elif theirs[seq] != value_hash:
            findings.add(Kind.ALTERED, where, log.room, seq, "other bytes than in the log")
    for seq in theirs.keys() - ours.keys():
        findings.add(Kind.FOREIGN, where, log.room, seq, "not in the log")


def audit_tail(
    log: RoomLog, entries: Sequence[tuple[int, bytes]], findings: Findings, *, kept: int, where: str = "redis"
) -> None:
    """The last events of a room, as (seq, bytes): a dense run of at most `kept` that ends at the log's head."""
    if not entries:
        findings.add(Kind.LOST, where, log.room, log.head, "the room has no tail")
        return
    for (earlier, _), (later, _) in pairwise(entries):
        if later <= earlier:
            kind = Kind.DOUBLED if later == earlier else Kind.REORDERED
            findings.add(kind, where, log.room, later, f"stands after {earlier}")
        elif later != earlier + 1:
            findings.add(Kind.HOLE, where, log.room, earlier + 1, f"missing before {later}")
    if len(entries) > kept:
        findings.add(Kind.FOREIGN, where, log.room, entries[0][0], f"{len(entries)} events, {kept} are kept")
    if entries[-1][0] != log.head:
        findings.add(Kind.LOST, where, log.room, log.head, f"the tail ends at {entries[-1][0]}")
    ours = dict(zip(log.seqs, log.values, strict=True))
    for seq, value in entries:
        if seq not in ours:
            findings.add(Kind.FOREIGN, where, log.room, seq, "not in the log")
        elif ours[seq] != value_digest(value):
            findings.add(Kind.ALTERED, where, log.room, seq, "other bytes than in the log")


def audit_reader(log: RoomLog, record: Record, findings: Findings) -> None:
    """A reader from the first event on, over all of its connections: it must have seen the log, once, to its end."""
    where = f"reader {record.reader}"
    seen = dict(zip(log.seqs, log.seen, strict=True))
    expected = log.first_seq
    for index, seq in enumerate(record.seqs):
        if seq < expected:
            before = record.seqs[index - 1] if index else 0
            kind = Kind.DOUBLED if seq in record.seqs[max(0, index - 512) : index] else Kind.REORDERED
            findings.add(kind, where, log.room, seq, f"delivered after {before}")
        elif seq > expected:
            findings.add(Kind.LOST, where, log.room, expected, f"{seq - expected} events before {seq} never came")
        expected = max(expected, seq + 1)
        if seq not in seen:
            findings.add(Kind.FOREIGN, where, log.room, seq, "not in the log")
        elif seen[seq] != record.digest(index):
            findings.add(Kind.ALTERED, where, log.room, seq, "says something else than the log")
    if expected <= log.head:
        findings.add(Kind.LOST, where, log.room, expected, f"the reader stands here, the log at {log.head}")


def _number(sender: str, client_id: str) -> int | None:
    login, _, n = client_id.rpartition("-")
    return int(n) if login == sender and n.isdigit() else None
