"""Heart-beat deadlines (docs/protocol.md, section 1; STOMP 1.2, "Heart-beating")."""

from __future__ import annotations

import math

import pytest

from chat.stomp.heartbeat import HeartBeats


def test_a_silent_client_is_pinged_after_two_periods_and_a_second_and_given_up_after_three() -> None:
    beats = HeartBeats.agreed(client_period_ms=10_000, server_period_ms=10_000, own_period_ms=10_000)
    assert beats.ping_due_s(100.0) == 121.0
    assert beats.close_due_s(100.0) == 130.0


def test_we_beat_before_our_period_is_over() -> None:
    beats = HeartBeats.agreed(client_period_ms=0, server_period_ms=10_000, own_period_ms=10_000)
    assert 105.0 <= beats.beat_due_s(100.0) < 110.0


def test_a_client_without_beats_is_watched_by_pings_at_our_own_period() -> None:
    beats = HeartBeats.agreed(client_period_ms=0, server_period_ms=0, own_period_ms=10_000)
    assert beats.beat_due_s(100.0) == math.inf
    assert beats.ping_due_s(100.0) == 121.0
    assert beats.close_due_s(100.0) == 130.0


def test_without_any_period_nothing_is_ever_due() -> None:
    beats = HeartBeats.agreed(client_period_ms=0, server_period_ms=0, own_period_ms=0)
    assert {beats.beat_due_s(1.0), beats.ping_due_s(1.0), beats.close_due_s(1.0)} == {math.inf}


@pytest.mark.parametrize("period_ms", [1_000, 1_500, 2_000, 5_000, 60_000])
def test_a_pong_always_has_a_second_to_come(period_ms: int) -> None:
    beats = HeartBeats.agreed(client_period_ms=period_ms, server_period_ms=0, own_period_ms=10_000)
    assert beats.close_due_s(0.0) - beats.ping_due_s(0.0) >= 1.0
    assert beats.ping_due_s(0.0) > 2 * period_ms / 1000
