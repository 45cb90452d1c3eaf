"""How long one waits who has read a partition of a real Kafka to its end, and asks for something else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition

from agents.sequencing.log import Log
from chat.log.consumer import FETCH_WAIT_MS, reader
from chat.log.topics import EVENTS
from tests.engines import Namespace

TURNS = 20


async def answer_s(consumer: Any, tps: Sequence[TopicPartition]) -> float:
    """Median time in which Kafka says where a partition ends, while the consumer waits for more of another one."""
    read, asked = tps
    consumer.assign([read])
    consumer.seek(read, 0)
    took_s = []
    for _ in range(TURNS):
        assert not await consumer.getmany(timeout_ms=FETCH_WAIT_MS // 4)
        began_s = time.monotonic()
        await consumer.end_offsets([asked])
        took_s.append(time.monotonic() - began_s)
    return statistics.median(took_s)


async def test_a_recovery_does_not_wait_for_a_held_fetch_of_what_it_has_read(topics: Namespace) -> None:
    settings = topics.settings()
    tps = [TopicPartition(settings.topic(EVENTS), partition) for partition in range(2)]
    async with reader(settings, [tps[0].topic]) as consumer:
        held_s = await answer_s(consumer, tps)
    async with Log(settings).reader() as consumer:
        ours_s = await answer_s(consumer, tps)
    assert ours_s < held_s / 2, f"{ours_s * 1000:.0f} ms, of others {held_s * 1000:.0f} ms"
