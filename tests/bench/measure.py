"""CPU of processes from /proc, and figures as they are printed: medians, spread, a ratio to a bare loop of the same run."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, in seconds (its dead children are not in it)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(frozen=True)
class Figure:
    """Repetitions of one measurement beside its bare loop, both in `unit`, interleaved."""

    name: str
    unit: str
    ours: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        """Median of ours to median of the bare loop."""
        return statistics.median(self.ours) / statistics.median(self.bare)

    def __str__(self) -> str:
        return (
            f"{self.name}: ours {_spread(self.ours)} {self.unit}, bare loop {_spread(self.bare)} {self.unit}, "
            f"ratio {self.ratio:.2f}"
        )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}, n={len(values)})"


def report(figures: Sequence[Figure], **conditions: object) -> str:
    """What a benchmark prints: a line a figure, then everything as JSON for a comparison."""
    load = os.getloadavg()[0]
    lines = [str(figure) for figure in figures]
    facts = {
        "cores": os.cpu_count(),
        "load_average_1m": round(load, 2),
        **conditions,
        "figures": [{**asdict(figure), "ratio": round(figure.ratio, 3)} for figure in figures],
    }
    return "\n".join(["", *lines, json.dumps(facts)])
