"""A stand-in for the sequencer: the real rules, the real records, a fence, straight into `room.events`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from chat.log.producer import Record, append_batches, make_producer
from chat.log.topics import EVENTS, create_topics, partition_of
from chat.records import Command, Event, JoinRoom, LeaveRoom, PostMessage, Writer, encode, record_headers
from chat.rooms.decide import decide
from chat.rooms.state import Head, Member, fold_head, fold_member
from chat.settings import Settings


class Rows:
    """The rows of one room."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.members: dict[str, Member] = {}
        self.senders: dict[str, Any] = {}


def post(room: str, sender: str = "alice", body: str = "hello", **more: Any) -> PostMessage:
    return PostMessage(v=1, room=room, sender=sender, nonce="n" * 22, body=body, create=True, **more)


def join(room: str, sender: str) -> JoinRoom:
    return JoinRoom(v=1, room=room, sender=sender, create=True)


def leave(room: str, sender: str) -> LeaveRoom:
    return LeaveRoom(v=1, room=room, sender=sender)


class EventLog:
    """Writes what a sequencer would. `await log.commands(...)` appends and returns the events."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topic = settings.topic(EVENTS)
        self.rooms: dict[str, Rows] = defaultdict(Rows)
        self.terms: dict[int, int] = {}
        self.srcs: dict[int, int] = defaultdict(lambda: -1)
        self.at = 1_700_000_000_000_000
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        await create_topics(self.settings)
        self._producer = make_producer(self.settings, client_id="test-log")
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._producer is not None
        await self._producer.stop()

    def partition(self, room: str) -> int:
        return partition_of(room, self.settings.partitions)

    async def raw(self, partition: int, *records: Record) -> int:
        """Append records as they are; the offset of the first."""
        assert self._producer is not None
        offsets = [offset async for offset, _ in append_batches(self._producer, self.topic, partition, list(records))]
        return offsets[0]

    async def fence(self, partition: int) -> int:
        """Begin a new term."""
        value = encode(Writer(v=1, id=f"test-{partition}"))
        self.terms[partition] = await self.raw(partition, Record(None, value, [("kind", b"writer")]))
        return self.terms[partition]

    def decide(self, command: Command) -> tuple[int, Record, Event]:
        """The next record of the command's partition; it must be appended."""
        rows = self.rooms[command.room]  # type: ignore[union-attr]
        self.at += 7
        event = decide(rows, command, self.at)
        assert isinstance(event, Event), event
        rows.head = fold_head(rows.head, event)
        if event.member is not None:
            member = fold_member(rows.members.get(event.member.user), event)
            assert member is not None
            rows.members[event.member.user] = member
        partition = self.partition(event.room)
        self.srcs[partition] += 1
        headers = record_headers(self.srcs[partition], self.terms[partition], event.kind)
        return partition, Record(event.room.encode(), encode(event), headers), event

    async def commands(self, commands: Iterable[Command]) -> list[Event]:
        """Decide and append `commands`, in order per partition."""
        events: list[Event] = []
        batches: dict[int, list[Record]] = defaultdict(list)
        for command in commands:
            partition = self.partition(command.room)  # type: ignore[union-attr]
            if partition not in self.terms:
                await self.fence(partition)
            partition, record, event = self.decide(command)
            batches[partition].append(record)
            events.append(event)
        for partition, records in batches.items():
            await self.raw(partition, *records)
        return events
