"""A meter marks a run during which somebody else used the machine; a run whose generator was the limit is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.bench import measure
from tests.bench.load import Refused, check_generator
from tests.bench.measure import Meter, Run


class Machine:
    """A machine whose clocks stand still until they are moved."""

    def __init__(self) -> None:
        self.wall_s = 100.0
        self.used_s: dict[int, float] = {7: 1.0, os.getpid(): 1.0}
        self.busy_s = 50.0
        self.stolen_s = 0.0

    def passes(self, wall_s: float, *, ours: float = 0, bench: float = 0, others: float = 0, stolen: float = 0) -> None:
        self.wall_s += wall_s
        self.used_s[7] += ours
        self.used_s[os.getpid()] += bench
        self.busy_s += ours + bench + others
        self.stolen_s += stolen


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    monkeypatch.setattr(measure, "cpu_s", machine.used_s.__getitem__)
    monkeypatch.setattr(measure, "resident_bytes", lambda pid: pid * 1_000)
    monkeypatch.setattr(measure, "_machine_s", lambda: (machine.busy_s, machine.stolen_s))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: machine.wall_s)
    yield machine
    monkeypatch.undo()


def test_what_was_measured_itself_is_nobodys_disturbance(machine: Machine) -> None:
    meter = Meter({"gateway": 7})
    machine.passes(10, ours=9, bench=8, others=0.9)
    assert meter.stop(1).disturbed == ""


def test_a_run_is_marked_with_the_share_that_others_used(machine: Machine) -> None:
    meter = Meter({"gateway": 7})
    machine.passes(10, ours=5, others=1.5)
    assert meter.stop(1).disturbed == "others used 15% of a core"


def test_a_run_is_marked_with_the_share_that_was_stolen(machine: Machine) -> None:
    meter = Meter({"gateway": 7})
    machine.passes(10, others=5, stolen=0.6)
    assert meter.stop(1).disturbed == "6% of a core was stolen"


def test_a_process_of_ours_that_began_and_ended_is_nobodys_disturbance(machine: Machine) -> None:
    meter = Meter({"gateway": 7})
    machine.passes(10, ours=5, others=3.9)
    assert meter.stop(1).disturbed == "others used 39% of a core"
    meter.ended(3)
    assert meter.stop(1).disturbed == ""


def test_what_happened_before_and_after_a_run_is_not_in_it(machine: Machine) -> None:
    machine.passes(10, ours=10, others=10)
    meter = Meter({"gateway": 7})
    machine.passes(4, ours=1)
    run = meter.stop(100)
    machine.passes(10, ours=10, others=10)
    assert (run.wall_s, run.cpu_s, run.disturbed) == (4, {"gateway": 1, "bench": 0}, "")
    assert run.resident_bytes["gateway"] == 7_000


def test_cost_per_unit_leaves_generators_out_unless_they_are_named() -> None:
    run = Run(100, 1, {"gateway": 0.01, "kafka": 0.02, "generator": 5, "bench": 5, "idle-generator-9": 5}, {})
    assert run.us() == pytest.approx(300)
    assert run.us("gateway") == pytest.approx(100)
    assert run.us("generator") == pytest.approx(50_000)


def test_a_run_in_which_nothing_was_done_has_a_cost_all_the_same() -> None:
    assert Run(0, 1, {"gateway": 1}, {}).us("gateway") == 1_000_000


def run(generator_s: float, **values: float) -> Run:
    return Run(1, 10, {"generator": generator_s}, {}, values=values)


@pytest.mark.parametrize("paced", [True, False])
def test_a_generator_that_filled_its_core_is_refused(paced: bool) -> None:
    with pytest.raises(Refused, match="used 95% of a core"):
        check_generator(run(9.5), paced=paced)


def test_a_paced_generator_that_was_late_is_refused() -> None:
    with pytest.raises(Refused, match="sent 4% of the messages late"):
        check_generator(run(1, late_share=0.04), paced=True)


@pytest.mark.parametrize(("late", "paced"), [(0.03, True), (0.5, False)])
def test_a_generator_that_did_what_it_was_asked_for_is_believed(late: float, paced: bool) -> None:
    check_generator(run(8.9, late_share=late), paced=paced)
