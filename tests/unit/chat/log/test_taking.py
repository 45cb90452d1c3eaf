from __future__ import annotations

import pytest

from chat.errors import LogHole
from chat.log.taking import START, Position, Take, Taker, command_id
from chat.records import record_headers

FENCE = (("kind", b"writer"),)


def event(src: int, term: int, kind: str = "message"):
    return tuple(record_headers(src, term, kind))


def take_all(records, start: Position = START):
    taker = Taker(start)
    return [taker.take(start.offset + 1 + i, headers) for i, headers in enumerate(records)], taker


def test_events_and_verdicts_of_the_latest_fence_count() -> None:
    takes, taker = take_all([FENCE, event(0, 0), event(1, 0, "verdict"), event(2, 0)])
    assert takes == [Take.FENCE, Take.EVENT, Take.VERDICT, Take.EVENT]
    assert taker.position == Position(3, 2, 0)


def test_a_put_out_writers_late_record_is_ignored() -> None:
    takes, taker = take_all([FENCE, event(0, 0), FENCE, event(1, 0), event(1, 2)])
    assert takes == [Take.FENCE, Take.EVENT, Take.FENCE, Take.FENCED, Take.EVENT]
    assert taker.position == Position(4, 1, 2)


def test_a_record_before_any_fence_is_ignored() -> None:
    takes, _ = take_all([event(0, 0), FENCE, event(0, 1)])
    assert takes == [Take.FENCED, Take.FENCE, Take.EVENT]


def test_of_two_records_for_one_command_the_first_wins() -> None:
    takes, _ = take_all([FENCE, event(0, 0), event(0, 0), event(1, 0)])
    assert takes == [Take.FENCE, Take.EVENT, Take.REPEAT, Take.EVENT]


def test_a_new_owner_that_repeats_what_stands_there_is_harmless() -> None:
    takes, taker = take_all([FENCE, event(0, 0), FENCE, event(0, 2), event(1, 2)])
    assert takes == [Take.FENCE, Take.EVENT, Take.FENCE, Take.REPEAT, Take.EVENT]
    assert taker.src == 1


def test_a_missing_command_is_a_hole() -> None:
    with pytest.raises(LogHole):
        take_all([FENCE, event(0, 0), event(2, 0)])


def test_a_missing_offset_is_a_hole() -> None:
    taker = Taker()
    taker.take(0, FENCE)
    with pytest.raises(LogHole):
        taker.take(2, event(0, 0))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("src", b"0"),),
        (("src", b"0"), ("term", b"0")),
        (("src", None), ("term", None), ("kind", None)),
        (("src", None), ("term", b"0"), ("kind", b"message")),
        (("src", b"0"), ("term", b"0"), ("kind", b"")),
        (("src", b"x"), ("term", b"0"), ("kind", b"message")),
        (("src", b"-1"), ("term", b"0"), ("kind", b"message")),
        (("src", b"9" * 5000), ("term", b"0"), ("kind", b"message")),
        (("src", b""), ("term", b"0"), ("kind", b"message")),
        (("other", b"1"), ("another", b"2"), ("third", b"3")),
    ],
)
def test_what_no_code_of_ours_wrote_is_passed_over(headers) -> None:
    takes, taker = take_all([FENCE, headers, event(0, 0)])
    assert takes == [Take.FENCE, Take.FOREIGN, Take.EVENT]
    assert taker.position == Position(2, 0, 0)


def test_headers_in_another_order_say_the_same() -> None:
    takes, _ = take_all([FENCE, (("x", b""), ("kind", b"message"), ("term", b"0"), ("src", b"0"))])
    assert takes == [Take.FENCE, Take.EVENT]


def test_a_fence_counts_whatever_else_it_carries() -> None:
    takes, taker = take_all([(("src", b"7"), ("term", b"7"), ("kind", b"writer"))])
    assert takes == [Take.FENCE]
    assert taker.term == 0


def test_a_reader_goes_on_where_another_one_stood() -> None:
    records = [FENCE, event(0, 0), FENCE, event(1, 0), event(1, 2), event(2, 2)]
    whole, end = take_all(records)
    for split in range(1, len(records)):
        first, taker = take_all(records[:split])
        rest, other = take_all(records[split:], taker.position)
        assert first + rest == whole
        assert other.position == end.position


def test_a_checkpoint_names_the_last_fence_read_so_that_no_zombie_is_obeyed() -> None:
    _, taker = take_all([FENCE, event(0, 0), FENCE])
    assert taker.position == Position(2, 0, 2)
    takes, _ = take_all([event(1, 0), event(1, 2)], taker.position)
    assert takes == [Take.FENCED, Take.EVENT]


def test_what_a_writer_knows_of_its_own_batch_is_what_a_reader_takes() -> None:
    records = [FENCE, event(0, 0), event(1, 0)]
    _, read = take_all(records)
    _, own = take_all(records[:1])
    own.wrote(2)
    assert own.position == read.position


@pytest.mark.parametrize("position", [START, Position(0, -1, 0), Position(10**15, 5, 3)])
def test_position_survives_its_text(position: Position) -> None:
    assert Position.decode(position.encode()) == position


@pytest.mark.parametrize("text", ["", "1", "1,2", "1,2,3,4", "a,b,c", "1,2,"])
def test_text_that_is_no_position(text: str) -> None:
    assert Position.decode(text) is None


def test_command_id_is_found_where_ours_stands_and_elsewhere() -> None:
    assert command_id(tuple(record_headers(0, 0, "message", b"id"))) == b"id"
    assert command_id((("cmd", b"id"),)) == b"id"
    assert command_id(event(0, 0)) is None
