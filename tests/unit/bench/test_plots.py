"""Charts: the same figures give the same small files; what was not measured is not drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import plots
from tests.bench.curve import Curve
from tests.bench.figures import Figure, Reach

BYTES_MAX = 60_000


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"row": name, "refused": "", "conditions": {}, "cpu_us_per_unit": {}, "figures": [], "curves": [], **more}


def all_rows() -> dict[str, dict[str, Any]]:
    dearer = Figure("fan-out: CPU", "us", [3], [2], Reach(1.5, ratio=True)).as_json()
    fewer = Figure("fan-out: deliveries", "1/s", [1], [2], Reach(5, at_most=False), smaller_is_better=False).as_json()
    alone = Figure("idle", "%", [3], reach=Reach(2)).as_json()
    growing = Curve("rooms: CPU", "rooms", "us", [100, 10_000], {"a": [1, 2]}, {"a": [(1, 1), (1, 3)]}).as_json()
    from_zero = Curve(
        "depth", "events", "ms", [0, 10_000, 100_000], {"p50": [1, 2, 3], "p99": [100, 200, 90]}
    ).as_json()
    minutes = [n / 6 for n in range(180)]
    memory = Curve("soak: memory", "minutes", "MB", minutes, {"gateway": [100 + n for n in range(180)]}).as_json()
    delay = Curve("soak: send to deliver", "minutes", "ms", minutes, {"p50": [5.0] * 180}).as_json()
    return plots.merged(
        [
            {
                "rows": [
                    row("fan-out", figures=[dearer, fewer, alone], curves=[growing, from_zero]),
                    row("soak", curves=[memory, delay]),
                    row("direct", cpu_us_per_unit={"ours": {"gateway": 80.2, "redis": 4, "generator": 20, "bench": 0}}),
                    row("latency", conditions={"stages_ms": {"gateway": {"p50": 1, "p99": 3}, "kafka": {"p50": 2}}}),
                ]
            }
        ]
    )


def test_every_kind_of_chart_is_drawn_small(tmp_path: Path) -> None:
    names = plots.draw(all_rows(), tmp_path)
    assert names == [
        "ratios.svg",
        "curve-rooms-cpu.svg",
        "curve-depth.svg",
        "soak-memory.svg",
        "soak-delay.svg",
        "cost-of-a-message.svg",
        "where-the-time-goes.svg",
    ]
    for name in names:
        text = (tmp_path / name).read_text()
        assert len(text) < BYTES_MAX, name
        assert "dc:date" not in text
        assert not any(line.endswith(" ") for line in text.splitlines())


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    for folder in (once, again):
        folder.mkdir()
        names = plots.draw(all_rows(), folder)
    for name in names:
        assert (once / name).read_bytes() == (again / name).read_bytes(), name


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    assert plots.draw({}, tmp_path) == []
    assert plots.draw(plots.merged([{"rows": [row("latency"), row("direct")]}]), tmp_path) == []


def test_of_a_row_in_several_files_the_last_that_was_not_refused_counts() -> None:
    reports = [{"rows": [row("idle", about=text, refused=why)]} for text, why in (("1", ""), ("2", ""), ("3", "busy"))]
    assert plots.merged(reports)["idle"]["about"] == "2"


def test_above_one_is_always_dearer_than_the_bare_loop() -> None:
    assert plots.ratios(all_rows()) == [
        ("fan-out: CPU", 1.5, "<= 1.5 x: yes"),
        ("fan-out: deliveries", 2.0, ">= 5: NO"),
    ]


def test_the_generator_is_no_part_of_the_cost_of_a_message() -> None:
    assert plots.costs(all_rows()) == {"direct": {"gateway": 80.2, "redis": 4}}


@pytest.mark.parametrize("stages", [None, [], {}, {"a": 1}, {"a": {"p50": "x"}}, {"a": {"p99": 1}}])
def test_stages_that_are_not_what_they_should_be_are_not_drawn(stages: Any) -> None:
    assert plots.stages({"latency": row("latency", conditions={"stages_ms": stages})}) == {}


@pytest.mark.parametrize(
    ("values", "is_so"), [([10, 1_000], True), ([0, 10, 1_000], True), ([1, 2], False), ([0], False), ([-1, 99], False)]
)
def test_an_axis_over_many_powers_of_ten_is_logarithmic(values: list[float], is_so: bool) -> None:
    assert plots.is_logarithmic(values) is is_so


def test_the_command_draws_files_into_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"rows": list(all_rows().values())}))
    assert plots.main([str(report), "--into", str(tmp_path / "docs" / "performance")]) == 0
    assert "ratios.svg" in capsys.readouterr().out.split()
    assert (tmp_path / "docs" / "performance" / "ratios.svg").exists()
