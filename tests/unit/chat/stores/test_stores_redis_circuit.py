"""A Redis that is away costs its readers nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from chat import settings
from chat.errors import Unavailable
from chat.stores.redis import Directory, RecentTail
from tests.engines import free_ports


async def test_after_a_failure_nobody_is_asked_for_a_while() -> None:
    accepted = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read()
        writer.close()

    port = free_ports()
    server = await asyncio.start_server(swallow, "127.0.0.1", port)
    tail = RecentTail(settings.load({"ROOMLOG_REDIS": f"127.0.0.1:{port}"}))
    try:
        with pytest.raises(Unavailable):  # a Redis that accepts and says nothing: one time limit
            await tail.read_events("r", 1, 10)
        started = time.monotonic()
        for _ in range(1_000):
            with pytest.raises(Unavailable):
                await tail.read_events("r", 1, 10)
        assert time.monotonic() - started < 0.4, "a thousand readers waited"
        assert accepted == 1
    finally:
        await tail.stop()
        server.close()
        await server.wait_closed()


async def test_a_refused_connection_is_unavailable_with_its_reason() -> None:
    directory = Directory(settings.load({"ROOMLOG_REDIS": f"127.0.0.1:{free_ports()}"}))
    try:
        with pytest.raises(Unavailable, match="Redis: "):
            await directory.list_rooms(10)
    finally:
        await directory.stop()
