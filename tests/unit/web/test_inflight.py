"""Bounds on waiting commands: they slow a sender down, and let it go on in batches."""

from __future__ import annotations

import asyncio

from web.inflight import RELIEF_S, InFlight, Pressure


def busy(commands: int, **bounds: int) -> InFlight:
    in_flight = InFlight(**{"per_connection": 100, "per_user_room": 8, **bounds})
    for _ in range(commands):
        in_flight.began("ann", "r")
    return in_flight


def test_the_bound_is_of_one_user_in_one_room() -> None:
    in_flight = busy(8)
    assert in_flight.full(8, "ann", "r", 1, paused=False)
    assert not in_flight.full(8, "ann", "other", 1, paused=False)
    assert not in_flight.full(0, "bob", "r", 1, paused=False)


def test_a_paused_socket_goes_on_at_half_of_the_bound() -> None:
    in_flight = busy(7)
    assert not in_flight.full(7, "ann", "r", 1, paused=False)
    assert in_flight.full(7, "ann", "r", 1, paused=True)
    for _ in range(4):
        in_flight.ended("ann", "r")
    assert not in_flight.full(3, "ann", "r", 1, paused=True)


def test_a_transaction_larger_than_the_bound_passes_when_nothing_else_waits() -> None:
    in_flight = busy(0)
    assert not in_flight.full(0, "ann", "r", 100, paused=False)
    in_flight.began("ann", "r")
    assert in_flight.full(1, "ann", "r", 100, paused=False)


def test_a_connection_has_a_bound_over_all_its_rooms() -> None:
    assert busy(0, per_connection=4).full(4, "ann", "r", 1, paused=False)


async def test_whoever_waits_is_woken_by_the_end_of_a_command_of_the_same_user() -> None:
    in_flight = busy(1)
    in_flight.began("bob", "r")
    waiting = asyncio.create_task(in_flight.change("ann"))
    await asyncio.sleep(0)
    in_flight.ended("bob", "r")
    await asyncio.sleep(0)
    assert not waiting.done()
    in_flight.ended("ann", "r")
    await asyncio.wait_for(waiting, 1)


def test_pressure_is_the_time_since_the_first_pause_without_relief() -> None:
    pressure = Pressure()
    assert pressure.at(100.0) == 0
    assert pressure.at(101.5) == 1.5
    assert pressure.at(103.0) == 3.0
    assert pressure.at(103.0 + RELIEF_S + 0.1) == 0, "it had stopped"
