"""What the sequencer's tests share: commands in, the whole log out, and the pure rules as the oracle of what it must hold."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.sequencing.intake import read_command
from agents.sequencing.rows import TABLES, Rows
from chat.errors import Refused
from chat.log.consumer import stop_consumer
from chat.log.producer import make_producer
from chat.log.taking import Take, Taker, command_id
from chat.log.topics import COMMANDS, DEAD_LETTERS, EVENTS, changelog, partition_of, record_bytes_max
from chat.records import CMD_ID_BYTES_MAX, Event, PostMessage, Verdict, decode_event, decode_verdict, encode
from chat.rooms.chain import genesis, verify
from chat.rooms.decide import decide, log_time, refuse_undecodable
from chat.settings import Settings

DEADLINE_S = 60.0


@dataclass
class Taken:
    """What a reader takes from the event log."""

    answers: dict[int, list[tuple[Any, Event | Verdict]]] = field(default_factory=dict)
    """By partition, in log order: (record, what it says). The n-th answers the n-th command."""
    ignored: list[Any] = field(default_factory=list)

    def events(self) -> list[Event]:
        """All events, partition by partition."""
        return [answer for answers in self.answers.values() for _, answer in answers if isinstance(answer, Event)]

    def rooms(self) -> dict[str, list[Event]]:
        """Events by room."""
        rooms: dict[str, list[Event]] = {}
        for event in self.events():
            rooms.setdefault(event.room, []).append(event)
        return rooms


class Log:
    """The topics of one namespace, as a gateway and a reader see them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.commands = settings.topic(COMMANDS)
        self.events = settings.topic(EVENTS)
        self.dead_letters = settings.topic(DEAD_LETTERS)
        self._ids = itertools.count()

    async def __aenter__(self) -> Self:
        self.producer: AIOKafkaProducer = make_producer(self.settings, client_id="test")
        await self.producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.producer.stop()

    def partition(self, room: str) -> int:
        return partition_of(room, self.settings.partitions)

    async def post(self, room: str, body: str = "hello", *, sender: str = "ann", client_id: str | None = None) -> None:
        """Append one message; returns when Kafka has it."""
        await (await self.post_soon(room, body, sender=sender, client_id=client_id))

    async def post_soon(self, room: str, body: str, *, sender: str, client_id: str | None) -> asyncio.Future[Any]:
        command = PostMessage(v=1, room=room, sender=sender, nonce="n", client_id=client_id, body=body, create=True)
        headers = [("cmd", b"%d" % next(self._ids))]
        return await self.producer.send(
            self.commands, key=room.encode(), value=encode(command), headers=headers, partition=self.partition(room)
        )

    async def append(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None, headers: Any = ()
    ) -> int:
        """Append whatever to any topic; its offset."""
        sent = await self.producer.send_and_wait(
            topic, key=key, value=value, headers=list(headers), partition=partition
        )
        return int(sent.offset)

    async def read(self, topic: str) -> dict[int, list[Any]]:
        """Every record of a topic that is there now, by partition."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            tps = [TopicPartition(topic, p) for p in range(self.settings.partitions)]
            consumer.assign(tps)
            await consumer.seek_to_beginning()
            ends = await consumer.end_offsets(tps)
            records: dict[int, list[Any]] = {tp.partition: [] for tp in tps}
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                    records[tp.partition] += batch
            return records
        finally:
            await stop_consumer(consumer)

    async def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a topic ends."""
        tps = [TopicPartition(topic, p) for p in range(self.settings.partitions)]
        return {tp.partition: offset for tp, offset in (await self.producer_ends(tps)).items()}

    async def producer_ends(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_servers, enable_auto_commit=False)
        await consumer.start()
        try:
            return dict(await consumer.end_offsets(tps))
        finally:
            await stop_consumer(consumer)

    async def taken(self) -> Taken:
        """What every reader takes from the event log as it is now."""
        taken = Taken()
        for partition, records in (await self.read(self.events)).items():
            taker = Taker()
            answers = taken.answers.setdefault(partition, [])
            for record in records:
                match taker.take(record.offset, record.headers):
                    case Take.EVENT:
                        answers.append((record, decode_event(record.value)))
                    case Take.VERDICT:
                        answers.append((record, decode_verdict(record.value)))
                    case Take.FENCE:
                        pass
                    case _:
                        taken.ignored.append(record)
        return taken

    async def answered(self, within_s: float = DEADLINE_S) -> Taken:
        """What readers take once every command that is in the log now has its answer."""
        ends = await self.ends(self.commands)
        deadline = time.monotonic() + within_s
        while True:
            taken = await self.taken()
            if all(len(taken.answers[p]) >= end for p, end in ends.items()):
                return taken
            counts = {p: len(answers) for p, answers in taken.answers.items()}
            assert time.monotonic() < deadline, f"answers {counts} of commands {ends} after {within_s} s"
            await asyncio.sleep(0.1)

    async def rows(self, table: str) -> dict[int, list[Any]]:
        """Every record of a changelog, by partition."""
        return await self.read(self.settings.topic(changelog(table)))

    async def check(self, taken: Taken) -> None:
        """The log holds exactly what the rules make of the commands, one answer each, to the byte; chains are whole."""
        commands = await self.read(self.commands)
        for partition, answers in taken.answers.items():
            expected = decided(commands[partition], self.settings)
            assert [record.value for record, _ in answers] == expected[: len(answers)]
            assert [command_id(record.headers) for record, _ in answers] == [
                _echoed(dict(command.headers).get("cmd")) for command in commands[partition][: len(answers)]
            ]
        for room, events in taken.rooms().items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            previous = genesis(room, events[0].epoch)
            for event in events:
                assert verify(previous, event)
                previous = event.chain
            ids = [event.client_id for event in events if event.client_id]
            assert len(ids) == len(set(ids)), f"{room}: a client id stands twice"


def _echoed(given: bytes | None) -> bytes | None:
    return given if given is not None and len(given) <= CMD_ID_BYTES_MAX else None


def decided(commands: Iterable[Any], settings: Settings) -> list[bytes]:
    """The values of the answers to a whole partition of commands."""
    values: list[bytes] = []
    rows: Rows | None = None
    at = 0
    for record in commands:
        if rows is None:
            rows = Rows(record.partition, {table: {} for table in TABLES})
        at = log_time(record.timestamp, at)
        try:
            command, _ = read_command(
                record.key,
                record.value,
                record.headers,
                partition=record.partition,
                partitions=settings.partitions,
                value_bytes_max=record_bytes_max(settings),
            )
        except Refused as refusal:
            values.append(encode(refuse_undecodable("", refusal.code, refusal.message[:200], at)))
            continue
        answer = decide(rows.of(getattr(command, "room", "")), command, at)
        if isinstance(answer, Event):
            rows.fold(answer)
        values.append(encode(answer))
    return values


async def until(condition: Any, what: str, within_s: float = DEADLINE_S) -> None:
    """Wait for `condition()` (awaited when it is a coroutine) to be true."""
    deadline = time.monotonic() + within_s
    while True:
        holds = condition()
        if asyncio.iscoroutine(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"{what}: not after {within_s} s"
        await asyncio.sleep(0.05)


@dataclass
class Load:
    """Messages into many rooms, some sent twice, as long as the `with` lasts (at least `least` of them)."""

    log: Log
    rooms: int = 20
    rate_s: float = 300.0
    least: int = 0
    sent: int = 0

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self._task

    async def _send(self) -> None:
        started = time.monotonic()
        waiting: list[asyncio.Future[Any]] = []
        while not (self._stop.is_set() and self.sent >= self.least):
            n = self.sent
            again = 2 if n % 10 == 0 else 1
            room, sender = f"room-{n % self.rooms}", f"user-{n % 7}"
            waiting += [
                await self.log.post_soon(room, f"message {n}", sender=sender, client_id=f"id-{n}") for _ in range(again)
            ]
            self.sent += 1
            if not self._stop.is_set():
                await asyncio.sleep(max(0.0, started + self.sent / self.rate_s - time.monotonic()))
        await asyncio.gather(*waiting)
