"""Checkpoints as metadata of committed offsets."""

from __future__ import annotations

import pytest

from chat.log.positions import Checkpoint
from chat.log.taking import START, Position


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint(START, START),
        Checkpoint(Position(9, 4, 2), Position(9, 4, 2)),
        Checkpoint(Position(9, 4, 2), Position(3, 1, 0)),
    ],
)
def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint) -> None:
    assert Checkpoint.decode(checkpoint.encode()) == checkpoint


def test_a_plain_position_is_a_checkpoint_that_repeats_nothing() -> None:
    assert Checkpoint.decode("9,4,2") == Checkpoint(Position(9, 4, 2), Position(9, 4, 2))


@pytest.mark.parametrize("text", ["", "faust", "1,2", "1,2,x", ";1,2,3", "a;b"])
def test_other_metadata_is_no_checkpoint(text: str) -> None:
    assert Checkpoint.decode(text) is None
