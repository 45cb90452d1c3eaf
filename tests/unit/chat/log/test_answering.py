"""A broker that has taken a request and says nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
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


@pytest.fixture
async def client(silent: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AIOKafkaClient]:
    """A client that knows one broker, which never answers."""
    monkeypatch.setattr(answering, "ANSWER_S", 0.2)
    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", no_lookup)
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{silent}", request_timeout_ms=60_000)
    limit_patience(client)
    client.cluster._brokers[1] = BrokerMetadata(1, "127.0.0.1", silent, None)
    yield client
    await client.close()


async def no_lookup(connection: AIOKafkaConnection) -> None:
    """Nobody would answer it."""
    connection._versions = {
        request.API_KEY: (0, 1) for request in (MetadataRequest, HeartbeatRequest, JoinGroupRequest)
    }


@pytest.mark.parametrize(
    ("group", "request_"),
    [
        (ConnectionGroup.DEFAULT, MetadataRequest([])),
        (ConnectionGroup.COORDINATION, HeartbeatRequest("group", 1, "member")),
    ],
)
async def test_a_broker_that_does_not_answer_is_left_and_the_leaders_are_looked_up_anew(
    client: AIOKafkaClient, monkeypatch: pytest.MonkeyPatch, group: ConnectionGroup, request_: Any
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(client, "force_metadata_update", lambda: looks.append(None))
    with pytest.raises(RequestTimedOutError):
        async with asyncio.timeout(5):
            await client.send(1, request_, group=group)
    assert looks
    assert not client._conns[1, group].connected()


async def test_a_join_waits_for_the_members_of_its_group(client: AIOKafkaClient) -> None:
    join = JoinGroupRequest("group", 6_000, 6_000, "", None, "consumer", [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await client.send(1, join, group=ConnectionGroup.COORDINATION)


async def test_metadata_is_not_waited_for_either(client: AIOKafkaClient) -> None:
    connection = await client._get_conn(1)
    assert connection is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await connection.send(MetadataRequest([]))


async def test_a_broker_that_takes_a_connection_and_no_more_keeps_nobody_from_the_others(
    client: AIOKafkaClient, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(connection: AIOKafkaConnection) -> None:
        lookups.append(connection)
        if len(lookups) == 1:
            await asyncio.Event().wait()

    lookups: list[AIOKafkaConnection] = []
    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", lookup)
    monkeypatch.setattr(answering, "CONNECT_S", 1.0)
    client.cluster._brokers[2] = BrokerMetadata(2, "127.0.0.1", silent, None)
    async with asyncio.timeout(5):
        stands_still = asyncio.create_task(client.ready(1))
        await asyncio.sleep(0.1)
        assert await client.ready(2)
        assert not stands_still.done()
        assert not await stands_still
        assert not lookups[0].connected()
        assert await client.ready(1)


async def test_whoever_appends_is_limited() -> None:
    producer = make_producer(Settings())
    assert producer.client._get_conn.__qualname__.startswith("limit_patience")
    assert producer.client.send.__qualname__.startswith("limit_patience")
    await producer.stop()


def test_what_it_leans_on_is_still_there() -> None:
    assert list(inspect.signature(AIOKafkaClient._get_conn).parameters) == ["self", "node_id", "group", "no_hint"]
    assert "async with self._get_conn_lock:" in inspect.getsource(AIOKafkaClient._get_conn)
    assert "self._get_conn_lock_value is None" in inspect.getsource(AIOKafkaClient._get_conn_lock.fget)
    assert "self._request_timeout)" in inspect.getsource(AIOKafkaConnection.send)
    assert "ConnectionGroup.COORDINATION" in inspect.getsource(GroupCoordinator)
    assert "self._client = " in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self.client = " in inspect.getsource(AIOKafkaProducer.__init__)
