"""The stores' rows against the fold of the log.

Up to the walk's end the two must say the same. What a store says about later seqs becomes a claim (chat.verifying.
claims); what it says about earlier ones, where it should have come further, is stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

from chat.errors import RoomlogError
from chat.records import KIND_RENUMBERED, Event, decode_event
from chat.stores.model import MemberRow
from chat.verifying.claims import Claim, Claims
from chat.verifying.findings import Findings, Store, Wrong
from chat.verifying.room import LogRow, RoomWalk

HEAD_NUMBERS: Final = ("msg_no", "members", "at")
"""Fields of a room's row that change with its events; the others say what the room is."""

Row = tuple[Any, ...]
"""A row as it stands: what somebody wrote by hand may lack columns."""
Fields = Mapping[str, Any]
"""A room's row, of whichever store: field to value, None where there is none."""


# ---------------------------------------------------------------- room_log


def runs_of(rows: list[LogRow]) -> list[list[LogRow]]:
    """`rows` as runs without a hole, in their order."""
    if rows and rows[-1][0] - rows[0][0] + 1 == len(rows) and all(b[0] - a[0] == 1 for a, b in pairwise(rows)):
        return [rows]
    runs: list[list[LogRow]] = []
    for row in rows:
        if runs and row[0] == runs[-1][-1][0] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def compare_rows(findings: Findings, room: str, expected: list[LogRow], found: list[Row]) -> None:
    """A run of events as the log has them, and the rows that the archive has in their place."""
    if found == expected:
        return
    rows = {row[0]: row for row in found}
    values = {row[0]: row[4] for row in found}

    def wrong(what: Wrong, seq: int, detail: str) -> None:
        findings.add(Store.CASSANDRA, "room_log", room, what, seq, detail)

    for row in expected:
        seq = row[0]
        other = rows.pop(seq, None)
        if other is None or other[4] is None:
            wrong(Wrong.MISSING, seq, "" if other is None else "the row has no event")
        elif other[4] != row[4]:
            wrong(*_spoilt(seq, other[4], values))
        elif other != row:
            columns = zip(("at", "kind", "sender"), other[1:4], row[1:4], strict=True)
            wrong(Wrong.DIFFERS, seq, "column " + ", ".join(name for name, is_, must in columns if is_ != must))
    for seq in rows:
        wrong(Wrong.TOO_MANY, seq, "no event belongs into this row")


def _spoilt(seq: int, value: bytes, values: Mapping[int, bytes]) -> tuple[Wrong, int, str]:
    """What is wrong at `seq`, where `value` stands in place of the event; `values`: what else stands there, by seq."""
    try:
        event = decode_event(value)
    except RoomlogError as error:
        return Wrong.UNDECODABLE, seq, str(error)
    if event.seq == seq:
        return Wrong.DIFFERS, seq, ""
    return (Wrong.TWICE if values.get(event.seq) == value else Wrong.ORDER), seq, f"holds event {event.seq}"


def claim_rows(claims: Claims, room: str, found: Iterable[Row]) -> None:
    """Rows of the archive beyond the walk's end."""
    for row in found:
        claims.add(Claim(Store.CASSANDRA, "room_log", room, row[0], partial(_is_row, row)))


def _is_row(row: Row, event: Event, value: bytes) -> bool:
    return row == (event.seq, event.at, event.kind, event.sender, value)


# ---------------------------------------------------------------- what a room is, and where it stands


def fields_of(walk: RoomWalk) -> Fields:
    """What a room's row must say after the walk. Empty when nothing was read."""
    head = walk.head
    if head is None:
        return {}
    return {
        "kind": head.kind,
        "owner": head.owner,
        "epoch": head.epoch,
        "first_seq": head.first_seq,
        "seq": head.seq,
        "msg_no": head.msg_no,
        "members": head.members,
        "at": head.at,
        "name": head.name,
    }


def compare_head(
    findings: Findings, claims: Claims, store: Store, part: str, walk: RoomWalk, found: Fields | None
) -> None:
    """A room's row in `part` of `store`."""
    expected = fields_of(walk)
    if not expected:
        return
    if found is None or found.get("seq") is None:
        findings.add(store, part, walk.room, Wrong.MISSING, walk.seq, "the room's row")
        return
    seq = found["seq"]
    about = ["kind", "owner", "name"] if walk.identified else []
    if seq <= walk.seq:
        about += ["epoch", "first_seq"] if walk.identified else ["epoch"]
    if seq == walk.seq:
        about += HEAD_NUMBERS
    wrong = [name for name in about if found.get(name) != expected[name]]
    if wrong:
        findings.add(store, part, walk.room, Wrong.DIFFERS, min(seq, walk.seq), f"field {', '.join(wrong)}")
    if walk.adopted and not walk.identified:
        # Its row begins a numbering that the walk has not come to.
        claims.add(Claim(store, part, walk.room, found["first_seq"], _renumbers, "no epoch begins here"))
    if seq < walk.seq:
        findings.add(store, part, walk.room, Wrong.STALE, seq, f"true at seq {seq}, the log is at {walk.seq}")
    elif seq > walk.seq:
        claim_head(claims, store, part, walk.room, found)


def _renumbers(event: Event, _value: bytes) -> bool:
    return event.kind == KIND_RENUMBERED


def claim_head(claims: Claims, store: Store, part: str, room: str, found: Fields) -> None:
    """A room's row that is true at a seq beyond the walk's end."""

    def holds(event: Event, _value: bytes) -> bool:
        return all(found.get(name) == getattr(event, name) for name in (*HEAD_NUMBERS, "epoch"))

    claims.add(Claim(store, part, room, found["seq"], holds))


# ---------------------------------------------------------------- members


def compare_member(
    findings: Findings, claims: Claims, part: str, walk: RoomWalk, user: str, found: MemberRow | None
) -> None:
    """One person's membership in table `part` of the archive."""
    expected = walk.members.get(user)

    def wrong(what: Wrong, seq: int, detail: str = "") -> None:
        findings.add(Store.CASSANDRA, part, walk.room, what, seq, f"user {user}" + (f": {detail}" if detail else ""))

    if found is None:
        if expected is not None:
            wrong(Wrong.MISSING, expected.seq)
    elif found.seq is None or found.role is None:
        wrong(Wrong.DIFFERS, 0 if expected is None else expected.seq, "the row lacks columns")
    elif found.seq > walk.seq:
        claims.add(claim_of_member(part, found, found.seq))
    elif expected is None:
        if walk.whole:
            wrong(Wrong.TOO_MANY, found.seq, "no event says so")
    elif found.seq < expected.seq:
        wrong(Wrong.STALE, found.seq, f"true at seq {found.seq}, the log changed it at {expected.seq}")
    elif tuple(found) != (walk.room, user, expected.role, expected.seq, expected.at):
        wrong(Wrong.DIFFERS, expected.seq, f"{found.role} at seq {found.seq}")


def claim_of_member(part: str, found: MemberRow, seq: int) -> Claim:
    """A membership that is true at a seq beyond the walk's end, at `seq`."""

    def holds(event: Event, _value: bytes) -> bool:
        change = event.member
        return change is not None and (change.user, change.role, event.at) == (found.user, found.role, found.at)

    return Claim(Store.CASSANDRA, part, found.room, seq, holds, f"user {found.user}: no event says so")


# ---------------------------------------------------------------- Redis


def compare_directory(
    findings: Findings, claims: Claims, walk: RoomWalk, found: Fields | None, listed_at: float | None
) -> None:
    """A room's entry in Redis, and the time under which the list of rooms has it."""
    compare_head(findings, claims, Store.REDIS, "room", walk, found)
    if found is None or walk.head is None:
        return
    if listed_at is None:
        findings.add(Store.REDIS, "rooms", walk.room, Wrong.MISSING, walk.seq, "the room is not in the list")
    elif listed_at != found.get("at"):
        findings.add(Store.REDIS, "rooms", walk.room, Wrong.DIFFERS, walk.seq, "listed under another time")


def compare_tail(findings: Findings, claims: Claims, walk: RoomWalk, found: Sequence[tuple[float, bytes]]) -> None:
    """The newest events of a room as Redis has them, with their scores, ascending. None at all is no finding."""

    def wrong(what: Wrong, seq: int, detail: str = "") -> None:
        findings.add(Store.REDIS, "tail", walk.room, what, seq, detail)

    if not found or walk.head is None:
        return
    first, recent = walk.recent()
    values = {int(score): value for score, value in found}
    previous: int | None = None
    for score, value in found:
        seq = int(score)
        if seq != score or seq < 1:
            wrong(Wrong.TOO_MANY, seq, f"no event has the number {score:g}")
            continue
        if previous is not None and seq == previous:
            wrong(Wrong.TWICE, seq)
        elif previous is not None and seq > previous + 1:
            wrong(Wrong.MISSING, previous + 1, f"seq {previous + 1} to {seq - 1}")
        previous = seq
        if seq > walk.seq:
            claims.add(Claim(Store.REDIS, "tail", walk.room, seq, partial(_is_value, value)))
        elif seq >= first and hash(value) != recent[seq - first]:
            wrong(*_spoilt(seq, value, values))
    if previous is not None and previous < walk.seq:
        wrong(Wrong.STALE, previous, f"ends at seq {previous}, the log is at {walk.seq}")


def _is_value(value: bytes, _event: Event, found: bytes) -> bool:
    return value == found
