"""Parking: a record that no code of ours wrote goes to `room.dead_letters` with its reason, and its partition goes on.

Only one reader of the event log parks (the archiver), so that what is found once is parked once; the others skip and
count. Parking is awaited before the record's position counts as done: a crash in between parks again, under the same
key (chat/log/dead_letters.py).
"""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from chat import logs, metrics
from chat.errors import Code, Unavailable
from chat.log.dead_letters import dead_letter
from chat.log.producer import Record, append, make_producer
from chat.log.topics import DEAD_LETTERS
from chat.records import RecordHeaders
from chat.settings import Settings

log = logs.get(__name__)


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
            raise Unavailable(f"Kafka: {error!r}") from None

    async def stop(self) -> None:
        """Close the producer."""
        if self._producer is not None:
            await self._producer.stop()
