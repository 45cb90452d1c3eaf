"""A room's newest events, read from the log itself: what no store holds yet.

Cassandra has everything up to the archiver's position, so a scan begins there and reads one partition to its end, or
to what was asked for. It is the slowest source and the last one asked. Bounded three ways: scans at a time, records a
scan, and seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chat import logs
from chat.errors import BrokenInvariant, Refused, Unavailable
from chat.log.consumer import FETCH_WAIT_MS, reader
from chat.log.positions import archiver_positions
from chat.log.taking import START, Position, Take, Taker
from chat.log.topics import EVENTS, partition_of
from chat.records import Event, decode_event
from chat.settings import Settings
from chat.stores.coalesce import Coalescer

log = logs.get(__name__)

SCANS_MAX: Final = 4
"""At a time: each holds a connection and up to a fetch's bytes."""
RECORDS_MAX: Final = 200_000
"""Read by one scan; a Cassandra that has been away for longer leaves older events unavailable until it is back."""
SCAN_TIMEOUT_S: Final = 5.0
POSITIONS_AGE_S: Final = 1.0
"""The archiver commits once a second: asking more often finds nothing newer."""


class LogScan:
    """Scans for one worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic(EVENTS)
        self._slots = asyncio.Semaphore(SCANS_MAX)
        self._reads = Coalescer()
        self._positions: Mapping[int, Position] = {}
        self._positions_at = -POSITIONS_AGE_S

    async def stop(self) -> None:
        """Nothing is kept open between scans."""

    async def read_events(self, room: str, from_seq: int, limit: int) -> list[Event]:
        """Events `from_seq`, `from_seq` + 1, ... that lie after the archiver's position: at most `limit`, dense.

        Empty when `from_seq` is not among them (archived already, or not there yet).

        Raises:
            Unavailable: Kafka does not answer in time.
        """
        return await self._reads.run((room, from_seq, limit), lambda: self._read(room, from_seq, limit))

    async def _read(self, room: str, from_seq: int, limit: int) -> list[Event]:
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S), self._slots:
                partition = partition_of(room, self._settings.partitions)
                start = (await self._archived()).get(partition, START)
                return await scan_room(self._settings, room, from_seq, limit, start)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"log: {error!r}") from None
        except BrokenInvariant as error:
            # The position was trimmed under us, or a hole: the archiver stops on it, readers only do without.
            raise Unavailable(f"log: {error}") from None

    async def _archived(self) -> Mapping[int, Position]:
        if time.monotonic() - self._positions_at >= POSITIONS_AGE_S:
            self._positions = await self._reads.run("positions", lambda: archiver_positions(self._settings))
            self._positions_at = time.monotonic()
        return self._positions


async def scan_room(settings: Settings, room: str, from_seq: int, limit: int, start: Position) -> list[Event]:
    """Events of `room` from `from_seq` on that lie after `start` in its partition: at most `limit`, dense.

    Reads up to where the partition ends when it begins, and `RECORDS_MAX` records at most.

    Raises:
        KafkaError: also when `start` is no longer in the log.
        BrokenInvariant: what the log holds cannot be.
    """
    tp = TopicPartition(settings.topic(EVENTS), partition_of(room, settings.partitions))
    async with reader(settings, [tp.topic]) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, start.offset + 1)
        end = min((await consumer.end_offsets([tp]))[tp], start.offset + 1 + RECORDS_MAX)
        return await _collect(consumer, room, from_seq, limit, Taker(start), end)


async def _collect(
    consumer: AIOKafkaConsumer, room: str, from_seq: int, limit: int, taker: Taker, end: int
) -> list[Event]:
    events: list[Event] = []
    key = room.encode()
    while taker.offset + 1 < end:
        for records in (await consumer.getmany(timeout_ms=FETCH_WAIT_MS)).values():
            for record in records:
                if taker.take(record.offset, record.headers) is not Take.EVENT or record.key != key:
                    continue
                event = _event(record)
                if event is None or event.seq < from_seq:
                    continue
                if event.seq != from_seq + len(events):
                    return events
                events.append(event)
                if len(events) == limit:
                    return events
    return events


def _event(record: Any) -> Event | None:
    try:
        return decode_event(record.value)
    except Refused as refused:  # the archiver parks it
        log.warning("event_unreadable", offset=record.offset, reason=refused.message)
        return None
