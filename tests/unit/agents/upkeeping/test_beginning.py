"""Which positions are moved to the base."""

from __future__ import annotations

import pytest

from agents.upkeeping.beginning import Move, moves_of
from chat.errors import RoomlogError
from chat.log.bases import Base
from chat.log.positions import Checkpoint
from chat.log.taking import Position
from chat.log.walking import Extent

BASE = Base(1, offset=99, src=90, term=40, at=1_000)


def at(newest: int, again: int | None = None) -> Checkpoint:
    return Checkpoint(Position(newest, newest, 0), Position(newest if again is None else again, 0, 0))


def test_only_a_position_before_the_log_is_moved() -> None:
    held = dict.fromkeys(range(5), Extent(100, 200))
    known = {0: at(41), 1: at(98), 2: at(99), 3: at(150, again=20)}  # the fourth has none: it begins at the base anyway
    moves = moves_of("t", held, known, dict.fromkeys(held, BASE))
    assert moves == [Move(0, 41, 100, BASE.position), Move(1, 98, 100, BASE.position)]
    assert str(moves[0]) == "partition 0: offsets 42 to 99 were never read, it goes on at 100"


def test_a_whole_log_has_nothing_to_move() -> None:
    assert moves_of("t", {0: Extent(0, 9)}, {0: at(3)}, {}) == []


def test_without_a_base_nothing_is_guessed() -> None:
    with pytest.raises(RoomlogError, match="no position in it is known"):
        moves_of("t", {0: Extent(100, 200)}, {0: at(3)}, {})
