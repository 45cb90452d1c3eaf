"""What may be deleted of a partition."""

from __future__ import annotations

from typing import Any

import pytest

from agents.sequencing.rows import Checkpoint
from agents.upkeeping.trimming import NO_BASE, Cut, cut
from chat.errors import BrokenInvariant
from chat.log.bases import Base
from chat.log.taking import Position
from chat.log.walking import Extent

BASE = Base(1, offset=99, src=90, term=40, at=1_000)


def planned(
    *,
    held: tuple[int, int] = (0, 1_000),
    base: Base | None = None,
    checkpoint: int | None = 900,
    young: int | None = 800,
    archiver: int | None = 700,
    projector: int | None = 600,
) -> Cut:
    def position(offset: int | None) -> Position | None:
        return None if offset is None else Position(offset, offset - 9, 0)

    return cut(
        3,
        Extent(*held),
        base,
        None if checkpoint is None else Checkpoint(checkpoint, checkpoint - 9, 0, 77),
        young,
        {"archiver": position(archiver), "projector": position(projector)},
    )


@pytest.mark.parametrize(
    ("changed", "last", "why"),
    [
        ({}, 600, "the projector's position"),
        ({"archiver": 500}, 500, "the archiver's position"),
        ({"checkpoint": 400}, 400, "the sequencer's checkpoint"),
        ({"young": 301}, 300, "the retention setting"),
        ({"young": None}, 600, "the projector's position"),
    ],
)
def test_what_anybody_needs_stays(changed: dict[str, Any], last: int, why: str) -> None:
    made = planned(**changed)
    assert (made.origin, made.last) == (NO_BASE, last)
    assert why in made.why
    assert f"0 to {last} go, {last + 1} to 999 stay" in str(made)


@pytest.mark.parametrize("who", ["archiver", "projector", "checkpoint"])
def test_somebody_without_a_position_keeps_everything(who: str) -> None:
    made = planned(**{who: None})
    assert made.origin is None
    assert "nothing to delete, it holds 0 to 999" in str(made)


def test_a_second_trim_goes_on_from_the_base() -> None:
    made = planned(held=(100, 1_000), base=BASE)
    assert (made.origin, made.last) == (BASE, 600)


def test_a_trim_that_was_killed_before_it_deleted_is_finished() -> None:
    made = planned(base=BASE, projector=99)
    assert (made.origin, made.last) == (BASE, 99)


def test_a_base_never_goes_back() -> None:
    assert planned(base=BASE, projector=50).origin is None
    assert planned(held=(100, 1_000), base=BASE, projector=99).origin is None


def test_an_empty_partition_is_left_alone() -> None:
    made = planned(held=(0, 0), checkpoint=None, young=None, archiver=None, projector=None)
    assert made.origin is None
    assert "it holds no records" in str(made)


def test_a_log_that_somebody_else_trimmed_gets_the_sequencers_checkpoint_as_its_base() -> None:
    for base in (None, Base(1, offset=20, src=9, term=0, at=5)):
        made = planned(held=(50, 1_000), base=base)
        assert made.adopts
        assert made.origin == Base(1, offset=900, src=891, term=0, at=77)
        assert "somebody else trimmed it" in str(made)


def test_a_log_that_was_trimmed_past_the_checkpoint_is_left_to_another_operation() -> None:
    assert planned(held=(950, 1_000)).origin is None


def test_a_log_that_was_made_anew_is_not_touched() -> None:
    with pytest.raises(BrokenInvariant, match="made anew"):
        planned(held=(0, 50), base=BASE)
