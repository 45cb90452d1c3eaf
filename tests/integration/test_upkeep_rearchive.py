"""The log written into Cassandra again, on real engines."""

from __future__ import annotations

import asyncio
import time

import pytest

from chat.log.positions import commit
from chat.records import Event
from chat.settings import Settings
from tests.engines import Namespace, Workers
from tests.eventlog import EventLog, join, post
from tests.integration.test_archiver_keeps_everything import archived, holds_exactly, posts
from tests.integration.test_operations_commands import faust
from tests.integration.test_upkeep_tables import execute
from tests.integration.test_upkeep_trim import cut_by_hand, posted

pytestmark = pytest.mark.timeout(300)


async def rearchived(namespace: Namespace, *arguments: str, **changed: object) -> str:
    done = await asyncio.to_thread(faust, namespace, "re-archive", *arguments, **changed)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def by_hand(settings: Settings, *statements: str) -> None:
    for statement in statements:
        await asyncio.to_thread(execute, settings, statement)


@pytest.fixture
def prepared(topics: Namespace) -> Namespace:
    topics.make_keyspace()
    return topics


async def test_what_cassandra_lost_is_written_again_and_a_kill_in_the_middle_does_no_harm(prepared: Namespace) -> None:
    settings = prepared.settings()
    async with EventLog(settings) as log:
        events = await log.commands([*posts(600, 12), join("room3", "bob")])
        said = await rearchived(prepared, "--from-start")
        assert sum(int(line.split()[2]) for line in said.splitlines()) == len(events)
        await holds_exactly(settings, events)
        await by_hand(settings, *(f"TRUNCATE {table}" for table in ("room_log", "rooms", "room_members", "user_rooms")))
        killed = await asyncio.to_thread(faust, prepared, "re-archive", failpoint="rearchive-mid-batch")
        assert killed.returncode == -9
        await rearchived(prepared)
        await holds_exactly(settings, events)
    async with archived(settings) as history:
        assert {m.user: m.role for m in await history.members("room3")} == {"alice": "owner", "bob": "member"}


async def test_one_partition_is_written_alone(prepared: Namespace) -> None:
    settings = prepared.settings()
    async with EventLog(settings) as log:
        events = await log.commands(posts(100, 12))
        partition = log.partition("room0")
        said = await rearchived(prepared, "--partition", str(partition))
        assert said.count("\n") == 1
        await holds_exactly(settings, [event for event in events if log.partition(event.room) == partition])
        async with archived(settings) as history:
            assert {log.partition(info.room) for info in await history.list_rooms(100)} == {partition}


async def test_what_was_written_over_comes_back_only_on_purpose_and_later_events_still_win(worker: Workers) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    namespace.make_keyspace()
    async with EventLog(settings) as log:
        log.at = int((time.time() - 3600) * 1_000_000)
        events: list[Event] = await log.commands([*posts(40, 2), join("room0", "bob")])
        await rearchived(namespace)
        await by_hand(
            settings,
            "UPDATE room_log SET event = 0x7b7d WHERE room = 'room0' AND bucket = 0 AND seq = 3",
            "DELETE FROM room_log WHERE room = 'room0' AND bucket = 0 AND seq = 5",
            "UPDATE rooms SET msg_no = 1, members = 77 WHERE room = 'room0'",
            "UPDATE room_members SET role = 'owner' WHERE room = 'room0' AND user = 'bob'",
        )
        await rearchived(namespace)
        async with archived(settings) as history:
            assert len(await history.read_events("room0", 1, 100)) == 2
        await rearchived(namespace, "--overwrite")
        await holds_exactly(settings, events)
        async with archived(settings) as history:
            assert {m.user: m.role for m in await history.members("room0")} == {"alice": "owner", "bob": "member"}
        # What happens from now on is later than all that was written.
        log.at = int(time.time() * 1_000_000)
        await worker("archiver")
        events += await log.commands([post("room0", body="later"), post("room1", body="later")])
        await holds_exactly(settings, events)


async def test_a_trimmed_log_is_written_from_its_base_on_and_not_taken_for_a_whole_one(prepared: Namespace) -> None:
    settings = prepared.settings()
    async with EventLog(settings) as log:
        position = await posted(log, 20)
        await posted(log, 5)
        await commit(settings, "archiver", {log.partition("r"): position})
        await cut_by_hand(settings, log.partition("r"), position, with_base=True)
        refused = await asyncio.to_thread(faust, prepared, "re-archive", "--from-start")
        assert refused.returncode == 1
        assert "it was trimmed, and what is gone stands in Cassandra or in a backup only" in refused.stderr
        await rearchived(prepared)
        async with archived(settings) as history:
            assert [event.seq for event in await history.read_events("r", 21, 100)] == [21, 22, 23, 24, 25]
