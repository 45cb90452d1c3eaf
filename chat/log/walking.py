"""A walk over a stretch of the event log: for operations, which read a partition from a position up to an end and go.

Everything passes the one rule of taking (chat/log/taking.py), so where a walk ends is a position in which a reader may
begin. A walk never skips: a hole, or a start that is no longer in the log, ends it with an error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from chat.errors import BrokenInvariant, LogHole, Unavailable
from chat.log.answering import unavailable_when_away
from chat.log.consumer import FETCH_WAIT_MS, reader
from chat.log.taking import Position, Take, Taker
from chat.log.topics import EVENTS
from chat.settings import Settings

FETCH_BYTES: Final = 8_388_608
"""Of a partition at once."""
SILENT_MAX_S: Final = 30.0
"""A broker that delivers nothing for so long, although the log goes on, is away."""

Taken = list[tuple[Take, Any]]


class Extent(NamedTuple):
    """The offsets that a partition holds: from `beginning` up to, not including, `end`."""

    beginning: int
    end: int


class Walk:
    """One walk: `async for records in walk` gives every record of the stretch, each with what it is to a reader."""

    def __init__(self, settings: Settings, partition: int, start: Position, end: int) -> None:
        """From after `start` up to, not including, offset `end`, which the log must reach."""
        self._settings = settings
        self._tp = TopicPartition(settings.topic(EVENTS), partition)
        self._taker = Taker(start)
        self._end = end
        self._last: Any = None

    @property
    def position(self) -> Position:
        """Where the walk is."""
        return self._taker.position

    def log_time(self) -> int | None:
        """Log time of the last record taken, in microseconds; None when none was.

        Raises:
            BrokenInvariant: that record does not decode.
        """
        if self._last is None:
            return None
        try:
            return _stamp_decoder.decode(self._last.value or b"").at
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenInvariant(
                f"{self._tp.topic} partition {self._tp.partition}: the record at offset {self._last.offset} counts and "
                f"does not decode: {error}"
            ) from None

    async def __aiter__(self) -> AsyncIterator[Taken]:
        """Fetch by fetch.

        Raises:
            LogHole: a record is missing.
            Unavailable: Kafka does not answer.
        """
        if self._taker.offset + 1 >= self._end:
            return
        async with _reader(self._settings, self._tp.topic) as consumer:
            consumer.assign([self._tp])
            consumer.seek(self._tp, self._taker.offset + 1)
            heard_s = time.monotonic()
            while self._taker.offset + 1 < self._end:
                try:
                    fetched = await consumer.getmany(timeout_ms=FETCH_WAIT_MS)
                except OffsetOutOfRangeError:
                    raise LogHole(
                        f"{self._tp.topic} partition {self._tp.partition} holds no offset {self._taker.offset + 1}: "
                        "it was trimmed or made anew under this walk"
                    ) from None
                records = fetched.get(self._tp)
                if records:
                    heard_s = time.monotonic()
                    taken: Taken = []
                    try:
                        self._take(records, taken)
                    except LogHole:
                        yield taken  # what lies before the hole counts
                        raise
                    yield taken
                elif time.monotonic() - heard_s > SILENT_MAX_S:
                    raise Unavailable(f"Kafka delivers nothing of {self._tp.topic} partition {self._tp.partition}")

    def _take(self, records: Iterable[Any], taken: Taken) -> None:
        for record in records:
            if record.offset >= self._end:
                break
            take = self._taker.take(record.offset, record.headers)
            if take <= Take.VERDICT:
                self._last = record
            taken.append((take, record))


async def extents(settings: Settings, topic: str) -> dict[int, Extent]:
    """What each partition of `topic` holds now.

    Raises:
        Unavailable: Kafka does not answer.
    """
    async with _reader(settings, topic) as consumer:
        tps = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        beginnings, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp.partition: Extent(beginnings[tp], ends[tp]) for tp in tps}


async def offsets_since(settings: Settings, topic: str, since_ms: int) -> dict[int, int | None]:
    """The first offset of each partition whose time stamp is `since_ms` or later; None when none is.

    Raises:
        Unavailable: Kafka does not answer.
    """
    async with _reader(settings, topic) as consumer:
        tps = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        found = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        return {tp.partition: None if found.get(tp) is None else int(found[tp].offset) for tp in tps}


class _Stamp(msgspec.Struct):
    at: int


_stamp_decoder = msgspec.json.Decoder(_Stamp)


@contextlib.asynccontextmanager
async def _reader(settings: Settings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    with unavailable_when_away(settings):
        async with reader(settings, [topic], fetch_bytes=FETCH_BYTES) as consumer:
            yield consumer
