"""Where the readers of the event log stand, as they commit it: the only places where another reader may begin.

A durable reader commits offset + 1 to its consumer group for people who watch lag; what counts is the metadata beside
it: its `Position`, and after a semicolon the older one from which it writes again when it restarts. Where offset and
metadata disagree, the metadata is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CommitFailedError, KafkaError, for_code
from aiokafka.structs import OffsetAndMetadata

from chat.errors import RoomlogError
from chat.log.answering import unavailable_when_away
from chat.log.bases import read_bases
from chat.log.consumer import stop_consumer
from chat.log.taking import Position
from chat.log.topics import COMMANDS, EVENTS, admin_client
from chat.settings import Settings

_T = TypeVar("_T")

TOPIC_OF_GROUP: Final = {"archiver": EVENTS, "projector": EVENTS, "sequencer": COMMANDS}
"""Topic whose committed offsets carry event log positions, by role (the sequencer's: both topics have the same
partitions)."""

COORDINATOR_WAIT_S: Final = 5.0
RETRY_S: Final = 0.1
SESSION_MAX_S: Final = 8.0
"""A member that was killed is gone from its group after its session (6 s) and a moment."""


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

    A partition where none has committed yet has its base, if it was ever trimmed; otherwise it is left out.

    Raises:
        Unavailable: Kafka does not answer.
    """
    newest: dict[int, Position] = {}
    for checkpoints in (await _committed(settings, list(TOPIC_OF_GROUP))).values():
        for partition, checkpoint in checkpoints.items():
            known = newest.get(partition)
            if known is None or checkpoint.newest.offset > known.offset:
                newest[partition] = checkpoint.newest
    return await _or_base(settings, newest)


async def archiver_positions(settings: Settings) -> Mapping[int, Position]:
    """How far Cassandra is, by partition: what it does not have yet stands in the log after this.

    What a trim has deleted was archived before, so a partition without a committed position has its base.

    Raises:
        Unavailable: Kafka does not answer.
    """
    archived = {partition: found.newest for partition, found in (await committed(settings, "archiver")).items()}
    return await _or_base(settings, archived)


async def commit(settings: Settings, role: str, positions: Mapping[int, Position]) -> None:
    """Have `role` go on after `positions` when it is started next, as if it had committed them itself.

    Raises:
        RoomlogError: a worker of that role is running, or was until a moment ago.
        Unavailable: Kafka does not answer.
    """
    topic = settings.topic(TOPIC_OF_GROUP[role])
    # What a sequencer wants next is a command: the one after the last that was answered.
    commands = TOPIC_OF_GROUP[role] == COMMANDS
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_servers, group_id=settings.group_of(role), enable_auto_commit=False
    )
    offsets = {
        TopicPartition(topic, partition): OffsetAndMetadata(
            (position.src if commands else position.offset) + 1, position.encode()
        )
        for partition, position in positions.items()
    }
    try:
        with unavailable_when_away(settings):
            await consumer.start()
            consumer.assign(list(offsets))
            try:
                await consumer.commit(offsets)
            except CommitFailedError:
                raise RoomlogError(f"a worker of role {role} is running: stop all of them first") from None
    finally:
        await stop_consumer(consumer)


async def _or_base(settings: Settings, positions: dict[int, Position]) -> dict[int, Position]:
    if len(positions) < settings.partitions:
        for partition, base in (await read_bases(settings)).items():
            positions.setdefault(partition, base.position)
    return positions


async def live_members(settings: Settings, role: str) -> int:
    """Workers of `role` that are in its consumer group; waits for the session of one that was killed to end.

    Raises:
        Unavailable: Kafka does not answer.
    """
    group = settings.group_of(role)
    deadline = time.monotonic() + SESSION_MAX_S
    async with admin_client(settings) as admin:
        while True:
            members = await _until_coordinated(lambda: _members(admin, group))
            if not members or time.monotonic() >= deadline:
                return members
            await asyncio.sleep(RETRY_S)


async def _members(admin: Any, group: str) -> int:
    (response,) = await admin.describe_consumer_groups([group])
    ((code, _name, _state, _protocol_type, _protocol, members, *_),) = response.groups
    if code:
        raise for_code(code)
    return len(members)


async def _committed(settings: Settings, roles: list[str]) -> dict[str, dict[int, Checkpoint]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_servers)
    try:
        with unavailable_when_away(settings):
            await admin.start()
            offsets = await asyncio.gather(*(_offsets(admin, settings.group_of(role)) for role in roles))
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
    return await _until_coordinated(lambda: admin.list_consumer_group_offsets(group))


async def _until_coordinated(ask: Callable[[], Awaitable[_T]]) -> _T:
    # A cluster makes its offsets topic when the first group asks, and moves it when a broker dies: both take a moment.
    deadline = time.monotonic() + COORDINATOR_WAIT_S
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_S)
