"""Where a reader without a position begins."""

from __future__ import annotations

import pytest

from chat.errors import BrokenInvariant, UnknownVersion
from chat.log.bases import Base, begin_at, decode_base
from chat.log.taking import START, Position

BASE = Base(1, offset=99, src=90, term=40, at=1_000)


def test_a_whole_log_is_read_from_its_start_even_when_a_base_stands_already() -> None:
    assert begin_at(0, None) == START
    assert begin_at(0, BASE) == START


@pytest.mark.parametrize("beginning", [1, 50, 99, 100])
def test_a_trimmed_log_is_read_from_its_base_while_records_are_being_deleted_too(beginning: int) -> None:
    assert begin_at(beginning, BASE) == Position(99, 90, 40)


def test_a_log_that_lost_more_than_its_base_says_has_no_beginning() -> None:
    assert begin_at(101, BASE) is None
    assert begin_at(1, None) is None


@pytest.mark.parametrize("value", [None, b"", b"junk", b'{"v":1,"offset":3}', b"\xff"])
def test_what_is_no_base_stops_whoever_asks(value: bytes | None) -> None:
    with pytest.raises(BrokenInvariant):
        decode_base(value)


def test_a_newer_version_stops_whoever_asks() -> None:
    with pytest.raises(UnknownVersion):
        decode_base(b'{"v":2,"offset":3,"src":2,"term":0,"at":5}')
