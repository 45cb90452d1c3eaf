"""Reading everything once, with as little of the product's own reading code as can be.

The log is read from its beginning with `chat.log.taking.Taker`, the rule that every reader obeys; Cassandra and Redis
are asked for what they have, whole, not for what a page of theirs would show. What cannot be read is a finding: nothing
is proved about a store that did not answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import redis.asyncio as redis_driver
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from chat.errors import LogHole, Unavailable
from chat.log.consumer import stop_consumer
from chat.log.positions import committed
from chat.log.taking import Take, Taker
from chat.log.topics import COMMANDS, EVENTS
from chat.settings import Settings
from chat.stores.cassandra.history import BUCKET_SEQS
from chat.stores.cassandra.session import Session
from chat.stores.redis.client import Keys
from chat.stores.redis.writing import TAIL_EVENTS
from tests.faults.auditor import Findings, Kind, RoomLog, audit_archive, audit_tail

FETCH_MS: Final = 500
RECORDS_MAX: Final = 500
"""Judged in one turn of the loop, which has clients to serve meanwhile."""
READ_S: Final = 300.0
"""The engines have been well for a while: whoever does not answer by then is a finding."""
POLL_S: Final = 0.2
ANSWER_S: Final = 15.0
"""A command that was appended a moment ago (a tick) is answered within this."""
READERS: Final = ("archiver", "projector")

_ROWS = "SELECT seq, event FROM room_log WHERE room = ? AND bucket = ?"
_BUCKETS = "SELECT DISTINCT room, bucket FROM room_log"
_HEAD = "SELECT seq FROM rooms WHERE room = ?"


@dataclass
class Log:
    """The event log, read to its end."""

    rooms: dict[str, RoomLog] = field(default_factory=dict)
    takes: Counter[str] = field(default_factory=Counter)
    """What the records were to a reader: how many were events, verdicts, fences; fenced, repeated."""


async def read_log(settings: Settings, findings: Findings) -> Log:
    """Every room, as the records that count tell it."""
    log = Log()
    consumer = _consumer(settings)
    try:
        async with asyncio.timeout(READ_S):
            await consumer.start()
            events = [TopicPartition(settings.topic(EVENTS), p) for p in range(settings.partitions)]
            commands = [TopicPartition(settings.topic(COMMANDS), p) for p in range(settings.partitions)]
            asked = await consumer.end_offsets(commands)
            begins = await consumer.beginning_offsets(events)
            ends = await consumer.end_offsets(events)
            for tp, command_tp in zip(events, commands, strict=True):
                if begins[tp] != 0:
                    text = f"partition {tp.partition} begins at {begins[tp]}: what was trimmed cannot be judged"
                    findings.add(Kind.UNREADABLE, "log", "*", 0, text)
                    continue
                last_src = await _read_partition(consumer, tp, ends[tp], asked[command_tp] - 1, log, findings)
                if last_src < asked[command_tp] - 1:
                    text = f"partition {tp.partition}: commands up to {asked[command_tp] - 1}, answers up to {last_src}"
                    findings.add(Kind.UNANSWERED, "log", "*", 0, text)
    except (KafkaError, OSError, TimeoutError) as error:
        findings.add(Kind.UNREADABLE, "log", "*", 0, repr(error))
    finally:
        await stop_consumer(consumer)
    return log


async def _read_partition(
    consumer: AIOKafkaConsumer, tp: TopicPartition, end: int, last_command: int, log: Log, findings: Findings
) -> int:
    """Read one partition up to `end`, and on to the answer of `last_command`; the last command that it answers."""
    taker = Taker()
    deadline = time.monotonic() + ANSWER_S
    consumer.assign([tp])
    consumer.seek(tp, 0)
    while taker.offset + 1 < end or (taker.src < last_command and time.monotonic() < deadline):
        for records in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=RECORDS_MAX)).values():
            for record in records:
                try:
                    take = taker.take(record.offset, record.headers)
                except LogHole as hole:
                    findings.add(Kind.HOLE, "log", "*", 0, f"partition {tp.partition}: {hole}")
                    return taker.src
                log.takes[take.name.lower()] += 1
                if take is Take.EVENT:
                    room = (record.key or b"").decode(errors="replace")
                    if room not in log.rooms:
                        log.rooms[room] = RoomLog(room, findings)
                    log.rooms[room].add(record.value)
        await asyncio.sleep(0)
    return taker.src


def _consumer(settings: Settings) -> Any:
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_servers,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4_194_304,
    )


async def until_written(settings: Settings, within_s: float, findings: Findings) -> None:
    """Wait until archiver and projector have written all that the log holds now; a finding when they have not."""
    consumer = _consumer(settings)
    try:
        await consumer.start()
        events = [TopicPartition(settings.topic(EVENTS), p) for p in range(settings.partitions)]
        ends = {tp.partition: end for tp, end in (await consumer.end_offsets(events)).items() if end}
        deadline = time.monotonic() + within_s
        while behind := {role: missing for role in READERS if (missing := await _missing(settings, role, ends))}:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
    except (KafkaError, OSError, Unavailable) as error:
        findings.add(Kind.UNREADABLE, "log", "*", 0, repr(error))
        return
    finally:
        await stop_consumer(consumer)
    for role, partitions in behind.items():
        for partition, end in partitions.items():
            text = f"partition {partition}: not written up to offset {end - 1} after {within_s:.0f} s"
            findings.add(Kind.UNANSWERED, role, "*", 0, text)


async def _missing(settings: Settings, role: str, ends: dict[int, int]) -> dict[int, int]:
    """Partitions that `role` has not written to their ends."""
    reached = await committed(settings, role)
    return {p: end for p, end in ends.items() if p not in reached or reached[p].newest.offset < end - 1}


# ---------------------------------------------------------------- Cassandra


async def audit_cassandra(settings: Settings, logs: dict[str, RoomLog], findings: Findings) -> None:
    """Every row of the archive beside the log."""
    session = Session(settings, (_ROWS, _BUCKETS, _HEAD))
    try:
        async with asyncio.timeout(READ_S):
            buckets: dict[str, set[int]] = {}
            for room, bucket in await session.rows(_BUCKETS, ()):
                buckets.setdefault(room, set()).add(bucket)
            for room in buckets.keys() - logs.keys():
                findings.add(Kind.FOREIGN, "cassandra", room, 0, "a room that the log does not have")
            for room, log in logs.items():
                # Those that must be there are asked for as well: a row whose bucket is not listed is no row.
                wanted = buckets.get(room, set()) | set(range(log.head // BUCKET_SEQS + 1))
                rows = []
                for bucket in sorted(wanted):
                    rows += [(seq, bytes(event)) for seq, event in await session.rows(_ROWS, (room, bucket))]
                audit_archive(log, rows, findings)
                heads = await session.rows(_HEAD, (room,))
                if not heads or heads[0][0] != log.head:
                    text = f"the list of rooms says {heads[0][0] if heads else 'nothing'}"
                    findings.add(Kind.LOST, "cassandra", room, log.head, text)
    except (Unavailable, TimeoutError) as error:
        findings.add(Kind.UNREADABLE, "cassandra", "*", 0, repr(error))
    finally:
        await session.stop()


# ---------------------------------------------------------------- Redis


async def audit_redis(settings: Settings, logs: dict[str, RoomLog], findings: Findings) -> None:
    """The tail and the head of every room beside the log."""
    host, port = settings.redis_address
    client = redis_driver.Redis(host=host, port=port, socket_timeout=30.0, socket_connect_timeout=30.0)
    keys = Keys(settings)
    try:
        for room, log in logs.items():
            entries: Any = await client.zrange(keys.tail(room), 0, -1, withscores=True)
            audit_tail(log, [(int(seq), value) for value, seq in entries], findings, kept=TAIL_EVENTS)
            head = await client.hget(keys.room(room), "seq")
            if head is None or int(head) != log.head:
                findings.add(Kind.LOST, "redis", room, log.head, f"the directory says {head!r}")
        members: Any = await client.zrange(keys.rooms, 0, -1)
        for member in members:
            if member.decode() not in logs:
                findings.add(Kind.FOREIGN, "redis", member.decode(), 0, "a room that the log does not have")
    except (RedisError, OSError) as error:
        findings.add(Kind.UNREADABLE, "redis", "*", 0, repr(error))
    finally:
        await client.aclose()
