from __future__ import annotations

import dataclasses

from aiokafka.partitioner import DefaultPartitioner

from chat.log.following import COMPACTION_LAG_S
from chat.log.topics import TABLES, changelog, partition_of, record_bytes_max, topics
from chat.settings import Settings


def test_a_room_lives_where_kafkas_own_clients_put_its_key() -> None:
    partitions = list(range(16))
    for n in range(200):
        room = f"room-{n}.~:@+é" if n % 2 else f"{n}"
        assert partition_of(room, 16) == DefaultPartitioner()(room.encode(), partitions, partitions)


def test_events_are_kept_for_ever_and_no_log_is_compacted() -> None:
    by_name = {topic.name: topic for topic in topics(Settings(namespace="n"))}
    assert by_name["n.room.events"].least["retention.ms"] == -1
    for name in ("n.room.commands", "n.room.events", "n.room.dead_letters"):
        assert by_name[name].exact["cleanup.policy"] == "delete"
        assert by_name[name].exact["message.timestamp.type"] == "LogAppendTime"


def test_changelogs_keep_what_a_recovery_may_have_to_read() -> None:
    by_name = {topic.name: topic for topic in topics(Settings(namespace="n"))}
    for table in TABLES:
        topic = by_name[f"n.{changelog(table)}"]
        assert topic.exact["cleanup.policy"] == "compact"
        assert topic.least["min.compaction.lag.ms"] == 1000 * COMPACTION_LAG_S, "what `follow_compacted` counts with"
        assert int(topic.tuning["segment.ms"]) <= 60_000, "a recovery reads every segment that is not closed yet"


def test_the_largest_record_fits_its_topic() -> None:
    for body in (1024, 49_152, 524_288):
        settings = dataclasses.replace(Settings(), body_bytes_max=body)
        for topic in topics(settings)[:2]:
            assert topic.least["max.message.bytes"] > record_bytes_max(settings) > 6 * body
