"""How a cost grows: points of a curve, the straight line through them, and whether the last step leaves it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

GROWTH_MAX: Final = 1.5
"""A last step that grows by more than this times what the points before it say is superlinear."""
NOISE: Final = 0.25
"""Of the point before: so much a straight curve may grow beside, since two measurements of one thing differ, too."""

Shape = Literal["flat", "straight", ""]
"""What is expected; empty: nothing, the curve is only shown."""


@dataclass(frozen=True)
class Curve:
    """One or more series over the same x, as they are saved and drawn."""

    name: str
    x_label: str
    y_label: str
    xs: list[float]
    series: dict[str, list[float]]
    """Medians, by name."""
    spread: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Least and most of the repetitions, where there were some."""
    shape: Shape = ""

    def superlinear(self) -> list[str]:
        """The series whose last step grows faster than expected, in words, a line each."""
        return [line for name, ys in self.series.items() if (line := self._look(name, ys))]

    def _look(self, name: str, ys: list[float]) -> str:
        if not self.shape or (said := expected(self.xs, ys, self.shape)) is None:
            return ""
        if self.shape == "flat":
            bound = GROWTH_MAX * said
        else:
            bound = ys[-2] + GROWTH_MAX * (said - ys[-2]) + NOISE * abs(ys[-2])
        if ys[-1] <= bound:
            return ""
        return (
            f"superlinear: {self.name}, {name}: {ys[-1]:,.4g} at {self.xs[-1]:,g}, after {ys[-2]:,.4g} at"
            f" {self.xs[-2]:,g}; {'as before' if self.shape == 'flat' else 'a straight line'} would be {said:,.4g}"
        )

    def as_json(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            **asdict(self),
            "series": {name: [round(y, 4) for y in ys] for name, ys in self.series.items()},
            "spread": {
                name: [[round(low, 4), round(high, 4)] for low, high in pairs] for name, pairs in self.spread.items()
            },
        }


def expected(xs: Sequence[float], ys: Sequence[float], shape: Shape) -> float | None:
    """What the points before the last one say about it; None when there are too few to say anything.

    A `flat` curve stays where it was. A `straight` one goes on along the line through them, but never falls below the
    point before: a fall in the first points is no promise.
    """
    if shape == "flat":
        return statistics.median(ys[:-1]) if len(ys) >= 2 else None
    if len(ys) < 3:
        return None
    slope, start = line(xs[:-1], ys[:-1])
    return max(slope * xs[-1] + start, ys[-2])


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and start of the straight line through points, by least squares. Of one x: flat, at the mean."""
    if len(set(xs)) < 2:
        return 0.0, statistics.fmean(ys)
    slope, start = statistics.linear_regression(xs, ys)
    return slope, start


def slope_after(xs: Sequence[float], ys: Sequence[float], begin: float) -> float:
    """Slope by least squares of the points at `begin` and later; 0 when there are fewer than two."""
    later = [(x, y) for x, y in zip(xs, ys, strict=True) if x >= begin]
    return line([x for x, _ in later], [y for _, y in later])[0] if len(later) > 1 else 0.0


def drift(ys: Sequence[float], part: int) -> float:
    """By how much, in percent, the median of the last `part` values is above that of the first `part` of them."""
    part = max(1, min(part, len(ys) // 2)) if len(ys) > 1 else 1
    first, last = statistics.median(ys[:part]), statistics.median(ys[-part:])
    return (last / first - 1) * 100 if first else 0.0
