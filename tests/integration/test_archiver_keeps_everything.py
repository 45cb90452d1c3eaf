"""The archiver on real engines: Cassandra holds exactly what a reader takes, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agents.dead_letters import parked
from chat.errors import Code
from chat.log.positions import committed
from chat.log.producer import Record
from chat.log.scan import LogScan, scan_room
from chat.log.taking import START
from chat.records import Event, encode, record_headers
from chat.settings import Settings
from chat.stores.cassandra.history import PAGE_MAX, HistoryStore
from chat.stores.cassandra.session import open_cluster
from tests.engines import Worker, Workers, eventually
from tests.eventlog import EventLog, join, leave, post
from tests.forwarder import Forwarder

pytestmark = pytest.mark.timeout(300)

DEADLINE_S = 90.0


@asynccontextmanager
async def archived(settings: Settings) -> AsyncIterator[HistoryStore]:
    history = HistoryStore.open(settings)
    try:
        yield history
    finally:
        await history.stop()


async def whole_room(history: HistoryStore, room: str) -> list[Event]:
    events: list[Event] = []
    while page := await history.read_events(room, len(events) + 1, PAGE_MAX):
        events += page
    return events


async def holds_exactly(settings: Settings, events: list[Event]) -> None:
    """Wait until Cassandra holds exactly the events of each room, and the room's row says so.

    Several writes are in flight at once: a later row may be there before an earlier one and before the room's.
    """
    rooms: dict[str, list[Event]] = {}
    for event in events:
        rooms.setdefault(event.room, []).append(event)
    async with archived(settings) as history:
        for room, expected in rooms.items():
            last = expected[-1]

            async def complete(room: str = room, expected: list[Event] = expected, last: Event = last) -> bool:
                if not await history.read_events(room, last.seq, 1):
                    return False
                info = await history.get_room(room)
                return (
                    info is not None
                    and (info.seq, info.msg_no, info.members) == (last.seq, last.msg_no, last.members)
                    and await whole_room(history, room) == expected
                )

            await eventually(complete, f"{room} is archived to its end, and nothing else", DEADLINE_S)


def posts(count: int, rooms: int, *, start: int = 0) -> list[object]:
    return [post(f"room{n % rooms}", body=f"message {n}") for n in range(start, start + count)]


async def test_every_event_is_archived_once_with_its_views(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        events = await log.commands(posts(500, 20))
        await worker("archiver")
        events += await log.commands([join("room0", "bob"), join("room0", "eve"), leave("room0", "bob")])
        await holds_exactly(settings, events)
    async with archived(settings) as history:

        async def roles() -> bool:
            found = {m.user: m.role for m in await history.members("room0")}
            return found == {"alice": "owner", "bob": "none", "eve": "member"}

        await eventually(roles, "the members of room0")
        assert [(m.room, m.role) for m in await history.rooms_of("eve")] == [("room0", "member")]
        assert {info.room for info in await history.list_rooms(100)} == {f"room{n}" for n in range(20)}


@pytest.mark.parametrize("failpoint", ["archiver-mid-batch", "archiver-before-commit"])
async def test_killed_in_the_middle_it_leaves_exactly_the_rows(worker: Workers, failpoint: str) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        events = await log.commands(posts(2_000, 10))
        dying = await worker("archiver", start=False, failpoint=failpoint)
        dying.spawn()
        await eventually(lambda: not dying.alive, "the failpoint ends it", DEADLINE_S)
        events += await log.commands(posts(500, 10, start=2_000))
        await worker("archiver")
        await holds_exactly(settings, events)


async def test_killed_again_and_again_under_load_it_loses_and_doubles_nothing(worker: Workers) -> None:
    settings = worker.namespace.settings()
    archiver = await worker("archiver")
    events: list[Event] = []
    async with EventLog(settings) as log:
        for n in range(4):
            events += await log.commands(posts(1_000, 25, start=n * 1_000))
            await archiver.restart()
        events += await log.commands(posts(100, 25, start=4_000))
        await holds_exactly(settings, events)


async def test_two_share_the_partitions_and_one_takes_over_when_the_other_dies(worker: Workers) -> None:
    settings = worker.namespace.settings()
    first, second = await worker.together("archiver", "archiver")
    events: list[Event] = []
    async with EventLog(settings) as log:
        events += await log.commands(posts(500, 40))
        await holds_exactly(settings, events)
        first.kill9()
        events += await log.commands(posts(500, 40, start=500))
        await holds_exactly(settings, events)
        await first.start()
        await second.sigterm()
        events += await log.commands(posts(500, 40, start=1_000))
        await holds_exactly(settings, events)


async def test_while_cassandra_is_away_it_waits_and_then_catches_up(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with Forwarder(settings.cassandra) as forwarder, EventLog(settings) as log:
        archiver = await worker("archiver", cassandra=forwarder.address)
        events = await log.commands(posts(200, 10))
        await holds_exactly(settings, events)
        await forwarder.off()
        for n in range(5):
            events += await log.commands(posts(2_000, 10, start=200 + 2_000 * n))
        await eventually(lambda: "store_away" in archiver.log(), "it says that Cassandra is away", DEADLINE_S)
        assert not archiver.is_ready()
        # What is not archived is there for those who ask the log itself.
        behind = await scan_room(settings, "room3", 21, 50, START)
        assert behind == [event for event in events if event.room == "room3"][20:70]
        scan = LogScan(settings)
        assert await scan.read_events("room3", 25, 10) == behind[4:14]
        await forwarder.on()
        await holds_exactly(settings, events)
        await eventually(archiver.is_ready, "it is ready again")


async def test_what_cassandra_forgot_when_it_died_is_written_again_though_nothing_new_comes(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with Forwarder(settings.cassandra) as forwarder, EventLog(settings) as log:
        archiver = await worker("archiver", cassandra=forwarder.address)
        events = await log.commands(posts(200, 10))
        await holds_exactly(settings, events)
        # A node that dies has answered what its commit log does not have yet.
        await forwarder.off()
        await asyncio.to_thread(forget, settings, "room_log")
        await eventually(lambda: "store_gone" in archiver.log(), "it sees that Cassandra is away", DEADLINE_S)
        await forwarder.on()
        await holds_exactly(settings, events)


def forget(settings: Settings, table: str) -> None:
    cluster = open_cluster(settings, request_timeout_s=30.0)
    try:
        cluster.connect(settings.keyspace).execute(f"TRUNCATE {table}")
    finally:
        cluster.shutdown()


async def test_started_without_cassandra_it_waits_for_it(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with Forwarder(settings.cassandra) as forwarder, EventLog(settings) as log:
        await forwarder.off()
        archiver = await worker("archiver", start=False, cassandra=forwarder.address)
        archiver.spawn()
        events = await log.commands(posts(300, 10))
        await eventually(lambda: "cassandra_away" in archiver.log(), "it says what it waits for", DEADLINE_S)
        await forwarder.on()
        await holds_exactly(settings, events)


async def test_a_put_out_writers_records_and_repeats_are_not_archived(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        events = await log.commands([post("r", body=f"{n}") for n in range(10)])
        partition = log.partition("r")
        old_term, src = log.terms[partition], log.srcs[partition]
        await log.fence(partition)
        zombie = Event(
            v=1,
            room="r",
            seq=11,
            epoch=events[0].epoch,
            kind="message",
            at=1,
            sender="zombie",
            msg_no=11,
            members=1,
            chain="z",
        )
        await log.raw(
            partition,
            Record(b"r", encode(zombie), record_headers(src + 1, old_term, "message")),
            Record(b"r", encode(zombie), record_headers(src, log.terms[partition], "message")),
        )
        events += await log.commands([post("r", body=f"{n}") for n in range(10, 20)])
        await worker("archiver")
        await holds_exactly(settings, events)


async def test_what_no_code_of_ours_wrote_is_parked_once_and_the_partition_goes_on(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        events = await log.commands([post("r")])
        partition = log.partition("r")
        term = log.terms[partition]

        def forged(value: bytes | None, key: bytes | None = b"r") -> Record:
            log.srcs[partition] += 1
            return Record(key, value, record_headers(log.srcs[partition], term, "message"))

        head = events[0]
        impossible = Event(
            v=1,
            room="r",
            seq=2**62,
            epoch=head.epoch,
            kind="message",
            at=head.at,
            sender="a",
            msg_no=1,
            members=1,
            chain="",
        )
        strange = [
            Record(None, None, []),
            Record(b"\xff", b"not ours", [("src", b"x"), ("term", b"y"), ("kind", b"z")]),
            forged(b"{"),
            forged(None),
            forged(b"\xff\xfe"),
            forged(encode(head), key=b"another room"),
            forged(encode(impossible)),
        ]
        await log.raw(partition, *strange)
        events += await log.commands([post("r", body="after")])
        archiver = await worker("archiver")
        await holds_exactly(settings, events)

        async def all_parked() -> bool:
            return (await parked(settings, 100))[1] == len(strange)

        await eventually(all_parked, "all are parked")

        async def all_committed() -> bool:
            checkpoint = (await committed(settings, "archiver")).get(partition)
            return checkpoint is not None and checkpoint.newest.src == log.srcs[partition]

        await eventually(all_committed, "its position is committed")
        await archiver.restart()  # it writes the last minute again, and parks nothing again
        events += await log.commands([post("r", body="and after")])
        await holds_exactly(settings, events)
    found, count = await parked(settings, 100)
    assert count == len(strange)
    assert {one.letter.partition for one in found} == {partition}
    assert [one.letter.code for one in sorted(found, key=lambda one: one.letter.offset)] == [
        *[Code.UNDECODABLE] * 5,
        *[Code.IMPOSSIBLE] * 2,
    ]
    assert archiver.log().count("record_parked") == len(strange)


async def test_a_hole_in_the_log_stops_it_with_one_line(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        await log.commands([post("r")])
        log.srcs[log.partition("r")] += 1
        await log.commands([post("r")])
        archiver = await worker("archiver", start=False)
        archiver.spawn()
        assert await ended(archiver) == 70
        assert "command 2 follows 0" in archiver.log()


async def ended(worker: Worker) -> int:
    process = worker._process
    assert process is not None
    return await asyncio.to_thread(process.wait, DEADLINE_S)


async def test_what_it_commits_is_where_it_is_and_a_stop_commits_all(worker: Workers) -> None:
    settings = worker.namespace.settings()
    archiver = await worker("archiver")
    async with EventLog(settings) as log:
        events = await log.commands(posts(300, 12))
        await holds_exactly(settings, events)
        assert await archiver.sigterm() == 0
        checkpoints = await committed(settings, "archiver")
        assert sum(checkpoint.newest.src + 1 for checkpoint in checkpoints.values()) == len(events)
        assert {p: checkpoint.newest.term for p, checkpoint in checkpoints.items()} == log.terms
