"""A gateway's view of the event log: every partition, from a checkpoint on, in order, without a consumer group.

The tail obeys the one rule of chat.log.taking and hands what counts to a `Sink`, undecoded: the sink decides by key and
headers whether anybody here cares. It never resets its position by itself. When its position is gone from the log
(trimmed under it) or a hole shows, it begins again at the newest checkpoint and tells the sink, which asks for every
open cursor's head anew: nothing is skipped in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from chat import logs, metrics
from chat.errors import LogHole, Unavailable
from chat.log.bases import no_beginning
from chat.log.consumer import reader
from chat.log.taking import START, Position, Take, Taker
from chat.log.topics import EVENTS
from chat.settings import Settings

log = logs.get(__name__)

FETCH_WAIT_MS = 500
"""How long the broker may hold an empty fetch. Records end it at once, so this costs no latency."""

RECORDS_MAX = 2_000
"""Records handled between two looks at the loop, so that a catch-up does not starve sockets."""

HEALTH_PERIOD_S = 1.0
HEALTH_TIMEOUT_S = 2.0
RESTART_DELAY_S = 0.5


class Sink(Protocol):
    """Who is told about records, in log order per partition."""

    def record(self, take: Take, record: Any) -> None:
        """One record that counts (`Take.EVENT` or `Take.VERDICT`)."""

    def position_lost(self) -> None:
        """Records may have been missed: ask for every open cursor's head anew."""


class Tail:
    """Follows the event log until it is cancelled."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        *,
        positions: Callable[[], Awaitable[Mapping[int, Position]]],
        on_health: Callable[[bool, str], None],
    ) -> None:
        """`positions` finds each partition's newest checkpoint, or else its base; `on_health` hears of Kafka."""
        self._settings = settings
        self._topic = settings.topic(EVENTS)
        self._tps = [TopicPartition(self._topic, partition) for partition in range(settings.partitions)]
        self._sink = sink
        self._positions = positions
        self._on_health = on_health
        self._takers: dict[int, Taker] = {}
        self.caught_up = asyncio.Event()
        """Set once the tail has read what the log held when it began."""

    async def run(self) -> None:
        """Follow the log; begin again wherever the log cannot be followed. Ends by cancellation only."""
        while True:
            try:
                await self._follow()
            except (LogHole, OffsetOutOfRangeError) as error:
                log.error("tail_position_lost", error=str(error))
                self._takers.clear()
                self._on_health(False, f"tail: {error}")
            except (KafkaError, OSError, Unavailable) as error:
                log.warning("tail_restarts", error=repr(error))
                self._on_health(False, f"Kafka: {error}")
            await asyncio.sleep(RESTART_DELAY_S)

    async def _follow(self) -> None:
        topics = [self._topic]
        async with reader(self._settings, topics, records_max=RECORDS_MAX, wait_ms=FETCH_WAIT_MS) as consumer:
            consumer.assign(self._tps)
            if not self._takers:
                self._takers = await self._begin(consumer)
                if self.caught_up.is_set():
                    self._sink.position_lost()
            for tp in self._tps:
                consumer.seek(tp, self._takers[tp.partition].offset + 1)
            health = asyncio.create_task(self._watch_health(consumer), name="tail-health")
            try:
                await self._read(consumer, await consumer.end_offsets(self._tps))
            finally:
                health.cancel()

    async def _begin(self, consumer: AIOKafkaConsumer) -> dict[int, Taker]:
        start = await self._positions()
        unread = [tp for tp in self._tps if tp.partition not in start]
        for tp, beginning in (await consumer.beginning_offsets(unread) if unread else {}).items():
            if beginning > 0:
                raise LogHole(no_beginning(self._topic, tp.partition, beginning))
        return {tp.partition: Taker(start.get(tp.partition, START)) for tp in self._tps}

    async def _read(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        sink_record = self._sink.record
        counts = {take: metrics.log_records.labels(take.name.lower()) for take in Take}
        while True:
            if not self.caught_up.is_set() and all(
                self._takers[tp.partition].offset + 1 >= end for tp, end in ends.items()
            ):
                self.caught_up.set()
            batches = await consumer.getmany(timeout_ms=FETCH_WAIT_MS)
            for tp, records in batches.items():
                taker = self._takers[tp.partition]
                take_one = taker.take
                seen = [0] * len(Take)
                for record in records:
                    take = take_one(record.offset, record.headers)
                    seen[take] += 1
                    if take <= Take.VERDICT:
                        sink_record(take, record)
                for take in Take:
                    if seen[take]:
                        counts[take].inc(seen[take])
            # Fetched records come back without a real wait: give sockets their turn.
            await asyncio.sleep(0)

    async def _watch_health(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                ends = await asyncio.wait_for(consumer.end_offsets(self._tps), HEALTH_TIMEOUT_S)
            except (TimeoutError, KafkaError, OSError) as error:
                self._on_health(False, f"Kafka does not answer: {error!r}")
            else:
                self._on_health(True, "")
                for tp, end in ends.items():
                    lag = max(0, end - 1 - self._takers[tp.partition].offset)
                    metrics.log_lag_records.labels(tp.partition).set(lag)
            await asyncio.sleep(HEALTH_PERIOD_S)
