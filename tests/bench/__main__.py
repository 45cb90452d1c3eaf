"""`python -m tests.bench [ROW ...]`: what Roomlog costs, each figure beside a bare loop of the same work in the same run.

    (no names)   every row of the table: about half an hour
    --quick      a short form of the rows that CI runs, compared with tests/bench/baseline.json: under three minutes
    --list       the rows, and what each measures
    curve        how cost grows; soak: half an hour at half load; both are long and run only when they are named

A row is refused, and the exit status is 1, when messages were lost or when the load generator was the limit; so it is
when a ratio of the quick mode fell by more than a third behind the baseline. It is 3 when nothing of that happened, but
rows were refused because others used the machine. What has to be reached is shown beside each figure; it fails nothing,
since it depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import gc
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docker"))

from agents.engine import GARBAGE_THRESHOLDS  # noqa: E402  (after the path is right)
from tests.bench.bench import MINUTES, Bench  # noqa: E402
from tests.bench.figures import HEADINGS, Figure, aligned, fallen, table  # noqa: E402
from tests.bench.load import Busy, Refused, allow_files  # noqa: E402
from tests.bench.rows import ROWS, Row  # noqa: E402
from tests.bench.rows.rooms import warm_up  # noqa: E402
from tests.engines import running_engines  # noqa: E402

BASELINE: Final = Path(__file__).with_name("baseline.json")
EXIT_FAILED: Final = 1
EXIT_BUSY: Final = 3
REPETITIONS: Final = 5
QUICK_REPETITIONS: Final = 3
WARM_UP_S: Final = 25
QUICK_WARM_UP_S: Final = 5
TRIES: Final = 2
"""A row of the quick mode that fell behind, or met a busy machine, is measured once more before it fails CI."""


def main(arguments: list[str]) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names, or beginnings of names, of rows")
    parser.add_argument("--quick", action="store_true", help="the short form, compared with the baseline")
    parser.add_argument("--list", action="store_true", help="show the rows and stop")
    parser.add_argument(
        "--repetitions", type=int, help=f"of each side of a row ({REPETITIONS}; quick: {QUICK_REPETITIONS})"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"of soak, and that soak-idle is idle ({MINUTES:.0f})"
    )
    parser.add_argument("--json", type=Path, help="where the figures go; default: build/bench/WHEN.json")
    parser.add_argument(
        "--save-baseline", action="store_true", help="with --quick: these CPU ratios are the new baseline"
    )
    options = parser.parse_args(arguments)
    if options.list:
        print(aligned([(row.name, row.about) for row in ROWS]))
        return 0
    unknown = [name for name in options.rows if not any(row.name.startswith(name) for row in ROWS)]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; --list shows them")
    chosen = [row for row in ROWS if _is_chosen(row, options.rows, quick=options.quick)]
    return asyncio.run(_run(chosen, options))


def _is_chosen(row: Row, names: list[str], *, quick: bool) -> bool:
    if names:
        # `soak` is that row and not `soak-idle`, which takes another half hour.
        whole = {known.name for known in ROWS if known.is_long}
        return any(row.name == name or (name not in whole and row.name.startswith(name)) for name in names)
    return row.in_quick if quick else not row.is_long


async def _run(rows: list[Row], options: argparse.Namespace) -> int:
    allow_files()
    # As in a worker: some rows measure our classes in this process.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", file=sys.stderr, flush=True)

    repetitions = options.repetitions or (QUICK_REPETITIONS if options.quick else REPETITIONS)
    baseline = json.loads(BASELINE.read_text()) if options.quick and BASELINE.exists() else {}
    say("starting the engines")
    results: list[dict[str, Any]] = []
    figures: list[Figure] = []
    problems: list[str] = []
    busy: list[str] = []
    with running_engines() as engines:
        warm_up_s = QUICK_WARM_UP_S if options.quick else WARM_UP_S
        say(f"the engines warm up for {warm_up_s} s")
        await warm_up(Bench(engines, options.quick, repetitions, say), warm_up_s)
        for n, row in enumerate(rows, 1):
            for attempt in range(TRIES if options.quick else 1):
                say(f"{n}/{len(rows)} {row.name}: {row.about}")
                bench = Bench(
                    engines,
                    options.quick,
                    repetitions,
                    lambda text, row=row: say(f"  {row.name}: {text}"),
                    options.minutes,
                )
                refused, was_busy = "", False
                try:
                    await row.measure(bench)
                except Refused as why:
                    refused, was_busy = f"{row.name}: refused: {why}", isinstance(why, Busy)
                found = [refused] if refused else fallen(bench.figures, {} if options.save_baseline else baseline)
                for problem in found:
                    say(f"  {problem}")
                if not found or attempt + 1 == TRIES:
                    break
            (busy if was_busy else problems).extend(found)
            if not refused:
                figures += bench.figures
                print(aligned([HEADINGS, *table(bench.figures)]), flush=True)
            results.append(
                {
                    "row": row.name,
                    "about": row.about,
                    "refused": refused,
                    "conditions": bench.conditions,
                    "cpu_us_per_unit": bench.costs,
                    "figures": [figure.as_json() for figure in bench.figures],
                    "curves": [curve.as_json() for curve in bench.curves],
                }
            )
            _save(options, results, repetitions)
    print("\n" + aligned([HEADINGS, *table(figures)]))
    if options.save_baseline:
        ratios = {
            figure.name: round(figure.ratio, 3)
            for figure in figures
            if figure.ratio is not None and figure.unit != "1/s"
        }
        BASELINE.write_text(json.dumps(ratios, indent=2, ensure_ascii=False) + "\n")
    say(f"done; {_target(options)}")
    for problem in problems + busy:
        print(f"roomlog: {problem}", file=sys.stderr)
    return EXIT_FAILED if problems else EXIT_BUSY if busy else 0


def _target(options: argparse.Namespace) -> Path:
    if options.json is None:
        when = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        options.json = ROOT / "build" / "bench" / f"{when}.json"
    target: Path = options.json
    return target


def _save(options: argparse.Namespace, results: list[dict[str, Any]], repetitions: int) -> None:
    target = _target(options)
    target.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "mode": "quick" if options.quick else "full",
        "repetitions": repetitions,
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
        "python": platform.python_version(),
        "rows": results,
    }
    target.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
