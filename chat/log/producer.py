"""Appending to the log: one way to make a producer, and batches whose place in a partition is known.

`acks=all` and idempotence, always: an append that was acknowledged survives a broker, and one that was sent twice over
a lost connection stands once. An idempotent producer never gives a batch up, so nothing is skipped while Kafka is
away: whoever appends waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from chat.log.answering import limit_patience, unavailable_when_away
from chat.log.topics import record_bytes_max
from chat.settings import Settings

BATCH_BYTES: Final = 262_144
"""A batch is closed at this size (a single larger record makes one of its own): about 700 messages of usual length."""

NEVER_S: Final = float("inf")

UNKNOWN: Final = -1
"""The base offset of a batch that the broker had before and whose place it no longer knows."""


class Record(NamedTuple):
    """What a producer appends."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def make_producer(settings: Settings, *, client_id: str = "", batch_bytes: int = BATCH_BYTES) -> AIOKafkaProducer:
    """A producer that is not started yet. Call it with the loop running that it will live in."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_servers,
        client_id=client_id or f"{settings.namespace}-{settings.worker}",
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=max(1_048_576, 2 * record_bytes_max(settings)),
    )
    # A batch whose partition has had no leader for 40 s would be given up, with its sequence number: the broker then
    # refuses everything that this producer ever appends there again (measured).
    producer._message_accumulator._batch_ttl = NEVER_S  # noqa: SLF001
    limit_patience(producer.client)
    return producer


@asynccontextmanager
async def running_producer(settings: Settings, name: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for the body of the `with`, of an operation called `name`.

    Raises:
        Unavailable: Kafka does not answer. (An append, once begun, waits for ever: see above.)
    """
    producer = make_producer(settings, client_id=f"{settings.namespace}-{name}")
    try:
        with unavailable_when_away(settings):
            await producer.start()
            yield producer
    finally:
        await producer.stop()


def fill(batch: Any, records: Iterable[Record]) -> int:
    """Append `records` to `batch` (from `producer.create_batch()`) until it is full; returns how many it took.

    A batch takes its first record whatever its size.
    """
    taken = 0
    append = batch.append
    for key, value, headers in records:
        # The broker stamps the time (LogAppendTime): 0 keeps the producer from asking a clock for each record.
        if append(timestamp=0, key=key, value=value, headers=headers) is None:
            break
        taken += 1
    return taken


async def send(producer: AIOKafkaProducer, batch: Any, topic: str, partition: int) -> asyncio.Future[RecordMetadata]:
    """Hand `batch` over for one partition. The future is done when it is acknowledged, with its base offset."""
    batch.close()
    future: asyncio.Future[RecordMetadata] = await producer.send_batch(batch, topic, partition=partition)
    return future


async def append_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, records: list[Record]
) -> AsyncIterator[tuple[int, int]]:
    """Append `records` in order to one partition, one batch in flight.

    Yields (base offset, number of records) of each batch once it is acknowledged; the next one is sent when asked for.
    A base offset may be `UNKNOWN`.
    """
    start = 0
    while start < len(records):
        batch = producer.create_batch()
        taken = fill(batch, records[start:] if start else records)
        metadata = await (await send(producer, batch, topic, partition))
        yield metadata.offset, taken
        start += taken


async def append(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Record]) -> None:
    """Append `records` in order to one partition and return when all are acknowledged."""
    async for _ in append_batches(producer, topic, partition, records):
        pass
