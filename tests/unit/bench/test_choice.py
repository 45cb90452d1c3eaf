"""Which rows the command line asks for."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import _is_chosen
from tests.bench.rows import ROWS


def chosen(*names: str, quick: bool = False) -> list[str]:
    return [row.name for row in ROWS if _is_chosen(row, list(names), quick=quick)]


def test_long_rows_run_only_when_they_are_named() -> None:
    long = {row.name for row in ROWS if row.is_long}
    assert {"soak", "soak-idle", "curve-rooms"} <= long
    assert not long & {*chosen(), *chosen(quick=True)}


def test_a_beginning_of_a_name_asks_for_all_that_begin_so() -> None:
    assert chosen("curve") == [row.name for row in ROWS if row.name.startswith("curve-")]


@pytest.mark.parametrize("name", ["soak", "soak-idle", "latency"])
def test_the_whole_name_of_a_long_row_asks_for_no_other(name: str) -> None:
    assert chosen(name) == [name]


def test_every_row_says_what_it_measures_and_has_a_name_of_its_own() -> None:
    assert all(row.about for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
