"""The queue between connections and Kafka: bounded in number, bytes and time, whatever Kafka does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber

from chat.errors import Code, Refused
from chat.log.commands import CommandLog
from chat.records import PostMessage, Verdict, WatchRoom, decode_command

PARTITIONS = 1


class Batch:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object:
        self.values.append(value)
        return self

    def close(self) -> None:
        pass


class Producer:
    """Stands for aiokafka's: acknowledges when it is let, or refuses everything."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.let.set()
        self.refuses = False
        self.batches: list[list[str]] = []
        self.started = self.stopped = False

    async def start(self) -> None:
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.batches.append([decode_command(value).body for value in batch.values])  # type: ignore[union-attr]
        return asyncio.ensure_future(self._acknowledge())

    async def _acknowledge(self) -> None:
        await self.let.wait()
        if self.refuses:
            raise OutOfOrderSequenceNumber


class Waits:
    def __init__(self) -> None:
        self.outcome: Verdict | Code | None = None

    def answered(self, answer: Any) -> None:
        assert self.outcome is None
        self.outcome = answer

    def failed(self, code: Code) -> None:
        assert self.outcome is None
        self.outcome = code


class Desk:
    """A command log with a clock of its own."""

    def __init__(self, *, limit: int = 1000, bytes_max: int = 1_000_000) -> None:
        self.now = 0.0
        self.producers: list[Producer] = []
        self.log = CommandLog(
            self._make,  # type: ignore[arg-type]
            "commands",
            PARTITIONS,
            timeout_s=15.0,
            limit=limit,
            bytes_max=bytes_max,
            clock=lambda: self.now,
        )

    def _make(self) -> Producer:
        self.producers.append(Producer())
        return self.producers[-1]

    @property
    def producer(self) -> Producer:
        return self.producers[-1]

    def post(self, body: str) -> Waits:
        waits = Waits()
        self.log.append("lobby", [(PostMessage(v=1, room="lobby", sender="ann", nonce="n", body=body), waits)])
        return waits


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_waits_while_a_batch_is_on_its_way_goes_as_one_batch_in_order() -> None:
    desk = Desk()
    desk.producer.let.clear()
    for body in "abcd":
        desk.post(body)
        await settle()
    desk.producer.let.set()
    await settle()
    assert desk.producer.batches == [["a"], ["b", "c", "d"]]


async def test_a_command_that_was_answered_unavailable_before_its_turn_is_never_sent() -> None:
    desk = Desk()
    desk.producer.let.clear()
    on_its_way = desk.post("on its way")
    await settle()
    late = desk.post("late")
    desk.now = 10.0
    fresh = desk.post("fresh")
    desk.now = 16.0
    desk.log.expire()
    assert (on_its_way.outcome, late.outcome, fresh.outcome) == (Code.UNAVAILABLE, Code.UNAVAILABLE, None)
    desk.producer.let.set()
    await settle()
    assert desk.producer.batches == [["on its way"], ["fresh"]]


async def test_while_kafka_is_away_for_hours_the_bytes_that_wait_are_bounded() -> None:
    desk = Desk(bytes_max=200_000)
    desk.producer.let.clear()
    refused = 0
    for hour in range(1, 5):
        for _ in range(100):
            try:
                desk.post("x" * 10_000)
            except Refused:
                refused += 1
            await asyncio.sleep(0)
        assert sum(entry.size for queue in desk.log._queues.values() for group in queue for entry in group) < 230_000
        desk.now = hour * 3600.0
        desk.log.expire()
    assert refused > 300
    assert not len(desk.log)
    desk.producer.let.set()
    await settle()
    assert desk.post("again").outcome is None
    await settle()
    assert desk.producer.batches[-1] == ["again"]
    assert desk.log._bytes == 0


async def test_more_than_the_limit_are_refused_at_once() -> None:
    desk = Desk(limit=3)
    desk.producer.let.clear()
    for body in "abc":
        desk.post(body)
    with pytest.raises(Refused, match="unavailable"):
        desk.post("d")


async def test_a_producer_that_kafka_refuses_is_replaced() -> None:
    desk = Desk()
    first = desk.producer
    first.refuses = True
    lost = desk.post("lost")
    await settle()
    assert lost.outcome is Code.UNAVAILABLE
    kept = desk.post("kept")
    await settle()
    assert kept.outcome is None
    assert [p.batches for p in desk.producers] == [[["lost"]], [["kept"]]]
    assert first.stopped
    assert desk.producer.started


async def test_commands_that_kafka_has_are_not_kept_while_they_wait_for_the_sequencer() -> None:
    """50,000 of them may wait, at 48 KiB each: that would be more memory than the machine has."""
    desk = Desk()
    for _ in range(10):
        desk.post("x" * 10_000)
        await settle()
    assert len(desk.log) == 10
    assert desk.log._bytes == 0
    assert sum(len(entry.value) for entry in desk.log._waiting.values()) == 0


async def test_a_defect_of_the_sender_holds_no_bytes_for_ever() -> None:
    desk = Desk()

    async def broken(*_: Any, **__: Any) -> Any:
        desk.post("comes meanwhile")
        raise RuntimeError("a defect")

    desk.producer.send_batch = broken  # type: ignore[method-assign]
    desk.post("x")
    (sender,) = desk.log._senders.values()
    with pytest.raises(RuntimeError):
        await sender
    assert desk.log._bytes == 0
    del desk.producer.send_batch
    desk.post("again")
    await settle()
    assert desk.producer.batches == [["again"]]


async def test_a_log_that_stays_behind_takes_no_more_than_it_answers_soon_and_says_when_that_is_over() -> None:
    desk = Desk(limit=100_000)

    def answer(took_s: float) -> None:
        (command_id, entry) = next(iter(desk.log._waiting.items()))
        entry.appended_at = desk.now - took_s
        desk.log.answer(command_id, Verdict(v=1, outcome="tick", at=1, room="lobby"))

    for _ in range(4_000):
        desk.post("x")
    for _ in range(200):
        desk.now += 0.01
        answer(3.0)
    assert desk.log.lags("lobby")
    with pytest.raises(Refused, match="unavailable"):
        desk.post("too much")
    desk.log.append("lobby", [(WatchRoom(v=1, room="lobby", users=("ann",)), Waits())])
    answer(0.1)
    assert not desk.log.lags("lobby")
    assert desk.post("fits").outcome is None
