"""The projector on real engines: Redis is whole, and whole again after it lost everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from chat.errors import Unavailable
from chat.records import Event
from chat.settings import Settings
from chat.stores.redis import Directory, Projection, RecentTail
from tests.engines import Workers, eventually
from tests.eventlog import EventLog, join, leave, post
from tests.forwarder import Forwarder

pytestmark = pytest.mark.timeout(300)

DEADLINE_S = 90.0
WHOLE_AGAIN_S = 5.0
"""What is promised after a FLUSHALL."""


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[tuple[Directory, RecentTail]]:
    directory, tail = Directory(settings), RecentTail(settings)
    try:
        yield directory, tail
    finally:
        await asyncio.gather(directory.stop(), tail.stop())


async def listed(directory: Directory) -> dict[str, tuple[int, int, int, int]] | None:
    """Every room with seq, msg_no, members and time; None while the list is not whole."""
    rooms: dict[str, tuple[int, int, int, int]] = {}
    cursor: str | None = None
    while True:
        try:
            page, cursor = await directory.list_rooms(50, cursor)
        except Unavailable:
            return None
        rooms |= {info.room: (info.seq, info.msg_no, info.members, info.at) for info in page}
        if cursor is None:
            return rooms


def expected(events: list[Event]) -> dict[str, tuple[int, int, int, int]]:
    return {event.room: (event.seq, event.msg_no, event.members, event.at) for event in events}


async def until_listed(settings: Settings, events: list[Event], within_s: float = DEADLINE_S) -> None:
    wanted = expected(events)
    async with reading(settings) as (directory, _):

        async def complete() -> bool:
            return await listed(directory) == wanted

        await eventually(complete, "Redis lists every room at its last event", within_s)


async def forget_everything(settings: Settings) -> None:
    """What FLUSHALL does, to this namespace only: other tests use the same Redis."""
    host, port = settings.redis_address
    client = redis.asyncio.Redis(host=host, port=port)
    try:
        keys = [key async for key in client.scan_iter(f"{settings.namespace}:*", count=1000)]
        # One command, so that the projector sees all of it or nothing, as with FLUSHALL.
        assert await client.delete(*keys)
    finally:
        await client.aclose()


def posts(count: int, rooms: int, *, start: int = 0) -> list[object]:
    return [post(f"room{n % rooms}", body=f"message {n}") for n in range(start, start + count)]


async def test_the_list_and_the_tails_follow_the_log(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        events = await log.commands(posts(300, 30))
        await worker("projector")
        events += await log.commands([join("room0", "bob"), leave("room0", "bob"), join("room1", "eve")])
        await until_listed(settings, events)
        async with reading(settings) as (directory, tail):
            of_room = [event for event in events if event.room == "room1"]
            assert await tail.read_events("room1", 1, 100) == of_room
            info = await directory.get_room("room1")
            assert info is not None
            assert (info.members, info.owner, info.seq) == (2, "alice", len(of_room))


async def test_after_redis_lost_everything_the_list_is_whole_again_within_its_promise(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker.together("archiver", "projector")
    async with EventLog(settings) as log:
        events = await log.commands(posts(2_000, 200))
        await until_listed(settings, events)
        for n in range(3):
            writing = asyncio.create_task(log.commands(posts(500, 220, start=2_000 + 500 * n)))
            await forget_everything(settings)
            events += await writing
            await until_listed(settings, events, WHOLE_AGAIN_S)


async def test_rooms_that_cassandra_does_not_have_yet_come_from_the_log(worker: Workers) -> None:
    settings = worker.namespace.settings()
    archiver, projector = await worker.together("archiver", "projector")
    async with EventLog(settings) as log:
        events = await log.commands(posts(200, 20))
        await until_listed(settings, events)
        assert await archiver.sigterm() == 0
        events += await log.commands(posts(300, 30, start=200))
        await until_listed(settings, events)
        await forget_everything(settings)
        await until_listed(settings, events)
        assert "directory_rebuilt" in projector.log()


async def test_killed_while_it_rebuilds_it_begins_again(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("archiver")
    dying = await worker("projector", start=False, failpoint="projector-mid-rebuild")
    async with EventLog(settings) as log:
        events = await log.commands(posts(400, 40))
        dying.spawn()
        await eventually(lambda: not dying.alive, "the failpoint ends it", DEADLINE_S)
        async with reading(settings) as (directory, _):
            assert await listed(directory) is None, "half a list is shown"
        await worker("projector")
        await until_listed(settings, events)


async def test_killed_again_and_again_it_ends_at_the_last_event_of_every_room(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("archiver")
    projector = await worker("projector")
    events: list[Event] = []
    async with EventLog(settings) as log:
        for n in range(3):
            events += await log.commands(posts(600, 30, start=600 * n))
            await projector.restart()
        await until_listed(settings, events)
        async with reading(settings) as (_, tail):
            of_room = [event for event in events if event.room == "room7"]
            assert await tail.read_events("room7", len(of_room) - 4, 10) in (of_room[-5:], [])


async def test_while_redis_is_away_it_waits_and_then_catches_up(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with Forwarder(settings.redis) as forwarder, EventLog(settings) as log:
        projector = await worker("projector", redis=forwarder.address)
        events = await log.commands(posts(100, 10))
        await until_listed(settings, events)
        await forwarder.off()
        events += await log.commands(posts(1_000, 10, start=100))
        await eventually(lambda: not projector.is_ready(), "it says that Redis is away", DEADLINE_S)
        await forwarder.on()
        await until_listed(settings, events)
        await eventually(projector.is_ready, "it is ready again", DEADLINE_S)


async def test_while_cassandra_is_away_the_list_goes_on_and_a_rebuild_waits(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with Forwarder(settings.cassandra) as forwarder, EventLog(settings) as log:
        await worker("archiver")
        await worker("projector", cassandra=forwarder.address)
        events = await log.commands(posts(200, 20))
        await until_listed(settings, events)
        await forwarder.off()
        events += await log.commands(posts(200, 25, start=200))
        await until_listed(settings, events)
        await forget_everything(settings)
        projection = Projection(settings)
        try:

            async def rebuilding() -> bool:
                return await projection.whole() == set()

            await eventually(rebuilding, "nothing is called whole")
            await forwarder.on()
            await until_listed(settings, events)
        finally:
            await projection.stop()


async def test_two_share_the_partitions_and_the_list_stays_whole(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("archiver")
    first, second = await worker.together("projector", "projector")
    async with EventLog(settings) as log:
        events = await log.commands(posts(300, 60))
        await until_listed(settings, events)
        await forget_everything(settings)
        await until_listed(settings, events)
        first.kill9()
        events += await log.commands(posts(300, 60, start=300))
        await until_listed(settings, events)
        assert await second.sigterm() == 0
