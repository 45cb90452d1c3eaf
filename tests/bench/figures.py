"""Figures as they are reported: medians and spread over repetitions, beside a bare loop of the same run, and what they
have to reach. Pure: values in, text and JSON out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

WORSE_MAX: Final = 1 / 3
"""A ratio that is worse than the committed baseline's by more than this fails the quick mode."""


@dataclass(frozen=True)
class Reach:
    """What a figure has to reach: a bound on its median, or on the ratio of the medians to the bare loop's."""

    bound: float
    at_most: bool = True
    ratio: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:,g}{' x' if self.ratio else ''}"


@dataclass(frozen=True)
class Figure:
    """Repetitions of one measurement, beside its bare loop where there is one, both in `unit`, interleaved."""

    name: str
    unit: str
    ours: list[float]
    bare: list[float] = field(default_factory=list)
    reach: Reach | None = None
    smaller_is_better: bool = True
    disturbed: int = 0
    """Of the repetitions of ours and of the bare loop."""

    @property
    def median(self) -> float:
        """Of ours."""
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """Median of ours to median of the bare loop."""
        return self.median / bare if self.bare and (bare := statistics.median(self.bare)) else None

    @property
    def met(self) -> bool | None:
        """Whether it reaches what it has to; None when nothing was asked."""
        if self.reach is None:
            return None
        value = self.ratio if self.reach.ratio else self.median
        assert value is not None, f"{self.name}: a ratio is asked for, and nothing was measured beside it"
        return value <= self.reach.bound if self.reach.at_most else value >= self.reach.bound

    def worse_than(self, baseline: float) -> float:
        """By how much the ratio is worse than one measured earlier: 0.5 means half as good again."""
        assert self.ratio is not None
        return (self.ratio / baseline if self.smaller_is_better else baseline / self.ratio) - 1

    def as_json(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            **asdict(self),
            "ours": [round(value, 4) for value in self.ours],
            "bare": [round(value, 4) for value in self.bare],
            "median": round(self.median, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "reach": None if self.reach is None else str(self.reach),
            "met": self.met,
        }


HEADINGS: Final = ("figure", "unit", "ours (least-most)", "bare loop", "ratio", "to reach", "")


def table(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """A line a figure, under `HEADINGS`."""
    marks = {True: "yes", False: "NO", None: ""}
    return [
        (
            figure.name,
            figure.unit,
            spread(figure.ours),
            spread(figure.bare) if figure.bare else "",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "" if figure.reach is None else str(figure.reach),
            marks[figure.met] + (f" ({figure.disturbed} disturbed)" if figure.disturbed else ""),
        )
        for figure in figures
    ]


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text for a terminal, columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def spread(values: Sequence[float]) -> str:
    """Median, and the least and the most of them."""
    return f"{_short(statistics.median(values))} ({_short(min(values))}-{_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def fallen(figures: Sequence[Figure], baseline: dict[str, float]) -> list[str]:
    """What fell behind a baseline of ratios (name -> ratio), in words, a line each."""
    lines = []
    for figure in figures:
        if figure.name in baseline and figure.ratio is not None:
            worse = figure.worse_than(baseline[figure.name])
            if worse > WORSE_MAX:
                lines.append(f"{figure.name}: ratio {figure.ratio:.2f}, was {baseline[figure.name]:.2f} ({worse:+.0%})")
    return lines
