"""`python -m tests.bench.plots JSON... --into docs/performance`: charts of what `python -m tests.bench` measured.

Takes any number of its JSON files; of a row that stands in several the last one counts. What was not measured is not
drawn, and no other chart is touched. The same figures give the same bytes: no dates, no random ids, no text as outlines.

    ratios.svg            every figure beside its bare loop
    curve-NAME.svg        how cost grows, one chart a curve
    cost-of-a-message.svg CPU by process, of the rows in which everything is at work
    soak-memory.svg, soak-delay.svg
    where-the-time-goes.svg
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from tests.bench.curve import line

STYLE: Final = {
    "svg.hashsalt": "roomlog",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#332288", "#994455")
"""Paul Tol's "bright": told apart by people who see fewer colours, too."""
WIDTH: Final = 7.5
COST_ROWS: Final = ("rooms-of-ten", "direct")
PROCESSES: Final = ("gateway", "sequencer", "archiver", "projector", "kafka", "cassandra", "redis")
MANY_POINTS: Final = 40
"""A curve over time: its points are not marked."""
TIME: Final = "minutes"
LINE_POINTS: Final = 40
LOGARITHMIC_FROM: Final = 50
"""An axis whose largest value is so many times its least one is logarithmic."""

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.plots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", nargs="+", type=Path, help="what `python -m tests.bench` saved")
    parser.add_argument("--into", type=Path, required=True, help="the folder of the charts")
    options = parser.parse_args(arguments)
    rows = merged([json.loads(path.read_text()) for path in options.json])
    options.into.mkdir(parents=True, exist_ok=True)
    for name in draw(rows, options.into):
        print(name)
    return 0


# ---------------------------------------------------------------- what there is to draw


def merged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Row]:
    """Rows by name, the last of each that was not refused, in the order in which they first appear."""
    rows: dict[str, Row] = {}
    for report in reports:
        for row in report["rows"]:
            if not row.get("refused"):
                rows[row["row"]] = row
    return rows


def ratios(rows: Mapping[str, Row]) -> list[tuple[str, float, str]]:
    """(name, times the bare loop, what was to be reached and whether it was) of all figures that have a ratio.

    Above one is always dearer than the bare loop: of what is better when it is more, the inverse is taken.
    """
    found = []
    for row in rows.values():
        for figure in row.get("figures", ()):
            if ratio := figure.get("ratio"):
                better = figure.get("smaller_is_better", True)
                found.append((figure["name"], ratio if better else 1 / ratio, _mark(figure)))
    return found


def _mark(figure: Mapping[str, Any]) -> str:
    reach, met = figure.get("reach"), figure.get("met")
    return "" if reach is None or met is None else f"{reach}: {'yes' if met else 'NO'}"


def costs(rows: Mapping[str, Row]) -> dict[str, dict[str, float]]:
    """Row -> process -> microseconds of CPU per message of ours."""
    found = {}
    for name in COST_ROWS:
        cost = rows.get(name, {}).get("cpu_us_per_unit", {}).get("ours", {})
        if shown := {process: cost[process] for process in PROCESSES if process in cost}:
            found[name] = shown
    return found


def stages(rows: Mapping[str, Row]) -> dict[str, dict[str, float]]:
    """Stage -> quantile -> milliseconds on the way of a message, empty when they were not measured."""
    found = rows.get("latency", {}).get("conditions", {}).get("stages_ms", {})
    if not isinstance(found, dict):
        return {}
    return {
        name: {q: float(stage[q]) for q in ("p50", "p99") if isinstance(stage.get(q), int | float)}
        for name, stage in found.items()
        if isinstance(stage, dict) and isinstance(stage.get("p50"), int | float)
    }


def curves(rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Every curve of every row that has a point."""
    return [curve for row in rows.values() for curve in row.get("curves", ()) if curve["xs"]]


def file_name(curve: str) -> str:
    """Of the chart of a curve: `rooms: CPU of the sequencer` -> `curve-rooms-cpu-of-the-sequencer.svg`."""
    slug = re.sub(r"[^a-z0-9]+", "-", curve.lower()).strip("-")
    return {"soak-send-to-deliver": "soak-delay.svg", "soak-memory": "soak-memory.svg"}.get(slug, f"curve-{slug}.svg")


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether an axis for these is easier to read by powers of ten. A 0 is let pass: it is drawn at the edge."""
    positive = [value for value in values if value > 0]
    return bool(positive) and min(values) >= 0 and max(positive) / min(positive) >= LOGARITHMIC_FROM


# ---------------------------------------------------------------- drawing


def draw(rows: Mapping[str, Row], into: Path) -> list[str]:
    """Draw all that there is; gives the names of the files."""
    made: list[str] = []

    def save(name: str, height: float, paint: Callable[[Axes], None]) -> None:
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
        paint(drawing.subplots())
        _save(drawing, into / name)
        made.append(name)

    with mpl.rc_context(STYLE):
        if of_ratios := ratios(rows):
            save("ratios.svg", 0.8 + 0.24 * len(of_ratios), lambda axes: _draw_ratios(axes, of_ratios))
        for curve in curves(rows):
            save(file_name(curve["name"]), 3.4, lambda axes, curve=curve: _draw_curve(axes, curve))
        if of_costs := costs(rows):
            save("cost-of-a-message.svg", 1.3 + 0.55 * len(of_costs), lambda axes: _draw_costs(axes, of_costs))
        if of_stages := stages(rows):
            save("where-the-time-goes.svg", 1.2 + 0.4 * len(of_stages), lambda axes: _draw_stages(axes, of_stages))
    return made


def _save(drawing: Drawing, path: Path) -> None:
    drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of lines, which a linter of whitespace would change
    path.write_text("\n".join(text.rstrip() for text in path.read_text().splitlines()) + "\n")


def _draw_ratios(axes: Axes, found: Sequence[tuple[str, float, str]]) -> None:
    names = [name for name, _, _ in found][::-1]
    values = [ratio for _, ratio, _ in found][::-1]
    marks = [mark for _, _, mark in found][::-1]
    bars = axes.barh(range(len(names)), values, color=[COLOURS[1 if "NO" in mark else 0] for mark in marks], height=0.7)
    axes.bar_label(
        bars, [f" {ratio:.2f}{f'  ({mark})' if mark else ''}" for ratio, mark in zip(values, marks, strict=True)]
    )
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(*values, 1.0) * 1.5)
    axes.set_xlabel("times the bare loop of the same run (1: no dearer; below: cheaper)")


def _draw_curve(axes: Axes, curve: Mapping[str, Any]) -> None:
    xs: list[float] = curve["xs"]
    series: dict[str, list[float]] = curve["series"]
    for (name, ys), colour in zip(series.items(), _colours(len(series)), strict=True):
        axes.plot(xs, ys, marker="o" if len(xs) < MANY_POINTS else None, markersize=4, label=name, color=colour)
        if curve.get("shape") == "straight" and is_logarithmic(xs) and len(xs) > 2:
            # On such an axis a straight line is bent: it is drawn, so that nobody takes one for growth without end.
            slope, start = line(xs, ys)
            between = [xs[0] * (xs[-1] / xs[0]) ** (n / LINE_POINTS) for n in range(LINE_POINTS + 1)]
            axes.plot(between, [slope * x + start for x in between], ":", linewidth=1, color=colour)
        spread = curve.get("spread", {}).get(name)
        if spread and any(low != high for low, high in spread):
            axes.fill_between(xs, [low for low, _ in spread], [high for _, high in spread], color=colour, alpha=0.15)
    is_time = curve["x_label"] == TIME
    if is_logarithmic(xs) and not is_time:
        axes.set_xscale("symlog" if min(xs) <= 0 else "log", **({"linthresh": _least(xs)} if min(xs) <= 0 else {}))
    if len(xs) < MANY_POINTS and not is_time:
        axes.set_xticks(xs, [f"{x:,g}" for x in xs])
        axes.minorticks_off()
    values = [y for ys in series.values() for y in ys]
    if is_logarithmic(values) and min(values) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0, *values))
    axes.set_title(curve["name"], loc="left")
    dotted = (
        " (dotted: the straight line through them)" if curve.get("shape") == "straight" and is_logarithmic(xs) else ""
    )
    axes.set_xlabel(curve["x_label"] + dotted)
    axes.set_ylabel(curve["y_label"])
    axes.legend(frameon=False, ncols=2 if len(series) > 4 else 1)


def _least(values: Sequence[float]) -> float:
    return min(value for value in values if value > 0)


def _colours(count: int) -> list[str]:
    return [COLOURS[n % len(COLOURS)] for n in range(count)]


def _draw_costs(axes: Axes, found: Mapping[str, Mapping[str, float]]) -> None:
    names = list(found)[::-1]
    left = [0.0] * len(names)
    for process, colour in zip(PROCESSES, _colours(len(PROCESSES)), strict=True):
        values = [found[name].get(process, 0.0) for name in names]
        bars = axes.barh(names, values, left=left, label=process, color=colour, height=0.6)
        axes.bar_label(
            bars, [f"{value:.0f}" if value >= 8 else "" for value in values], label_type="center", fontsize=8
        )
        left = [start + value for start, value in zip(left, values, strict=True)]
    for n, total in enumerate(left):
        axes.text(total, n, f" {total:.0f}", va="center")
    axes.set_xlim(0, max(left) * 1.08)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("us of CPU per message, everything durable, stored, delivered and receipted")
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)


def _draw_stages(axes: Axes, found: Mapping[str, Mapping[str, float]]) -> None:
    names = list(found)
    begin = end = 0.0
    for n, name in enumerate(names):
        median = found[name]["p50"]
        if name.startswith("all"):  # no stage, and not after the others
            begin = 0.0
        axes.barh(n, median, left=begin, color=COLOURS[0], height=0.6, label="p50" if not n else None)
        tail = found[name].get("p99", math.nan)
        text = f" {median:.2f} ms" + ("" if math.isnan(tail) else f" (p99 {tail:.2f})")
        axes.text(begin + median, n, text, va="center", fontsize=8)
        begin += median
        end = max(end, begin)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, end * 1.3)
    axes.set_xlabel("ms, medians; the stages one after the other, though two of them overlap with the one before")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
