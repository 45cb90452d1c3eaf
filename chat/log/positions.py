"""Where the readers of the event log stand, as they commit it: the only places where another reader may begin.

A durable reader commits offset + 1 to its consumer group for people who watch lag; what counts is the metadata beside
it: its `Position`, and after a semicolon the older one from which it writes again when it restarts. Where offset and
metadata disagree, the metadata is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chat.errors import Unavailable
from chat.log.taking import Position
from chat.log.topics import COMMANDS, EVENTS
from chat.settings import Settings

TOPIC_OF_GROUP: Final = {"archiver": EVENTS, "projector": EVENTS, "sequencer": COMMANDS}
"""Topic whose committed offsets carry event log positions, by role (the sequencer's: both topics have the same
partitions)."""

COORDINATOR_WAIT_S: Final = 5.0
RETRY_S: Final = 0.1


class Checkpoint(NamedTuple):
    """What a durable reader commits for one partition."""

    newest: Position
    """Everything at or before it is written."""
    again: Position
    """Where it begins after a restart: at or before `newest`."""

    def encode(self) -> str:
        """Text for the metadata of a committed offset."""
        if self.again == self.newest:
            return self.newest.encode()
        return f"{self.newest.encode()};{self.again.encode()}"

    @classmethod
    def decode(cls, text: str) -> Checkpoint | None:
        """The checkpoint in `text`, or None when it holds none."""
        newest_text, _, again_text = text.partition(";")
        newest = Position.decode(newest_text)
        if newest is None:
            return None
        return cls(newest, Position.decode(again_text) or newest)


async def committed(settings: Settings, role: str) -> dict[int, Checkpoint]:
    """The checkpoints of `role`, by partition; partitions without one are left out.

    Raises:
        Unavailable: Kafka does not answer.
    """
    return (await _committed(settings, [role]))[role]


async def newest_positions(settings: Settings) -> Mapping[int, Position]:
    """The newest position that any durable reader has reached, by partition: where a tail begins.

    Raises:
        Unavailable: Kafka does not answer.
    """
    newest: dict[int, Position] = {}
    for checkpoints in (await _committed(settings, list(TOPIC_OF_GROUP))).values():
        for partition, checkpoint in checkpoints.items():
            known = newest.get(partition)
            if known is None or checkpoint.newest.offset > known.offset:
                newest[partition] = checkpoint.newest
    return newest


async def archiver_positions(settings: Settings) -> Mapping[int, Position]:
    """How far Cassandra is, by partition: what it does not have yet stands in the log after this.

    Raises:
        Unavailable: Kafka does not answer.
    """
    return {partition: checkpoint.newest for partition, checkpoint in (await committed(settings, "archiver")).items()}


async def _committed(settings: Settings, roles: list[str]) -> dict[str, dict[int, Checkpoint]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_servers)
    try:
        await admin.start()
        offsets = await asyncio.gather(*(_offsets(admin, settings.group_of(role)) for role in roles))
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {','.join(settings.kafka_servers)}: {error!r}") from None
    finally:
        await admin.close()
    return {
        role: {
            tp.partition: checkpoint
            for tp, offset in of_role.items()
            if tp.topic == settings.topic(TOPIC_OF_GROUP[role])
            and (checkpoint := Checkpoint.decode(offset.metadata)) is not None
        }
        for role, of_role in zip(roles, offsets, strict=True)
    }


async def _offsets(admin: Any, group: str) -> dict[Any, Any]:
    # A cluster makes its offsets topic when the first group asks, and moves it when a broker dies: both take a moment.
    deadline = time.monotonic() + COORDINATOR_WAIT_S
    while True:
        try:
            return dict(await admin.list_consumer_group_offsets(group))
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_S)
