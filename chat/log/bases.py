"""Where the event log of a partition begins once it has been trimmed: its base.

A reader may begin at offset 0 or at a position that another reader has reached, and nowhere else (chat/log/taking.py).
When the first records of a partition are deleted, offset 0 is gone, so the operation that deletes them first writes the
position right before the first record that stays into `room.bases`, and deletes only when that is acknowledged. So
whatever dies in between: a reader without a position of its own finds either the whole log or a base that lies in it.

A base never goes back. Of several in the topic the one with the highest offset counts: two trims at the same time, or a
late copy, do no harm.
"""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from chat.errors import BrokenInvariant, Unavailable, UnknownVersion
from chat.log.answering import unavailable_when_away
from chat.log.consumer import FETCH_WAIT_MS, reader
from chat.log.producer import Record, append
from chat.log.taking import START, Position
from chat.log.topics import BASES
from chat.records import VERSION
from chat.settings import Settings


class Base(msgspec.Struct, frozen=True):
    """Everything at or before this position may be gone from the event log; what follows is there."""

    v: int
    offset: int
    src: int
    term: int
    at: int
    """Log time of the last record taken at or before it, in microseconds; 0 when none was."""

    @property
    def position(self) -> Position:
        """Where a reader without a position of its own begins."""
        return Position(self.offset, self.src, self.term)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Base)


def begin_at(beginning: int, base: Base | None) -> Position | None:
    """Where a reader without a position begins in a partition whose first offset is `beginning`.

    None: nowhere. Somebody else deleted records, and no record shows by itself whether its term is still the latest.
    """
    if beginning == 0:
        return START
    if base is not None and base.offset + 1 >= beginning:
        return base.position
    return None


def no_beginning(topic: str, partition: int, beginning: int) -> str:
    """The line of a reader for which `begin_at` has no answer."""
    return (
        f"{topic} partition {partition} begins at {beginning} and no position in it is known: "
        "run `faust -A app trim`, which makes the sequencer's checkpoint its base"
    )


async def read_bases(settings: Settings) -> dict[int, Base]:
    """The base of each partition that has been trimmed. A base may stand while its records are still being deleted.

    Raises:
        Unavailable: Kafka does not answer, or the topic is missing.
        BrokenInvariant: a record in the topic is none of ours.
        UnknownVersion: a newer Roomlog wrote it.
    """
    topic = settings.topic(BASES)
    bases: dict[int, Base] = {}
    with unavailable_when_away(settings):
        async with reader(settings, [topic]) as consumer:
            if topic not in await consumer.topics():
                raise Unavailable(f"topic {topic} is missing: run `faust -A app topics`")
            tps = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
            ends = await consumer.end_offsets(tps)
            left = {tp: end for tp, end in ends.items() if end}
            if left:
                consumer.assign(list(left))
                await consumer.seek_to_beginning()
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=FETCH_WAIT_MS)).items():
                    for record in records:
                        base = decode_base(record.value)
                        known = bases.get(tp.partition)
                        if known is None or base.offset > known.offset:
                            bases[tp.partition] = base
                for tp in list(left):
                    # The position, not the last record seen: a compacted topic may end in nothing.
                    if await consumer.position(tp) >= left[tp]:
                        del left[tp]
                        consumer.pause(tp)
    return bases


async def write_base(producer: AIOKafkaProducer, settings: Settings, partition: int, base: Base) -> None:
    """Append the base of a partition; returns when it is acknowledged and no lower one stands after a higher one.

    Only the last record of a partition survives compaction. Whoever finds a higher base than the one it has just
    written (another trim, at the same time) writes that one once more.
    """
    key = b"%d" % partition
    await append(producer, settings.topic(BASES), partition, [Record(key, _encoder.encode(base), [])])
    highest = (await read_bases(settings)).get(partition, base)
    if highest.offset > base.offset:
        await append(producer, settings.topic(BASES), partition, [Record(key, _encoder.encode(highest), [])])


def decode_base(value: bytes | None) -> Base:
    """A base from its bytes.

    Raises:
        BrokenInvariant: it is none: nobody but us writes there, and a reader must not guess where it begins.
        UnknownVersion: a newer Roomlog wrote it.
    """
    try:
        base = _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenInvariant(f"room.bases holds a record that is no base: {error}") from None
    if base.v != VERSION:
        raise UnknownVersion(f"base version {base.v}, this code knows {VERSION}: upgrade this worker")
    return base
