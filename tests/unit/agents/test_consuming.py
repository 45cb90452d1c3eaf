"""The drain loop between Faust's fetcher and the agents' queues, at the moments that an engine does not offer on demand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError, KafkaConnectionError
from faust.types import TP

from agents import consuming
from agents.consuming import Consumer


class Draining(Consumer):
    """A consumer whose partitions go while their committed offsets are looked up, as in the middle of a handover."""

    should_stop = False
    flow_active = False

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.seeks = 0

    async def _wait_next_records(self, timeout: float) -> tuple[dict[Any, Any], set[Any]]:  # noqa: ASYNC109 (Faust's)
        return {}, set()

    async def perform_seek(self) -> None:
        self.seeks += 1
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.should_stop = True
        if outcome is not None:
            raise outcome


class Fetcher:
    should_stop = False


@pytest.mark.parametrize("error", [IllegalStateError("No current assignment"), KafkaConnectionError("away")])
async def test_partitions_that_go_in_the_middle_of_a_seek_do_not_end_the_worker(error: Exception) -> None:
    consumer = Draining(error, error, None)
    await consumer._drain_messages(Fetcher())
    assert consumer.seeks == 3


async def test_a_defect_in_a_seek_is_not_hidden() -> None:
    consumer = Draining(ZeroDivisionError(), None)
    with pytest.raises(ZeroDivisionError):
        await consumer._drain_messages(Fetcher())


class Resuming(Consumer):
    """A consumer as at the end of a recovery: the flow is on, and no partition is yet."""

    flow_active = True

    def __init__(self) -> None:
        self._active_partitions: set[TP] = set()

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> dict[Any, Any]:  # noqa: ASYNC109 (Faust's)
        return {tp: ["a record"] for tp in active_partitions}


async def test_partitions_that_are_resumed_a_moment_after_the_flow_do_not_wait_for_a_second() -> None:
    consumer, tp = Resuming(), TP("room.commands", 3)
    assert await consumer._wait_next_records(1.0) == ({}, set())
    waiting = asyncio.create_task(consumer._wait_next_records(1.0))
    await asyncio.sleep(0)
    consumer._active_partitions.add(tp)
    async with asyncio.timeout(0.5):
        await waiting
        assert await consumer._wait_next_records(1.0) == ({tp: ["a record"]}, {tp})


@pytest.mark.parametrize(("role", "gathered"), [("sequencer", 1), ("archiver", 65_536), ("projector", 65_536)])
def test_only_a_sequencer_takes_each_record_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, role: str, gathered: int
) -> None:
    made = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=1500, _client=None)
    monkeypatch.setattr(
        consuming.driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda _self, _transport: made
    )
    monkeypatch.setattr(consuming, "limit_patience", lambda _client: None)
    transport = SimpleNamespace(app=SimpleNamespace(settings=SimpleNamespace(role=role)))
    thread = object.__new__(consuming.ConsumerThread)
    assert thread._create_worker_consumer(transport)._fetch_min_bytes == gathered
    assert made._fetch_max_wait_ms == 100
