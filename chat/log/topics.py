"""The topics as data: their names, what they must be set to, and which partition a room lives in.

`faust -A app topics` creates what is missing; every worker checks at its start and refuses topics that are not what the
design rests on (one partition count, the broker's clock in every record, events kept for ever, no compaction that could
tear a hole into the log). Settings that only an operator cares about (how long commands are kept) may be larger than
ours, never smaller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.partitioner import murmur2

from chat.errors import SettingsError, Unavailable
from chat.log.following import COMPACTION_LAG_S
from chat.settings import Settings

COMMANDS: Final = "room.commands"
EVENTS: Final = "room.events"
DEAD_LETTERS: Final = "room.dead_letters"
BASES: Final = "room.bases"
"""Where each trimmed partition of `room.events` begins, see chat/log/bases.py."""
TABLES: Final = ("rooms", "members", "senders", "checkpoints")
"""The sequencer's tables, each with a changelog topic."""

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_MIB: Final = 1_048_576

# Only closed segments are compacted, and a recovery reads what is not: small ones, closed soon, cleaned early.
_COMPACT_SOON: Final = {
    "segment.bytes": str(32 * _MIB),
    "segment.ms": str(_MINUTE_MS),
    "min.cleanable.dirty.ratio": "0.1",
}

ROOMS_CACHED: Final = 65_536
"""Rooms whose partition is remembered: murmur2 in Python costs microseconds, hot rooms are asked for all the time."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be.

    `exact` settings must agree, `least` ones may be larger (-1 counts as unbounded), `tuning` is given at creation and
    is the operator's from then on.
    """

    name: str
    exact: dict[str, str]
    least: dict[str, int]
    tuning: dict[str, str] = field(default_factory=dict)


def changelog(table: str) -> str:
    """Our name of the changelog topic of one of the sequencer's tables."""
    return f"sequencer.{table}.changelog"


def record_bytes_max(settings: Settings) -> int:
    """The largest value that a command or an event may have.

    A body of control characters grows sixfold in JSON, one of arbitrary octets by a third (base64); so do the headers
    that pass through. 64 KiB on top are more than the rest of any record needs.
    """
    return 6 * (settings.body_bytes_max + settings.passed_headers_bytes_max) + 65_536


def topics(settings: Settings) -> list[Topic]:
    """Every topic of this namespace."""
    # The broker's limit is on a batch, and a batch always has room for one record of the largest size.
    batch = max(_MIB, record_bytes_max(settings) + 16_384)
    common = {
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "producer",
        "min.insync.replicas": str(settings.min_insync_replicas),
        "unclean.leader.election.enable": "false",
    }
    log = {**common, "cleanup.policy": "delete"}
    rows = {**common, "cleanup.policy": "compact"}
    return [
        Topic(settings.topic(COMMANDS), log, {"max.message.bytes": batch, "retention.ms": 7 * _DAY_MS}),
        Topic(settings.topic(EVENTS), log, {"max.message.bytes": batch, "retention.ms": -1, "retention.bytes": -1}),
        # What is parked is base64 of what was found, and a little more.
        Topic(settings.topic(DEAD_LETTERS), log, {"max.message.bytes": 2 * batch, "retention.ms": 28 * _DAY_MS}),
        # A base that went back is put right by whoever wrote it, see `write_base`: until then both must be there.
        Topic(settings.topic(BASES), rows, {"min.compaction.lag.ms": _HOUR_MS}, _COMPACT_SOON),
        *(
            # Nothing that a recovery may still have to read is compacted away under it (chat/log/following.py).
            Topic(
                settings.topic(changelog(table)),
                rows,
                {"max.message.bytes": _MIB, "min.compaction.lag.ms": int(1000 * COMPACTION_LAG_S)},
                _COMPACT_SOON,
            )
            for table in TABLES
        ),
    ]


def partition_of(room: str, count: int) -> int:
    """The partition that holds all of a room's commands and events: what Kafka's own clients choose for its key."""
    return _hash(room) % count


@lru_cache(maxsize=ROOMS_CACHED)
def _hash(room: str) -> int:
    return int(murmur2(room.encode())) & 0x7FFFFFFF


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; returns their names. Harmless to repeat.

    Raises:
        SettingsError: a topic that exists is not what it has to be.
        Unavailable: Kafka does not answer.
    """
    async with admin_client(settings) as admin:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics(settings) if topic.name not in existing]
        if missing:
            await _create(admin, settings, missing)
            await _until_known(admin, {topic.name for topic in missing})
        await _check(admin, settings)
    return [topic.name for topic in missing]


async def check_topics(settings: Settings) -> None:
    """Return when every topic exists and is what it has to be.

    Raises:
        SettingsError: one line that names the first topic that is not, and what to do.
        Unavailable: Kafka does not answer.
    """
    async with admin_client(settings) as admin:
        await _check(admin, settings)


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[Any]:
    """A connected admin client of Kafka. What fails in the body of the `with` is `Unavailable` for the caller, too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_servers)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {','.join(settings.kafka_servers)} does not answer: {error!r}") from error
    finally:
        await admin.close()


async def _create(admin: Any, settings: Settings, missing: list[Topic]) -> None:
    response = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                settings.partitions,
                settings.replication,
                topic_configs={
                    **topic.tuning,
                    **topic.exact,
                    **{name: str(value) for name, value in topic.least.items()},
                },
            )
            for topic in missing
        ]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        # Two workers may create at the same time: the check that follows decides whether both meant the same.
        if code != 0 and error.__name__ != "TopicAlreadyExistsError":
            raise SettingsError(f"topic {name} cannot be created: {error.__name__} {' '.join(filter(None, message))}")


async def _until_known(admin: Any, names: set[str]) -> None:
    # A broker answers before its metadata has the new topics.
    for _ in range(100):
        described = {t["topic"]: t for t in await admin.describe_topics()}
        if all(name in described and all(p["leader"] >= 0 for p in described[name]["partitions"]) for name in names):
            return
        await asyncio.sleep(0.1)
    raise Unavailable(f"Kafka created {len(names)} topics but does not show them after 10 s")


async def _check(admin: Any, settings: Settings) -> None:
    described = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics()}
    wanted = topics(settings)
    for topic in wanted:
        count = described.get(topic.name)
        if count is None:
            raise SettingsError(f"topic {topic.name} is missing: run `faust -A app topics`")
        if count != settings.partitions:
            raise SettingsError(
                f"topic {topic.name} has {count} partitions, ROOMLOG_PARTITIONS is {settings.partitions}: "
                "the count is fixed when the topics are created, set ROOMLOG_PARTITIONS to it"
            )
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t.name) for t in wanted])
    configs = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
    for topic in wanted:
        config = configs.get(topic.name, {})
        for name, value in topic.exact.items():
            if config.get(name) != value:
                raise SettingsError(_disagrees(topic, name, config.get(name), value))
        for name, least in topic.least.items():
            if _unbounded(int(config.get(name) or 0)) < _unbounded(least):
                raise SettingsError(_disagrees(topic, name, config.get(name), f"at least {least}"))


def _unbounded(value: int) -> float:
    return float("inf") if value == -1 else value


def _disagrees(topic: Topic, name: str, found: str | None, wanted: str) -> str:
    return f"topic {topic.name} has {name}={found}, it must be {wanted}: change it with kafka-configs.sh --alter"
