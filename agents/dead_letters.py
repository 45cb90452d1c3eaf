"""Parking: a record that no code of ours wrote goes to `room.dead_letters` with its reason, and its partition goes on.

Only one reader of the event log parks (the archiver), so that what is found once is parked once; the others skip and
count. Parking is awaited before the record's position counts as done: a crash in between parks again, under the same
key (chat/log/dead_letters.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from chat import logs, metrics
from chat.errors import Code, RoomlogError, Unavailable
from chat.log.answering import unavailable_when_away
from chat.log.consumer import FETCH_WAIT_MS, reader
from chat.log.dead_letters import DeadLetter, dead_letter
from chat.log.producer import Record, append, make_producer
from chat.log.topics import DEAD_LETTERS
from chat.records import RecordHeaders
from chat.settings import Settings

log = logs.get(__name__)


_decoder = msgspec.json.Decoder(DeadLetter)


class DeadLetters:
    """Parks records for one worker. Its producer starts with the first one: most workers never need it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic(DEAD_LETTERS)
        self._producer: AIOKafkaProducer | None = None

    def letter(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        code: Code,
        detail: str,
        key: bytes | None,
        value: bytes | None,
        headers: RecordHeaders,
    ) -> Record:
        """What `park` takes: the record found at `offset`, and why it is parked. Counts and logs it."""
        metrics.dead_letters.labels(code.value).inc()
        log.error("record_parked", topic=topic, partition=partition, offset=offset, code=code.value, detail=detail)
        return dead_letter(
            topic,
            partition,
            offset,
            code=code,
            detail=detail,
            key=key,
            value=value,
            headers=headers,
            worker=self._settings.worker,
        )

    async def park(self, records: list[Record]) -> None:
        """Append `records`; returns when they are acknowledged. `Unavailable` when Kafka is away: try again."""
        try:
            if self._producer is None:
                producer = make_producer(self._settings, client_id=f"{self._settings.namespace}-dead-letters")
                await producer.start()
                self._producer = producer
            await append(self._producer, self._topic, 0, records)
        except (KafkaError, OSError) as error:
            # One that Kafka has refused would be refused for ever.
            await self.stop()
            raise Unavailable(f"Kafka: {error!r}") from None

    async def stop(self) -> None:
        """Close the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


@dataclass(frozen=True, slots=True)
class Parked:
    """A dead letter as it was found in its topic."""

    at_ms: int
    """When it was parked, in milliseconds since 1970 (UTC), by the broker's clock."""
    letter: DeadLetter
    stands_in: int
    """Its partition of the dead-letter topic."""
    replayed: tuple[str, ...] = ()
    """What has been done about it, oldest first."""


async def parked(settings: Settings, limit: int) -> tuple[list[Parked], int]:
    """The newest `limit` dead letters, oldest first, and how many different ones there are.

    Raises:
        Unavailable: Kafka does not answer.
    """
    found = await all_parked(settings)
    return sorted(found.values(), key=lambda one: one.at_ms)[-limit:], len(found)


async def all_parked(settings: Settings) -> dict[str, Parked]:
    """Every dead letter, by the key that names where it was found: `topic-partition-offset`.

    What was parked again after a crash counts once, at its first time. A record in the topic that is no dead letter of
    ours is left out.

    Raises:
        Unavailable: Kafka does not answer.
    """
    topic = settings.topic(DEAD_LETTERS)
    found: dict[str, Parked] = {}
    with unavailable_when_away(settings):
        async with reader(settings, [topic], reset="earliest") as consumer:
            if topic not in await consumer.topics():
                raise Unavailable(f"topic {topic} is missing: run `faust -A app topics`")
            tps = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for tp, records in (await consumer.getmany(timeout_ms=FETCH_WAIT_MS)).items():
                    for record in records:
                        if (letter := read_dead_letter(record.value)) is not None:
                            key = (record.key or b"").decode("utf-8", "replace")
                            known = found.setdefault(key, Parked(record.timestamp, letter, tp.partition))
                            if letter.replayed:
                                found[key] = replace(known, replayed=(*known.replayed, letter.replayed))
    return found


async def find_parked(settings: Settings, key: str) -> Parked:
    """The dead letter of that key.

    Raises:
        RoomlogError: there is none.
        Unavailable: Kafka does not answer.
    """
    found = (await all_parked(settings)).get(key)
    if found is None:
        raise RoomlogError(f"there is no dead letter {key}: `faust -A app dead-letters` lists them")
    return found


def describe(one: Parked) -> list[str]:
    """A dead letter with all that is known of it, as lines."""
    letter = one.letter
    original = letter.original()
    at = datetime.fromtimestamp(one.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    lines = [
        f"found      {letter.topic} partition {letter.partition} offset {letter.offset}",
        f"parked     {at} by {letter.worker}",
        f"reason     {letter.code}: {letter.detail}",
        *(f"replayed   {what}" for what in one.replayed),
        *(["kept       in part: the original was larger"] if letter.truncated else []),
        f"key        {_shown(original.key)}",
        *(f"header     {name} = {_shown(value)}" for name, value in original.headers),
    ]
    try:
        value = json.dumps(json.loads(original.value or b""), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        value = _shown(original.value)
    return [*lines, f"value      {len(original.value or b'')} bytes", *value.splitlines()]


def _shown(octets: bytes | None) -> str:
    """Octets as text where they are some, else escaped."""
    if octets is None:
        return "none"
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return repr(octets)
    return text if text.isprintable() else repr(text)


def read_dead_letter(value: bytes | None) -> DeadLetter | None:
    """The dead letter in a record's value, or None."""
    try:
        return _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
