"""The gateway's producer on a real Kafka."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from chat.errors import Code
from chat.log.commands import CommandLog
from chat.log.producer import make_producer
from chat.log.topics import COMMANDS, partition_of
from chat.records import PostMessage, decode_command
from tests.engines import Namespace, eventually
from tests.integration.sequencing import Log


class Waits:
    code: Code | None = None

    def answered(self, answer: Any) -> None:
        raise AssertionError("nobody answers here")

    def failed(self, code: Code) -> None:
        self.code = code


async def test_a_producer_whose_numbering_is_broken_is_replaced_and_nothing_stands_twice(topics: Namespace) -> None:
    settings = topics.settings()
    topic, partition = settings.topic(COMMANDS), partition_of("lobby", settings.partitions)
    log = CommandLog(
        partial(make_producer, settings),
        topic,
        settings.partitions,
        timeout_s=60,
        limit=100,
        bytes_max=1_000_000,
        clock=asyncio.get_running_loop().time,
    )
    await log.start()
    try:

        def post(body: str) -> Waits:
            waits = Waits()
            log.append("lobby", [(PostMessage(v=1, room="lobby", sender="ann", nonce="n", body=body), waits)])
            return waits

        async with Log(settings) as reader:

            async def bodies() -> list[str]:
                records = (await reader.read(topic))[partition]
                return [decode_command(record.value).body for record in records]  # type: ignore[union-attr]

            post("before")
            await log.drain(10)
            # As when a batch was given up after it had got its sequence number.
            log._producer._txn_manager.increment_sequence_number(TopicPartition(topic, partition), 1)
            refused = post("refused")
            await eventually(lambda: refused.code is Code.UNAVAILABLE, "the answer")
            post("after")
            post("and on")
            await log.drain(10)
            assert await bodies() == ["before", "after", "and on"]
    finally:
        await log.stop()


async def test_a_batch_without_a_leader_is_never_given_up(topics: Namespace) -> None:
    """aiokafka gives one up after 40 s, with its sequence number: the partition would be refused for ever."""
    producer = make_producer(topics.settings())
    try:
        await producer.start()
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"v", timestamp=None)
        queued = producer._message_accumulator._append_batch(batch, TopicPartition("nowhere", 0))
        queued._ctime -= 10_000
        assert not queued.expired()
        queued.done_noack()
    finally:
        producer._message_accumulator._batches.clear()
        await producer.stop()
