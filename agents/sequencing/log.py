"""What the sequencer does with Kafka itself: append to a partition and know where it landed, read a stretch of it.

Readers have no group and never reset their offset by themselves: a position that is gone is an error that somebody
decides about.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from chat.errors import Code
from chat.log import producer as appending
from chat.log.consumer import RECOVERY_WAIT_MS, reader
from chat.log.dead_letters import dead_letter
from chat.log.following import follow
from chat.log.producer import Record
from chat.log.topics import COMMANDS, DEAD_LETTERS, EVENTS, TABLES, changelog
from chat.records import H_KIND, KIND_WRITER, VERSION, RecordHeaders, Writer, encode
from chat.settings import Settings

FETCH_BYTES: Final = 8_388_608
"""Of a partition at once, while a recovery reads."""


class Found(Protocol):
    """A record as it was read."""

    @property
    def topic(self) -> str:
        """Where it stands."""

    @property
    def partition(self) -> int:
        """Where in the topic."""

    @property
    def offset(self) -> int:
        """Where in the partition."""

    @property
    def key(self) -> bytes | None:
        """Its key, as octets."""

    @property
    def value(self) -> bytes | None:
        """Its value, as octets."""

    @property
    def headers(self) -> RecordHeaders:
        """Its headers."""


class Log:
    """The topics of this namespace, as one sequencer process uses them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events = settings.topic(EVENTS)
        self._commands = settings.topic(COMMANDS)
        self._dead_letters = settings.topic(DEAD_LETTERS)
        self._producer: AIOKafkaProducer | None = None
        self._snapshot_producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect; harmless to repeat. Two producers, so that a snapshot never stands before an event in a queue."""
        async with self._starting:
            if self._producer is not None:
                return
            producer = appending.make_producer(self._settings)
            snapshots = appending.make_producer(
                self._settings, client_id=f"{self._settings.namespace}-{self._settings.worker}-snapshots"
            )
            try:
                await asyncio.gather(producer.start(), snapshots.start())
            except BaseException:
                await asyncio.gather(producer.stop(), snapshots.stop(), return_exceptions=True)
                raise
            self._producer, self._snapshot_producer = producer, snapshots

    async def stop(self) -> None:
        """Flush and disconnect."""
        for producer in (self._producer, self._snapshot_producer):
            if producer is not None:
                await producer.stop()
        self._producer = self._snapshot_producer = None

    def append_events(self, partition: int, records: list[Record]) -> AsyncIterator[tuple[int, int]]:
        """Append to the event log, see `chat.log.producer.append_batches`."""
        assert self._producer is not None
        return appending.append_batches(self._producer, self._events, partition, records)

    async def append_fence(self, partition: int, fence_id: str, worker: str) -> None:
        """Append a fence to the event log; returns when it is acknowledged."""
        fence = Writer(v=VERSION, id=fence_id, worker=worker)
        async for _ in self.append_events(partition, [Record(None, encode(fence), [(H_KIND, KIND_WRITER)])]):
            pass

    async def append_commands(self, partition: int, records: list[Record]) -> None:
        """Append commands of the sequencer's own; returns when all are acknowledged."""
        assert self._producer is not None
        await appending.append(self._producer, self._commands, partition, records)

    async def append_rows(self, topic: str, partition: int, records: list[Record]) -> None:
        """Append to a changelog; returns when all is acknowledged."""
        assert self._snapshot_producer is not None
        await appending.append(self._snapshot_producer, topic, partition, records)

    async def park(self, found: Found, code: Code, detail: str) -> None:
        """Put a record into the dead-letter topic; returns when it is acknowledged."""
        assert self._snapshot_producer is not None
        letter = dead_letter(
            found.topic,
            found.partition,
            found.offset,
            code=code,
            detail=detail,
            key=found.key,
            value=found.value,
            headers=found.headers,
            worker=self._settings.worker,
        )
        await appending.append(
            self._snapshot_producer, self._dead_letters, found.partition % self._settings.partitions, [letter]
        )

    def command_partition(self, partition: int) -> TopicPartition:
        """A partition of the command topic."""
        return TopicPartition(self._commands, partition)

    def event_partition(self, partition: int) -> TopicPartition:
        """A partition of the event topic."""
        return TopicPartition(self._events, partition)

    def changelog_partition(self, table: str, partition: int) -> TopicPartition:
        """A partition of the changelog of `table`."""
        return TopicPartition(self._settings.topic(changelog(table)), partition)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer without a group and without an offset reset."""
        name = f"{self._settings.namespace}-{self._settings.worker}-reader"
        topics = {self._events, self._commands, *map(self._settings.topic, map(changelog, TABLES))}
        async with reader(
            self._settings, topics, client_id=name, fetch_bytes=FETCH_BYTES, wait_ms=RECOVERY_WAIT_MS
        ) as consumer:
            yield consumer

    async def read_events(self, partition: int, start: int, end: int | None = None) -> list[Found]:
        """The records of the event log from `start` up to, not including, `end` (None: where the log ends now).

        Raises:
            OffsetOutOfRangeError: `start` has been trimmed away.
        """
        tp = self.event_partition(partition)
        records: list[Found] = []
        async with self.reader() as consumer:
            if end is None:
                end = (await consumer.end_offsets([tp]))[tp]
            async for _, batch in follow(consumer, {tp: start}, {tp: end}):
                records += batch
        return [record for record in records if record.offset < end]
