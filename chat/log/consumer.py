"""Reading without a group: a consumer that belongs to nobody, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer

from chat.log.answering import limit_patience
from chat.settings import Settings

FETCH_WAIT_MS: Final = 100
"""How long the broker holds a fetch that finds nothing."""
RECOVERY_WAIT_MS: Final = 10
"""The same of a reader that others wait for: aiokafka asks a broker for nothing else while a fetch of it is held, so
whoever turns to other partitions waits for the fetch of those that it has read to their end."""
FETCH_BYTES: Final = 1_048_576
"""Of a partition at once; who reads a long stretch asks for more."""


@asynccontextmanager
async def reader(
    settings: Settings,
    topics: Iterable[str],
    *,
    client_id: str = "",
    reset: Literal["none", "earliest"] = "none",
    fetch_bytes: int = FETCH_BYTES,
    wait_ms: int = FETCH_WAIT_MS,
    records_max: int | None = None,
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that knows `topics`, is assigned nothing yet, has no group and commits nothing.

    Args:
        settings: where Kafka is.
        topics: whose partitions will be asked for or read.
        client_id: for Kafka's logs.
        reset: `none`: a position that the log does not hold any more is an error.
        fetch_bytes: see `FETCH_BYTES`.
        wait_ms: see `FETCH_WAIT_MS`.
        records_max: of one `getmany`.

    Raises:
        KafkaError, OSError: Kafka does not answer.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_servers,
        client_id=client_id or f"{settings.namespace}-{settings.worker}-reader",
        enable_auto_commit=False,
        auto_offset_reset=reset,
        fetch_max_wait_ms=wait_ms,
        max_partition_fetch_bytes=fetch_bytes,
        max_poll_records=records_max,
    )
    limit_patience(consumer._client)  # noqa: SLF001
    try:
        await consumer.start()
        # Else each topic is learned of when it is first asked for, one at a time, after 100 ms each (measured).
        await consumer._client.set_topics(set(topics))  # noqa: SLF001
        yield consumer
    finally:
        await stop_consumer(consumer)


async def stop_consumer(consumer: Any) -> None:
    """Stop `consumer` (an AIOKafkaConsumer), whatever it was doing.

    aiokafka 0.14 cancels its fetches and awaits them bare: one that had not begun yet raises `CancelledError` out of
    `stop`, which looks to the caller as if it had been cancelled itself, and the connections stay open.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping])
    if stopping.cancelled():
        await consumer._client.close()  # noqa: SLF001 (what `stop` would have done next)
    else:
        stopping.result()
