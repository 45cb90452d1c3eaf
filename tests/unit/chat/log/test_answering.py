"""A broker that has taken a request and says nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

from chat.log import answering
from chat.log.answering import limit_patience
from chat.log.producer import make_producer
from chat.settings import Settings


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """Port of somebody who takes connections and never answers."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_a_broker_that_does_not_answer_is_left_and_a_coordinator_is_waited_for(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 0.2)
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{silent}", request_timeout_ms=60_000)
    limit_patience(client)
    client.cluster._brokers[1] = BrokerMetadata(1, "127.0.0.1", silent, None)
    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", no_lookup)
    try:
        assert await client.ready(1)
        assert await client.ready(1, group=ConnectionGroup.COORDINATION)
        seconds = {group: connection._request_timeout for (_, group), connection in client._conns.items()}
        assert seconds == {ConnectionGroup.DEFAULT: 0.2, ConnectionGroup.COORDINATION: 60}
        with pytest.raises(RequestTimedOutError):
            async with asyncio.timeout(5):
                await client.send(1, MetadataRequest([]))
    finally:
        await client.close()


async def no_lookup(connection: AIOKafkaConnection) -> None:
    """Nobody would answer it."""
    connection._versions = {MetadataRequest.API_KEY: (0, 1)}


async def test_whoever_appends_is_limited() -> None:
    producer = make_producer(Settings())
    assert producer.client._get_conn.__qualname__.startswith("limit_patience")
    await producer.stop()


def test_what_it_leans_on_is_still_there() -> None:
    assert list(inspect.signature(AIOKafkaClient._get_conn).parameters) == ["self", "node_id", "group", "no_hint"]
    assert "self._request_timeout)" in inspect.getsource(AIOKafkaConnection.send)
    assert "ConnectionGroup.COORDINATION" in inspect.getsource(GroupCoordinator)
    assert "self._client = " in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self.client = " in inspect.getsource(AIOKafkaProducer.__init__)
