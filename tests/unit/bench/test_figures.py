"""Figures: what is reported of repetitions, what has to be reached, and what fell behind a baseline."""

from __future__ import annotations

import json

import pytest

from tests.bench.figures import HEADINGS, Figure, Reach, aligned, fallen, spread, table


def figure(ours: list[float], bare: list[float] | None = None, reach: Reach | None = None, **more: bool) -> Figure:
    return Figure("delay", "ms", ours, bare or [], reach, **more)


def test_a_ratio_is_the_median_of_ours_to_the_median_of_the_bare_loop() -> None:
    assert figure([9, 3, 100], [3, 1, 50]).ratio == 3


@pytest.mark.parametrize("bare", [[], [0.0, 0.0]])
def test_without_a_bare_loop_that_cost_something_there_is_no_ratio(bare: list[float]) -> None:
    assert figure([9], bare).ratio is None


@pytest.mark.parametrize(
    ("reach", "met"),
    [
        (None, None),
        (Reach(10), True),
        (Reach(9.9), False),
        (Reach(10, at_most=False), True),
        (Reach(10.1, at_most=False), False),
        (Reach(2, ratio=True), True),
        (Reach(1.9, ratio=True), False),
    ],
)
def test_a_bound_that_is_exactly_met_is_met(reach: Reach | None, met: bool | None) -> None:
    assert figure([10], [5], reach).met is met


def test_a_ratio_that_has_to_be_reached_needs_something_beside_it() -> None:
    with pytest.raises(AssertionError, match="nothing was measured beside it"):
        _ = figure([10], reach=Reach(2, ratio=True)).met


def test_twice_the_cost_is_worse_by_one() -> None:
    assert figure([8], [2]).worse_than(2) == 1


def test_of_what_is_better_when_it_is_more_half_as_much_is_worse_by_one() -> None:
    assert figure([2], [2], smaller_is_better=False).worse_than(2) == 1


@pytest.mark.parametrize(("ours", "is_named"), [(1.32, False), (1.34, True), (0.1, False)])
def test_only_what_fell_by_more_than_a_third_is_named(ours: float, is_named: bool) -> None:
    assert bool(fallen([figure([ours], [1])], {"delay": 1})) is is_named


def test_more_of_what_is_better_when_it_is_more_has_not_fallen() -> None:
    assert not fallen([figure([4], [1], smaller_is_better=False)], {"delay": 2})


def test_a_figure_that_the_baseline_does_not_know_has_not_fallen() -> None:
    assert not fallen([figure([9], [1]), figure([9])], {"another": 1}) + fallen([figure([9])], {"delay": 1})


def test_what_fell_is_said_with_both_ratios() -> None:
    assert fallen([figure([3], [1])], {"delay": 1.5}) == ["delay: ratio 3.00, was 1.50 (+100%)"]


def test_the_table_has_a_cell_for_each_heading() -> None:
    rows = table([figure([1]), figure([1, 2], [1, 2], Reach(1, ratio=True))])
    assert {len(row) for row in rows} == {len(HEADINGS)}
    assert rows[1][2:] == ("1.5 (1-2)", "1.5 (1-2)", "1.00", "<= 1 x", "yes")


def test_a_disturbed_figure_is_marked_in_the_table() -> None:
    disturbed = Figure("delay", "ms", [3], reach=Reach(2), disturbed=2)
    assert table([disturbed])[0][-1] == "NO (2 disturbed)"


def test_columns_are_aligned_without_blanks_at_the_end() -> None:
    assert aligned([("a", "b"), ("long", "")]) == "a     b\nlong"


def test_a_spread_is_median_least_and_most() -> None:
    assert spread([2_000, 1, 30]) == "30 (1-2,000)"


def test_the_report_holds_what_a_figure_says_of_itself() -> None:
    saved = json.loads(json.dumps(figure([4], [2], Reach(3, ratio=True)).as_json()))
    assert (saved["median"], saved["ratio"], saved["reach"], saved["met"]) == (4, 2, "<= 3 x", True)
