"""When a load that was too much is over."""

from __future__ import annotations

import pytest

from tests.faults.bystander import Memory
from tests.faults.overload import Stretch

OVER = float("inf")


@pytest.mark.parametrize(
    ("after_ms", "back_s"),
    [
        ([9, 8, 7], 0.0),
        ([OVER, 900, 8, 7], 2.0),
        ([900, 8, 8, 900, 900, 8, 7], 5.0),
        ([8, 8, 900, 8, 7], 0.0),
        ([900, 8, 900, 8, 7], 1.0),
        ([8, 8, 900, 900], OVER),
        ([OVER] * 4, OVER),
    ],
)
def test_it_is_over_when_no_two_late_seconds_follow_each_other(after_ms: list[float], back_s: float) -> None:
    stretch = Stretch("overload", 100.0, 4.0, Memory({}), before_s=0.008)
    stretch.after_s = [ms / 1000 for ms in after_ms]
    assert stretch.back_s == back_s
