"""A broker that does not answer: how long it is waited for, and what whoever asked is told.

A broker whose host is lost, or which stands still, closes no connection: whoever waits for it waits as long as the
client allows. aiokafka allows 40 s (Faust's consumer 90 s), while the brokers replace such a leader within 10 s. So
requests get less here, but for those to a group's coordinator: a JoinGroup waits for every member of the group.

What is asked again after that is harmless: reading changes nothing, and an idempotent producer's batch stands once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError

from chat.errors import Unavailable
from chat.settings import Settings

ANSWER_S: Final = 5.0
"""Longer than what we ask a broker to wait (a fetch: 0.5 s) and than the pauses of its garbage collector."""


def limit_patience(client: Any) -> None:
    """Have `client` (an AIOKafkaClient) close a connection on which an answer takes longer than `ANSWER_S`.

    The request raises `RequestTimedOutError` then; producers and fetchers ask again, whoever leads by now.
    """
    get_conn = client._get_conn  # noqa: SLF001 (aiokafka has one time for all requests)

    async def limited(node_id: int, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        connection = await get_conn(node_id, group=group, no_hint=no_hint)
        if connection is not None and group is ConnectionGroup.DEFAULT:
            connection._request_timeout = ANSWER_S  # noqa: SLF001
        return connection

    client._get_conn = limited  # noqa: SLF001


@contextmanager
def unavailable_when_away(settings: Settings) -> Iterator[None]:
    """What Kafka's client raises in the body of the `with` comes out of it as `Unavailable`, with the addresses."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {','.join(settings.kafka_servers)}: {error!r}") from None
