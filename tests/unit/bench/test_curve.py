"""Curves: a last step that leaves the expected shape is named; slopes and drifts are what they are called."""

from __future__ import annotations

import json

import pytest

from tests.bench.curve import Curve, Shape, drift, expected, line, slope_after

XS = [10.0, 100.0, 1_000.0, 10_000.0]


def curve(ys: list[float], shape: Shape) -> Curve:
    return Curve("rooms", "rooms", "us", XS[: len(ys)], {"sequencer": ys}, shape=shape)


@pytest.mark.parametrize(
    ("ys", "shape"),
    [
        ([30, 31, 29, 30], "flat"),
        ([30, 31, 29, 44], "flat"),  # noise of a busy machine, not growth
        ([90, 30, 12, 11], "flat"),
        ([11, 20, 110, 1_010], "straight"),
        ([80, 80, 80, 80], "straight"),
        ([300, 120, 110, 115], "straight"),
        ([1, 10, 1_000, 1_000_000], ""),
        ([1, 2], "straight"),  # two points say nothing about a third
        ([1], "flat"),
    ],
)
def test_a_curve_of_the_expected_shape_is_let_pass(ys: list[float], shape: Shape) -> None:
    assert curve(ys, shape).superlinear() == []


@pytest.mark.parametrize(
    ("ys", "shape"),
    [
        ([30, 31, 29, 46], "flat"),
        ([30, 31, 29, 290], "flat"),
        ([11, 20, 110, 1_500], "straight"),
        ([1, 10, 110, 11_000], "straight"),
        ([300, 120, 110, 1_100], "straight"),
    ],
)
def test_a_last_step_that_leaves_the_shape_is_superlinear(ys: list[float], shape: Shape) -> None:
    (said,) = curve(ys, shape).superlinear()
    assert said.startswith("superlinear: rooms, sequencer: ")


def test_only_the_series_that_leaves_the_shape_is_named() -> None:
    both = Curve("rooms", "rooms", "us", XS, {"kafka": [1, 1, 1, 1], "sequencer": [1, 1, 1, 9]}, shape="flat")
    assert [said.split(", ")[1].split(":")[0] for said in both.superlinear()] == ["sequencer"]


def test_a_fall_in_the_first_points_is_no_promise_of_a_further_one() -> None:
    assert expected([1, 2, 3], [10, 5, 0], "straight") == 5


def test_a_flat_curve_is_expected_where_most_of_it_was() -> None:
    assert expected(XS, [30, 500, 31, 0], "flat") == 31


def test_a_line_through_points_on_a_line_is_that_line() -> None:
    assert line([0, 10, 20], [5, 25, 45]) == pytest.approx((2, 5))


def test_a_line_through_points_of_one_x_is_flat() -> None:
    assert line([3, 3], [4, 6]) == (0, 5)


def test_a_slope_leaves_out_what_was_before_it_begins() -> None:
    assert slope_after([0, 1, 2, 3], [900, 10, 12, 14], 1) == pytest.approx(2)


@pytest.mark.parametrize("begin", [3, 99])
def test_fewer_than_two_points_have_no_slope(begin: float) -> None:
    assert slope_after([0, 1, 2, 3], [1, 2, 3, 4], begin) == 0


def test_a_drift_compares_the_first_part_with_the_last() -> None:
    assert drift([10, 10, 99, 50, 12, 12], 2) == pytest.approx(20)


@pytest.mark.parametrize(("ys", "drifted"), [([7], 0), ([10, 11], 10), ([10, 1, 11], 10), ([0, 5], 0)])
def test_a_short_run_drifts_from_its_first_value_to_its_last(ys: list[float], drifted: float) -> None:
    assert drift(ys, 10) == pytest.approx(drifted)


def test_a_saved_curve_holds_its_points() -> None:
    saved = json.loads(json.dumps(Curve("a", "x", "y", [1], {"s": [2.00001]}, {"s": [(1, 3)]}, "flat").as_json()))
    assert saved == {
        "name": "a",
        "x_label": "x",
        "y_label": "y",
        "xs": [1],
        "series": {"s": [2.0]},
        "spread": {"s": [[1, 3]]},
        "shape": "flat",
    }
