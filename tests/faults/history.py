"""What happened, seen from outside: every call and its outcome, every delivery, every fault.

Nothing is judged here and nothing is made up: a call whose answer never came stays `UNKNOWN`, for it may or may not
have happened. Times are seconds since the run began, of one monotonic clock, so that "answered before that was asked"
can be said. A run has millions of entries: they are kept in arrays, and written as one line of JSON each (deliveries:
some hundred a line) into a gzip file, which `read_history` reads back.
"""

from __future__ import annotations

import gzip
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

DIGEST_BYTES = 8
DELIVERIES_A_LINE = 500
GZIP_LEVEL = 1


class Outcome(IntEnum):
    """What a caller was told."""

    UNKNOWN = 0
    """Nothing, and nothing came later."""
    NUMBERED = 1
    """A RECEIPT with the number of the message."""
    REPEATED = 2
    """A RECEIPT with the number that an earlier call had got."""
    REFUSED = 3
    """A code. `unavailable` says that it may still happen."""


class Call(NamedTuple):
    """One SEND of one message."""

    writer: int
    n: int
    line: int
    invoked_s: float
    outcome: Outcome
    answered_s: float
    seq: int
    code: str


@dataclass
class Calls:
    """All SENDs, in the order in which they were made."""

    writer: array[int] = field(default_factory=lambda: array("H"))
    n: array[int] = field(default_factory=lambda: array("L"))
    line: array[int] = field(default_factory=lambda: array("L"))
    invoked_s: array[float] = field(default_factory=lambda: array("d"))
    outcome: array[int] = field(default_factory=lambda: array("B"))
    answered_s: array[float] = field(default_factory=lambda: array("d"))
    seq: array[int] = field(default_factory=lambda: array("q"))
    codes: dict[int, str] = field(default_factory=dict)

    def invoke(self, writer: int, n: int, line: int, at_s: float) -> int:
        """A call is made; returns its number."""
        self.writer.append(writer)
        self.n.append(n)
        self.line.append(line)
        self.invoked_s.append(at_s)
        self.outcome.append(Outcome.UNKNOWN)
        self.answered_s.append(0.0)
        self.seq.append(0)
        return len(self.n) - 1

    def answer(self, call: int, outcome: Outcome, at_s: float, *, seq: int = 0, code: str = "") -> None:
        """A call is answered."""
        self.outcome[call] = outcome
        self.answered_s[call] = at_s
        self.seq[call] = seq
        if code:
            self.codes[call] = code

    def __len__(self) -> int:
        return len(self.n)

    def __iter__(self) -> Iterator[Call]:
        columns = zip(
            self.writer, self.n, self.line, self.invoked_s, self.outcome, self.answered_s, self.seq, strict=True
        )
        for call, (writer, n, line, invoked_s, outcome, answered_s, seq) in enumerate(columns):
            code = self.codes.get(call, "")
            yield Call(writer, n, line, invoked_s, Outcome(outcome), answered_s, seq, code)


@dataclass
class Record:
    """All that one reader was sent, in the order of arrival."""

    reader: str
    room: str
    seqs: array[int] = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    at_s: array[float] = field(default_factory=lambda: array("d"))
    lines: list[tuple[int, int]] = field(default_factory=list)
    """(line, index of its first delivery) of each of the reader's connections."""

    def add(self, seq: int, digest: bytes, at_s: float) -> None:
        """A MESSAGE arrived."""
        self.seqs.append(seq)
        self.digests += digest
        self.at_s.append(at_s)

    @property
    def last_seq(self) -> int:
        """Where the reader resumes."""
        return self.seqs[-1] if self.seqs else 0

    def digest(self, index: int) -> bytes:
        """What the delivery at `index` said."""
        return bytes(self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])


@dataclass(frozen=True)
class Author:
    """A writer: one login that posts messages 0, 1, 2 ... into one room."""

    login: str
    room: str

    def client_id(self, n: int) -> str:
        """`x-client-id` of message `n`."""
        return f"{self.login}-{n}"


@dataclass
class Disturbance:
    """One fault, from its injection to the moment when all processes were ready again."""

    kind: str
    detail: str
    began_s: float
    healed_s: float = 0.0
    """When the harness had undone it."""
    ready_s: float = 0.0
    """When every process said that it was ready."""


@dataclass
class Outage:
    """One client without a connection."""

    client: str
    lost_s: float
    back_s: float


@dataclass
class History:
    """A run."""

    authors: list[Author] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)
    records: list[Record] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    receipts_s: dict[str, array[float]] = field(default_factory=dict)
    """Times of RECEIPTs, by room, ascending."""
    notes: list[str] = field(default_factory=list)
    """What a client met and the protocol does not know."""
    began: float = field(default_factory=time.monotonic)

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def receipted(self, room: str, at_s: float) -> None:
        """Somebody in `room` got a RECEIPT."""
        self.receipts_s.setdefault(room, array("d")).append(at_s)


def body_of(login: str, n: int) -> bytes:
    """What message `n` of `login` says: all of it follows from its name, so nobody has to keep it.

    Some are long, some are not ASCII, and one in 64 is not UTF-8.
    """
    text = f"{login} {n} ".encode()
    if n % 64 == 63:
        return text + bytes((0xFF, 0x00, 0xC0, n % 256)) * 3
    if n % 16 == 7:
        return text + "보내고 받은 것은 사라지지 않는다. ".encode() * (n % 5 + 1)
    return text + b"once, in order, for good. " * (n % 12)


def seen_digest(
    seq: int, epoch: str, kind: str, sender: str, msg_no: int, client_id: str, content_type: str, body: bytes
) -> bytes:
    """What a MESSAGE says, in eight bytes: equal for equal content, whoever shows it."""
    head = f"{seq}\n{epoch}\n{kind}\n{sender}\n{msg_no}\n{client_id}\n{content_type}\n".encode()
    return blake2b(head + body, digest_size=DIGEST_BYTES).digest()


def longest_gap_s(times: array[float], began_s: float, ended_s: float) -> float:
    """The longest time without an entry of `times` (ascending) between two moments."""
    longest, last = 0.0, began_s
    for index in range(bisect_left(times, began_s), len(times)):
        at_s = times[index]
        if at_s >= ended_s:
            break
        longest = max(longest, at_s - last)
        last = at_s
    return max(longest, ended_s - last)


# ---------------------------------------------------------------- as a file


def write_history(history: History, path: Path) -> None:
    """Write all of it, one JSON object a line; `type` says what each is."""
    with gzip.open(path, "wb", compresslevel=GZIP_LEVEL) as file:
        for entry in _entries(history):
            file.write(orjson.dumps(entry) + b"\n")


def read_history(path: Path) -> History:
    """What `write_history` wrote."""
    history = History()
    records: dict[str, Record] = {}
    with gzip.open(path) as file:
        for line in file:
            entry: dict[str, Any] = orjson.loads(line)
            match entry.pop("type"):
                case "author":
                    history.authors.append(Author(**entry))
                case "call":
                    call = history.calls.invoke(entry["writer"], entry["n"], entry["line"], entry["invoked_s"])
                    outcome = Outcome[entry["outcome"].upper()]
                    if outcome is not Outcome.UNKNOWN:
                        at_s, seq, code = entry["answered_s"], entry.get("seq", 0), entry.get("code", "")
                        history.calls.answer(call, outcome, at_s, seq=seq, code=code)
                    if outcome in (Outcome.NUMBERED, Outcome.REPEATED):
                        history.receipted(history.authors[entry["writer"]].room, entry["answered_s"])
                case "reader":
                    record = Record(entry["reader"], entry["room"], lines=[(a, b) for a, b in entry["lines"]])
                    records[record.reader] = record
                    history.records.append(record)
                case "deliveries":
                    record = records[entry["reader"]]
                    record.seqs.extend(entry["seqs"])
                    record.digests += bytes.fromhex(entry["digests"])
                    record.at_s.extend(entry["at_s"])
                case "fault":
                    history.disturbances.append(Disturbance(**entry))
                case "outage":
                    history.outages.append(Outage(**entry))
                case "note":
                    history.notes.append(entry["text"])
                case other:
                    raise ValueError(f"{path}: an entry of type {other!r}")
    for room, times in history.receipts_s.items():
        history.receipts_s[room] = array("d", sorted(times))
    return history


def _entries(history: History) -> Iterator[dict[str, Any]]:
    for author in history.authors:
        yield {"type": "author", **asdict(author)}
    for disturbance in history.disturbances:
        yield {"type": "fault", **asdict(disturbance)}
    for call in history.calls:
        entry: dict[str, Any] = {
            "type": "call",
            "writer": call.writer,
            "n": call.n,
            "line": call.line,
            "invoked_s": round(call.invoked_s, 6),
            "outcome": call.outcome.name.lower(),
        }
        if call.outcome is not Outcome.UNKNOWN:
            entry["answered_s"] = round(call.answered_s, 6)
        if call.seq:
            entry["seq"] = call.seq
        if call.code:
            entry["code"] = call.code
        yield entry
    for record in history.records:
        yield {"type": "reader", "reader": record.reader, "room": record.room, "lines": record.lines}
        for start in range(0, len(record.seqs), DELIVERIES_A_LINE):
            end = start + DELIVERIES_A_LINE
            yield {
                "type": "deliveries",
                "reader": record.reader,
                "seqs": record.seqs[start:end].tolist(),
                "digests": record.digests[start * DIGEST_BYTES : end * DIGEST_BYTES].hex(),
                "at_s": [round(at_s, 4) for at_s in record.at_s[start:end]],
            }
    for outage in history.outages:
        yield {"type": "outage", **asdict(outage)}
    for note in history.notes:
        yield {"type": "note", "text": note}
