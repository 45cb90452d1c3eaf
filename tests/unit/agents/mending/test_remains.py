"""What is left after a loss: where the log may be read from, and which rooms go on above what is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agents.mending.remains import OPERATOR, Beginning, Remains
from agents.sequencing.rows import TABLES, Rows
from chat.log.taking import Position
from chat.records import Event, Opens, RenumberRoom, record_headers


def event(room: str, seq: int, *, epoch: str = "e", **more: Any) -> Event:
    opens = Opens(kind="open", owner="ann") if seq == 1 else None
    return Event(
        v=1,
        room=room,
        seq=seq,
        epoch=epoch,
        at=seq,
        sender="ann",
        msg_no=seq,
        members=1,
        chain="c",
        **{"kind": "message", "opens": opens} | more,
    )


def left(*known: Event) -> Remains:
    remains = Remains(Rows(0, {table: {} for table in TABLES}), at=0)
    for each in known:
        remains.fold(each)
        remains.archived[each.room] = each.seq
    return remains


def head(remains: Remains, room: str) -> tuple[int, str]:
    found = remains.rows.of(room).head
    assert found is not None
    return found.seq, found.epoch


def test_a_room_of_which_nothing_is_missing_keeps_its_numbering() -> None:
    remains = left(event("a", 1), event("a", 2))
    for seq in (2, 3, 4):
        remains.fold_logged(event("a", seq))
    assert remains.renumberings(100) == []
    assert head(remains, "a") == (4, "e")


def test_a_room_that_jumps_goes_on_above_all_that_may_have_been_given() -> None:
    remains = left(event("a", 1), event("a", 2))
    remains.fold_logged(event("a", 7))
    remains.fold_logged(event("a", 8))
    assert head(remains, "a") == (8, "e")
    assert remains.renumberings(100) == [RenumberRoom(v=1, room="a", sender=OPERATOR, epoch="e", above=108)]


def test_a_silent_room_may_have_lost_its_last_words() -> None:
    remains = left(event("a", 1))
    remains.highest["a"] = 3  # Cassandra's row of the room was further than its events
    assert remains.renumberings(10) == [RenumberRoom(v=1, room="a", sender=OPERATOR, epoch="e", above=13)]


def test_a_room_that_began_in_what_is_left_has_lost_nothing() -> None:
    remains = left()
    remains.fold_logged(event("a", 1))
    assert remains.renumberings(10) == []


def test_a_room_of_which_only_the_middle_is_left_is_known_from_there_on() -> None:
    remains = left()
    remains.fold_logged(event("a", 5))
    assert head(remains, "a") == (5, "e")
    assert [command.above for command in remains.renumberings(10)] == [15]


def test_a_room_that_was_numbered_anew_by_a_run_that_was_killed_is_left_alone() -> None:
    remains = left(event("a", 1))
    remains.fold_logged(event("a", 7))
    opens = Opens(kind="open", owner="ann")
    remains.fold_logged(event("a", 107, epoch="f", kind="room.renumbered", opens=opens))
    assert head(remains, "a") == (107, "f")
    assert remains.renumberings(10) == []


def test_rows_that_know_of_an_event_whose_words_are_gone_do_not_make_a_room_whole() -> None:
    remains = left(event("a", 1), event("a", 2))
    remains.fold(event("a", 3))  # the rows' own
    remains.fold_logged(event("a", 4))
    assert head(remains, "a") == (4, "e")
    assert [command.above for command in remains.renumberings(0)] == [4]


def test_where_every_head_is_known_a_silent_room_keeps_its_numbering_when_all_of_it_is_archived() -> None:
    remains = left(event("a", 1), event("b", 1))
    remains.fold(event("b", 2))
    assert [(command.room, command.above) for command in remains.renumberings(0)] == [("b", 2)]


# ---------------------------------------------------------------- where to begin


def position(beginning: int, *records: tuple[tuple[str, bytes], ...]) -> Position:
    found = Beginning(beginning)
    for offset, headers in enumerate(records, beginning):
        if found.settled_by(SimpleNamespace(offset=offset, headers=headers)):
            break
    return found.position


def answer(src: int, term: int) -> tuple[tuple[str, bytes], ...]:
    return tuple(record_headers(src, term, "message"))


FENCE = (("kind", b"writer"),)


def test_without_a_fence_the_records_of_the_highest_term_count() -> None:
    assert position(100, answer(40, 7), answer(41, 7)) == Position(99, 39, 7)
    # A put-out writer has a lower one, wherever its records landed.
    assert position(100, answer(50, 3), answer(40, 7), answer(51, 3)) == Position(99, 39, 7)


def test_behind_a_fence_only_its_own_writer_counts() -> None:
    assert position(100, FENCE, answer(50, 7), answer(40, 100)) == Position(100, 39, 100)
    assert position(100, answer(40, 7), FENCE, answer(41, 101)) == Position(99, 39, 7)


def test_where_nothing_counts_nobody_knows_what_was_answered() -> None:
    assert position(100) == Position(99, -1, -1)
    assert position(100, FENCE, FENCE) == Position(101, -1, 101)
    assert position(100, (("src", b"x"),), FENCE) == Position(101, -1, 101)
