"""The plan follows from its seed, and silence is measured from the fault on."""

from __future__ import annotations

import math
from array import array
from itertools import islice
from random import Random

import pytest

from tests.faults.history import Disturbance, History, Outage, Outcome, Record, longest_gap_s
from tests.faults.plan import CATALOGUE, SHORT, group, needs_faketime, needs_links, plan
from tests.faults.silence import measure, percentiles, summarise


def described(seed: int) -> list[tuple[str, float]]:
    return [(fault.name, fault.hold_s) for fault in islice(plan(list(CATALOGUE), Random(seed), forever=True), 200)]


def test_the_same_seed_gives_the_same_faults() -> None:
    assert described(7) == described(7)
    assert described(7) != described(8)


def test_a_plan_that_is_not_forever_has_each_named_fault_once_and_combinations_between() -> None:
    faults = list(plan(list(SHORT), Random(1), forever=False))
    together = [fault for fault in faults if fault.name.startswith("together")]
    assert len(faults) - len(together) == len(SHORT)
    assert len(together) == len(SHORT) // 6


def test_the_short_run_kills_every_role_and_engine_and_needs_no_package() -> None:
    killed = {name.partition("-")[2] for name in SHORT if name.startswith(("kill-", "restart-"))}
    assert killed == {"sequencer", "gateway", "archiver", "projector", "kafka", "cassandra", "redis"}
    assert not needs_faketime(list(SHORT))
    assert not needs_links(list(SHORT))


def test_a_group_is_a_name_or_the_beginning_of_names() -> None:
    assert group("rolling") == ["rolling"]
    assert group("link-redis") == [f"link-redis-{how}" for how in ("cut", "broken", "frozen", "slow")]
    with pytest.raises(ValueError, match="no such fault: tsunami"):
        group("tsunami")


def test_the_longest_gap_counts_both_ends_and_nothing_outside() -> None:
    times = array("d", [0.0, 1.0, 1.5, 4.0, 9.0])
    assert longest_gap_s(times, 1.2, 5.0) == pytest.approx(2.5)
    assert longest_gap_s(times, 4.5, 8.0) == pytest.approx(3.5)
    assert longest_gap_s(array("d"), 1.0, 3.0) == pytest.approx(2.0)


def test_silence_is_told_for_anybody_and_for_the_room_that_waited_longest() -> None:
    history = History()
    history.receipts_s = {
        "quick": array("d", [n / 10 for n in range(200)]),
        "held up": array("d", [n / 10 for n in range(200) if not 50 < n < 80]),
    }
    record = Record("r0", "quick", at_s=array("d", [n / 5 for n in range(100)]))
    history.records = [record]
    history.disturbances = [Disturbance("kill -9 sequencer", "sequencer", 5.0, 6.0, 9.0)]
    history.outages = [Outage("r0", 5.5, 6.25), Outage("r0", 1.0, 4.0)]
    (silence,) = measure(history)
    assert silence.receipts_s == pytest.approx(0.1)
    assert silence.receipts_worst_room_s == pytest.approx(3.0)
    assert silence.deliveries_worst_reader_s == pytest.approx(0.2)
    assert silence.lost_connections == 1
    assert silence.back_s == pytest.approx(0.75)


def test_a_summary_has_a_line_a_kind_with_median_and_maximum() -> None:
    history = History()
    history.receipts_s = {"room": array("d", [n / 10 for n in range(300) if not (50 < n < 60 or 150 < n < 180)])}
    history.disturbances = [Disturbance("kill -9 kafka", "", at, at, at + 4.0) for at in (5.0, 15.0, 22.0)]
    (summary,) = summarise(measure(history))
    assert (summary.kind, summary.count) == ("kill -9 kafka", 3)
    assert list(summary.receipts) == pytest.approx([1.0, 3.0])


def test_the_time_to_an_answer_is_that_of_what_was_sent_while_the_fault_held() -> None:
    history = History()
    for n in range(1_000):
        sent_s = n / 100
        call = history.calls.invoke(0, n, 0, sent_s)
        match n % 10:
            case 0:
                history.calls.answer(call, Outcome.REFUSED, sent_s + 9.0, code="unavailable")
            case 1:
                pass  # never answered
            case _:
                history.calls.answer(call, Outcome.NUMBERED, sent_s + (0.2 if 2.0 <= sent_s < 4.0 else 0.01), seq=n + 1)
    history.disturbances = [Disturbance("pause redis", "", 2.0, 4.0, 5.0)]
    (summary,) = summarise(measure(history, quiet=(0.0, 2.0)))[1:]
    assert summary.answers == pytest.approx((0.2, 0.2))
    assert summarise(measure(history, quiet=(0.0, 2.0)))[0].answers == pytest.approx((0.01, 0.01))


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentiles([float(n) for n in range(1, 201)]) == (100.0, 198.0)
    assert percentiles([7.0]) == (7.0, 7.0)
    assert all(math.isnan(value) for value in percentiles([]))
