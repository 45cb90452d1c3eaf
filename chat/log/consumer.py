"""Ending a consumer of aiokafka: its own `stop` may raise."""

from __future__ import annotations

import asyncio
from typing import Any


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
