"""When a partition counts as lagging, and how much may wait for it then."""

from __future__ import annotations

from chat.log.lag import LAGS_AFTER_S, LATE_S, QUEUE_MIN, QUEUE_S, Lag

STEP_S = 0.01


def answers(lag: Lag, seconds: float, took_s: float, *, from_s: float = 0.0) -> float:
    """An answer each `STEP_S`, for so long; the time when the last has come."""
    steps = round(seconds / STEP_S)
    for step in range(steps):
        lag.answered(took_s, from_s + step * STEP_S)
    return from_s + steps * STEP_S


def test_a_log_that_answers_in_time_holds_nobody_back() -> None:
    lag = Lag()
    lag.waiting = 1_000_000
    answers(lag, 30, LATE_S * 0.9)
    assert not lag.lasts
    assert lag.takes(1)


def test_a_log_that_was_away_and_catches_up_holds_nobody_back() -> None:
    lag = Lag()
    for _ in range(20):
        now = answers(lag, LAGS_AFTER_S * 0.9, 7.5)
        lag.answered(0.01, now)
    assert not lag.lasts


def test_a_log_that_stays_behind_takes_what_it_answers_in_two_seconds() -> None:
    lag = Lag()
    assert QUEUE_S == 2
    step_s = 0.001
    for step in range(round((LAGS_AFTER_S + 1) / step_s)):
        lag.answered(3.0, step * step_s)
    assert lag.lasts
    lag.waiting = 1_900
    assert lag.takes(90)
    assert not lag.takes(200)


def test_a_slow_log_still_takes_some() -> None:
    lag = Lag()
    answers(lag, 5, 2.0)
    lag.waiting = QUEUE_MIN - 1
    assert lag.lasts
    assert lag.takes(1)
    assert not lag.takes(2)


def test_the_first_answer_in_time_ends_the_lag() -> None:
    lag = Lag()
    now = answers(lag, 5, 2.0)
    lag.waiting = 1_000_000
    assert not lag.takes(1)
    assert lag.answered(LATE_S * 0.5, now)
    assert not lag.lasts
    assert lag.takes(1)


def test_it_says_when_a_lag_begins_and_ends() -> None:
    lag = Lag()
    changes = [step for step in range(1_000) if lag.answered(2.0, step * STEP_S)]
    assert len(changes) == 1
    assert lag.answered(0.1, 11.0)
    assert not lag.answered(0.1, 11.1)


def test_a_command_that_waited_in_vain_makes_a_lag_until_one_is_answered_in_time() -> None:
    lag = Lag()
    assert lag.unanswered(15.0)
    assert not lag.unanswered(15.1)
    lag.waiting = QUEUE_MIN
    assert not lag.takes(1)
    # What was on its way is answered at last, late.
    assert not lag.answered(40.0, 41.0)
    assert lag.lasts
    assert lag.answered(0.05, 42.0)
    assert lag.takes(1)
