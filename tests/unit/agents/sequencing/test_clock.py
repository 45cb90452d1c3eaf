from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.sequencing import clock as module
from agents.sequencing.clock import MINUTE_US, Clock

START_US = 28_000_000 * MINUTE_US
SECOND_US = 1_000_000


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def event(clock: Clock, at_us: int) -> None:
    clock.passed(at_us, at_us, at_us // 1000)


def test_a_minute_with_events_is_ticked_once_it_is_over(now: list[float]) -> None:
    clock = Clock()
    event(clock, START_US + 10 * SECOND_US)
    now[0] += 49
    assert not clock.tick_due()
    now[0] += 2
    assert clock.tick_due()


def test_a_tick_that_was_taken_needs_no_other(now: list[float]) -> None:
    clock = Clock()
    event(clock, START_US)
    now[0] += 61
    assert clock.tick_due()
    clock.passed(START_US + 61 * SECOND_US, -1, (START_US + 61 * SECOND_US) // 1000)
    now[0] += 600
    assert not clock.tick_due()


def test_a_tick_is_not_repeated_at_once_while_it_is_on_its_way(now: list[float]) -> None:
    clock = Clock()
    event(clock, START_US)
    now[0] += 61
    assert clock.tick_due()
    now[0] += 0.5
    assert not clock.tick_due()


def test_a_tick_stamped_within_its_minute_is_followed_by_another(now: list[float]) -> None:
    clock = Clock()
    event(clock, START_US)
    now[0] += 61
    assert clock.tick_due()
    clock.passed(START_US + 59 * SECOND_US, -1, (START_US + 59 * SECOND_US) // 1000)
    assert not clock.tick_due()
    now[0] += 2
    assert clock.tick_due()


def test_the_next_minutes_events_are_clock_enough_for_the_last_one(now: list[float]) -> None:
    clock = Clock()
    event(clock, START_US)
    clock.passed(START_US + 61 * SECOND_US, -1, (START_US + 61 * SECOND_US) // 1000)
    now[0] += 3600
    assert not clock.tick_due()


def test_a_partition_that_never_had_anything_is_not_ticked(now: list[float]) -> None:
    clock = Clock()
    clock.stamped(START_US // 1000)
    now[0] += 3600
    assert not clock.tick_due()


def test_a_new_owner_ticks_for_the_minute_of_the_checkpoint(now: list[float]) -> None:
    clock = Clock(START_US)
    clock.stamped((START_US + 3600 * SECOND_US) // 1000)
    assert clock.tick_due()
