"""The stores' rows against the fold of the log: each thing planted is found, with its store and first bad seq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat.records import Event, encode
from chat.stores.model import MemberRow
from chat.verifying.claims import Claims
from chat.verifying.compare import (
    claim_rows,
    compare_directory,
    compare_head,
    compare_member,
    compare_rows,
    compare_tail,
    fields_of,
    runs_of,
)
from chat.verifying.findings import Findings, Store
from chat.verifying.room import LogRow, RoomWalk
from tests.unit.chat.verifying.history import history


class Given:
    """A walk of some events, and where findings and claims go."""

    def __init__(self, events: list[Event]) -> None:
        self.findings = Findings()
        self.claims = Claims(self.findings)
        self.walk = RoomWalk("r", self.findings, Store.LOG, "room.events/0")
        for event in events:
            self.walk.take(event, encode(event))

    def settle(self, events: list[Event]) -> None:
        for event in events:
            self.claims.settle(event, encode(event))
        self.claims.close()

    def found(self) -> list[tuple[str, str, int, str]]:
        return [(f.store.value, f.part, f.seq, f.wrong.value) for f in self.findings]


@pytest.fixture
def events() -> list[Event]:
    return history()


def row_of(event: Event) -> LogRow:
    return event.seq, event.at, event.kind, event.sender, encode(event)


# ---------------------------------------------------------------- room_log


def dropped(rows: list[Any]) -> None:
    del rows[4]


def swapped(rows: list[Any]) -> None:
    rows[4], rows[6] = (5, *rows[6][1:]), (7, *rows[4][1:])


def doubled(rows: list[Any]) -> None:
    rows[4] = (5, *rows[6][1:])


def flipped(rows: list[Any]) -> None:
    rows[4] = (*rows[4][:4], rows[4][4].replace(b"message 4", b"messbge 4"))


def cut_off(rows: list[Any]) -> None:
    rows[4] = (*rows[4][:4], rows[4][4][:-3])


def without_event(rows: list[Any]) -> None:
    rows[4] = (*rows[4][:4], None)


def another_sender(rows: list[Any]) -> None:
    rows[4] = (*rows[4][:3], "mallory", rows[4][4])


def misplaced(rows: list[Any]) -> None:
    rows.append((77, *rows[4][1:]))


@pytest.mark.parametrize(
    ("plant", "seq", "wrong"),
    [
        (dropped, 5, "missing"),
        (swapped, 5, "out of order"),
        (doubled, 5, "twice"),
        (flipped, 5, "differs"),
        (cut_off, 5, "does not decode"),
        (without_event, 5, "missing"),
        (another_sender, 5, "differs"),
        (misplaced, 77, "too many"),
    ],
)
def test_a_planted_row_is_found(events: list[Event], plant: Callable[[list[Any]], None], seq: int, wrong: str) -> None:
    given = Given(events)
    rows = given.walk.cut()
    found: list[Any] = list(rows)
    plant(found)
    compare_rows(given.findings, "r", rows, found)
    assert given.found() == [("cassandra", "room_log", seq, wrong)]


def test_equal_rows_are_no_finding(events: list[Event]) -> None:
    given = Given(events)
    rows = given.walk.cut()
    compare_rows(given.findings, "r", rows, list(rows))
    assert given.found() == []


def test_rows_are_compared_run_by_run(events: list[Event]) -> None:
    rows = [row_of(event) for event in events]
    assert runs_of(rows) == [rows]
    assert runs_of([]) == []
    assert runs_of([*rows[:3], *rows[5:]]) == [rows[:3], rows[5:]]
    assert runs_of([rows[1], rows[0], rows[2]]) == [[rows[1]], [rows[0]], [rows[2]]]


def test_rows_beyond_the_walk_are_too_many_unless_the_log_goes_on_with_them(events: list[Event]) -> None:
    given = Given(events[:8])
    later = [row_of(event) for event in events[8:]]
    claim_rows(given.claims, "r", later)
    given.settle(events[8:])
    assert given.found() == []
    claim_rows(given.claims, "r", [later[0], (10, *later[0][1:])])
    given.settle(events[8:10])
    assert given.found() == [("cassandra", "room_log", 10, "differs")]
    claim_rows(given.claims, "r", later)
    given.settle([])
    assert ("cassandra", "room_log", 9, "too many") in given.found()


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, []),
        ({"msg_no": 3}, ["differs"]),
        ({"members": 3}, ["differs"]),
        ({"at": 3}, ["differs"]),
        ({"owner": "mallory"}, ["differs"]),
        ({"name": "another"}, ["differs"]),
        ({"epoch": "beef"}, ["differs"]),
        ({"first_seq": 2}, ["differs"]),
        ({"seq": None}, ["missing"]),
    ],
)
def test_a_rooms_row_must_say_what_the_log_says(events: list[Event], changed: dict[str, Any], wrong: list[str]) -> None:
    given = Given(events)
    compare_head(
        given.findings, given.claims, Store.CASSANDRA, "rooms", given.walk, {**fields_of(given.walk), **changed}
    )
    given.settle([])
    assert [what for *_, what in given.found()] == wrong


def test_a_stale_head_is_found_and_one_that_is_not_there(events: list[Event]) -> None:
    before, given = Given(events[:-1]), Given(events)
    compare_head(given.findings, given.claims, Store.CASSANDRA, "rooms", given.walk, fields_of(before.walk))
    compare_head(given.findings, given.claims, Store.REDIS, "room", given.walk, None)
    assert given.found() == [("cassandra", "rooms", 12, "stale"), ("redis", "room", 13, "missing")]


def test_a_newer_head_is_true_when_the_log_says_so_and_too_many_when_it_has_no_such_event(events: list[Event]) -> None:
    after, given = Given(events), Given(events[:8])
    newer = fields_of(after.walk)
    compare_head(given.findings, given.claims, Store.CASSANDRA, "rooms", given.walk, newer)
    given.settle(events[8:])
    assert given.found() == []
    compare_head(given.findings, given.claims, Store.CASSANDRA, "rooms", given.walk, {**newer, "members": 9})
    given.settle(events[8:])
    compare_head(given.findings, given.claims, Store.REDIS, "room", given.walk, {**newer, "seq": 99})
    given.settle(events[8:])
    assert given.found() == [("cassandra", "rooms", 13, "differs"), ("redis", "room", 99, "too many")]


# ---------------------------------------------------------------- people


@pytest.mark.parametrize(
    ("user", "row", "wrong"),
    [
        ("eve", ("member", 12, 1_000_011), []),
        ("bob", ("none", 13, 1_000_012), []),
        ("eve", None, [("missing", 12)]),
        ("eve", ("owner", 12, 1_000_011), [("differs", 12)]),
        ("eve", (None, 12, 1_000_011), [("differs", 12)]),
        ("bob", ("member", 11, 1_000_010), [("stale", 11)]),
        ("eve", ("member", 11, 1_000_011), [("stale", 11)]),
        ("mallory", ("owner", 3, 1_000_002), [("too many", 3)]),
        ("mallory", ("owner", 40, 1_000_039), [("too many", 40)]),
        ("mallory", None, []),
    ],
)
def test_a_membership_must_be_what_the_log_made_it(
    events: list[Event], user: str, row: Any, wrong: list[tuple[str, int]]
) -> None:
    given = Given(events)
    found = None if row is None else MemberRow("r", user, *row)
    compare_member(given.findings, given.claims, "room_members", given.walk, user, found)
    given.settle([])
    assert [(what, seq) for _, _, seq, what in given.found()] == wrong


def test_a_newer_membership_is_true_when_the_log_says_so(events: list[Event]) -> None:
    given = Given(events[:12])
    compare_member(
        given.findings, given.claims, "user_rooms", given.walk, "bob", MemberRow("r", "bob", "none", 13, 1_000_012)
    )
    given.settle(events[12:])
    assert given.found() == []


# ---------------------------------------------------------------- Redis


def tail_of(events: list[Event]) -> list[tuple[float, bytes]]:
    return [(float(event.seq), encode(event)) for event in events]


def a_hole(tail: list[tuple[float, bytes]]) -> None:
    del tail[3]


def a_flip(tail: list[tuple[float, bytes]]) -> None:
    tail[3] = (tail[3][0], tail[3][1].replace(b"message 6", b"messbge 6"))


def an_old_end(tail: list[tuple[float, bytes]]) -> None:
    del tail[-2:]


def a_swap(tail: list[tuple[float, bytes]]) -> None:
    tail[3], tail[4] = (tail[3][0], tail[4][1]), (tail[4][0], tail[3][1])


def a_double(tail: list[tuple[float, bytes]]) -> None:
    tail[3] = (tail[3][0], tail[4][1])


def two_of_a_score(tail: list[tuple[float, bytes]]) -> None:
    tail.insert(4, (tail[3][0], b"z"))


def one_beyond(tail: list[tuple[float, bytes]]) -> None:
    tail.append((tail[-1][0] + 1, b"{}"))


def a_half(tail: list[tuple[float, bytes]]) -> None:
    tail.insert(4, (tail[3][0] + 0.5, b"{}"))


def one_below(tail: list[tuple[float, bytes]]) -> None:
    tail.insert(0, (0.0, b"{}"))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (a_hole, {(7, "missing")}),
        (a_flip, {(7, "differs")}),
        (an_old_end, {(11, "stale")}),
        (a_swap, {(7, "out of order")}),
        (a_double, {(7, "twice")}),
        (two_of_a_score, {(7, "twice"), (7, "does not decode")}),
        (one_beyond, {(14, "too many")}),
        (a_half, {(7, "too many")}),
        (one_below, {(0, "too many")}),
    ],
)
def test_what_is_planted_in_a_tail_is_found(
    events: list[Event], plant: Callable[[list[tuple[float, bytes]]], None], found: set[tuple[int, str]]
) -> None:
    given = Given(events)
    tail = tail_of(events[3:])
    plant(tail)
    compare_tail(given.findings, given.claims, given.walk, tail)
    given.settle([])
    assert {(seq, what) for _, _, seq, what in given.found()} == found
    assert {(store, part) for store, part, *_ in given.found()} == {("redis", "tail")}


def test_a_tail_may_be_short_or_absent_or_ahead(events: list[Event]) -> None:
    given = Given(events[:8])
    for tail in (tail_of(events), tail_of(events[5:8]), []):
        compare_tail(given.findings, given.claims, given.walk, tail)
    given.settle(events[8:])
    assert given.found() == []


def test_the_list_of_rooms_must_have_the_room_at_its_time(events: list[Event]) -> None:
    given = Given(events)
    entry = fields_of(given.walk)
    compare_directory(given.findings, given.claims, given.walk, entry, float(events[-1].at))
    assert given.found() == []
    compare_directory(given.findings, given.claims, given.walk, entry, 5.0)
    compare_directory(given.findings, given.claims, given.walk, entry, None)
    assert given.found() == [("redis", "rooms", 13, "differs"), ("redis", "rooms", 13, "missing")]
