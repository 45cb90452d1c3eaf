"""A broker that does not answer: how long it is waited for, and what whoever asked is told.

A broker whose host is lost, or which stands still, closes no connection: whoever waits for it waits as long as the
client allows. aiokafka allows 40 s (Faust's consumer 90 s), while the brokers replace such a leader within 10 s. And
aiokafka opens one connection at a time: while it waits for the first answer of that broker, no other broker is reached
either, not even to ask who leads now. So requests and connections get less time here, and each broker has its own turn.
Only what a group's coordinator answers when every member has been heard may take its time.

What is asked again after that is harmless: reading changes nothing, and an idempotent producer's batch stands once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from chat.errors import Unavailable
from chat.settings import Settings

ANSWER_S: Final = 5.0
"""Longer than what we ask a broker to wait (a fetch: 0.5 s) and than the pauses of its garbage collector."""

CONNECT_S: Final = 2.0
"""To open a connection and hear which versions the broker speaks. The kernel opens one to a frozen process, too."""

_WAITS_FOR_OTHERS: Final = (JoinGroupRequest, SyncGroupRequest)
"""Answered when every member of the group has been heard."""


def limit_patience(client: Any) -> None:
    """Have `client` (an AIOKafkaClient) give up a broker that does not answer: see `ANSWER_S` and `CONNECT_S`.

    The connection is closed and the request raises `RequestTimedOutError`, or `NodeNotReadyError` when there was no
    connection; producers, fetchers and group members ask again. Whom to ask they look up anew: aiokafka would ask the
    same broker until its next regular look, minutes on.
    """
    get_conn, send = client._get_conn, client.send  # noqa: SLF001 (aiokafka has one time for all requests)
    client._get_conn_lock_value = nullcontext()  # noqa: SLF001 (one for all brokers: here each has its own)
    turns: defaultdict[tuple[Any, Any], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def limited_get_conn(
        node_id: int, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> Any:
        try:
            async with asyncio.timeout(CONNECT_S), turns[node_id, group]:
                connection = await get_conn(node_id, group=group, no_hint=no_hint)
        except TimeoutError:
            client.force_metadata_update()
            return None
        # The client itself asks for metadata on a connection, not by `send`.
        if connection is not None and group is ConnectionGroup.DEFAULT:
            connection._request_timeout = ANSWER_S  # noqa: SLF001
        return connection

    async def limited_send(node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        try:
            async with asyncio.timeout(None if isinstance(request, _WAITS_FOR_OTHERS) else ANSWER_S):
                return await send(node_id, request, group=group)
        except (TimeoutError, RequestTimedOutError):
            connection = client._conns.get((node_id, group))  # noqa: SLF001
            if connection is not None:
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            client.force_metadata_update()
            raise RequestTimedOutError from None

    client._get_conn = limited_get_conn  # noqa: SLF001
    client.send = limited_send


@contextmanager
def unavailable_when_away(settings: Settings) -> Iterator[None]:
    """What Kafka's client raises in the body of the `with` comes out of it as `Unavailable`, with the addresses."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {','.join(settings.kafka_servers)}: {error!r}") from None
