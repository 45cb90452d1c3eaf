from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from agents.sequencing import pace as module
from agents.sequencing.pace import BUSY_PER_S, WINDOW_S, Pace


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def busy(now: list[float]) -> Pace:
    pace = Pace()
    now[0] += WINDOW_S
    pace.count(int(BUSY_PER_S * WINDOW_S) + 1)
    return pace


async def test_without_load_nobody_waits() -> None:
    waiting = Pace().wait()
    with pytest.raises(StopIteration):
        waiting.send(None)


async def test_under_load_all_wait_for_one_beat(now: list[float]) -> None:
    pace = busy(now)
    waiting = [asyncio.create_task(pace.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_the_load_is_over_when_a_window_says_so(now: list[float]) -> None:
    pace = busy(now)
    now[0] += WINDOW_S
    pace.count(1)
    with pytest.raises(StopIteration):
        pace.wait().send(None)


async def test_who_stops_waiting_stops_nobody_else(now: list[float]) -> None:
    pace = busy(now)
    one, other = asyncio.create_task(pace.wait()), asyncio.create_task(pace.wait())
    await asyncio.sleep(0)
    one.cancel()
    async with asyncio.timeout(5):
        await other
