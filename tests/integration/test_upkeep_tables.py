"""The sequencer's tables made again from Cassandra and the log, on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from chat.log.bases import Base, read_bases
from chat.log.taking import START, Take, Taker
from chat.log.topics import TABLES, changelog, create_topics
from chat.log.walking import extents
from chat.records import Event, JoinRoom, LeaveRoom, Verdict, decode_event, decode_verdict, encode
from chat.rooms.chain import verify
from chat.settings import Settings
from chat.stores.cassandra.session import open_cluster
from tests.engines import Namespace, Workers, eventually
from tests.integration.sequencing import Load, Log, until
from tests.integration.test_archiver_keeps_everything import archived, holds_exactly
from tests.integration.test_operations_commands import faust
from tests.integration.test_upkeep_trim import checkpointed, everywhere, read_by_all, trimmed

pytestmark = pytest.mark.timeout(300)

ROOMS = 6


async def without_changelogs(settings: Settings, tables: Sequence[str] = TABLES) -> None:
    """The changelogs are gone, and made anew."""
    names = [settings.topic(changelog(table)) for table in tables]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_servers)
    await admin.start()
    try:
        await admin.delete_topics(names)

        async def gone() -> bool:
            return not set(names) & set(await admin.list_topics())

        await eventually(gone, "the changelogs are deleted")
    finally:
        await admin.close()
    await create_topics(settings)


async def command(log: Log, value: Any) -> None:
    await log.append(log.commands, log.partition(value.room), encode(value), key=value.room.encode())


async def lived_in(worker: Workers, log: Log) -> dict[str, list[Event]]:
    """A namespace in which something happened: everything archived, snapshotted, and read by all. Nobody runs."""
    archiver, sequencer = await worker.together("archiver", "sequencer")
    async with Load(log, least=300, rate_s=1000, rooms=ROOMS):
        pass
    for user in ("joe", "jim"):
        await command(log, JoinRoom(v=1, room="room-1", sender=user))
    await command(log, LeaveRoom(v=1, room="room-1", sender="jim"))
    taken = await log.answered()
    await checkpointed(log)
    await holds_exactly(log.settings, taken.events())
    await archiver.sigterm()
    await sequencer.sigterm()
    await read_by_all(log.settings, await everywhere(log))
    return taken.rooms()


async def rebuilt(namespace: Namespace, *arguments: str, **changed: object) -> str:
    done = await asyncio.to_thread(faust, namespace, "rebuild-tables", *arguments, **changed)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def goes_on(log: Log, before: dict[str, list[Event]]) -> None:
    """Numbers, chains, client ids and members are what they were; what is asked is answered from there on."""
    starts = {p: extent.end for p, extent in (await extents(log.settings, log.events)).items()}
    asked: dict[int, int] = dict.fromkeys(starts, 0)
    for room in before:
        await log.post(room, "going on", sender="user-0")
        asked[log.partition(room)] += 1
    repeated = next(event for event in before["room-2"] if event.client_id is not None)
    await log.post("room-2", "again", sender=repeated.sender, client_id=repeated.client_id)
    await command(log, JoinRoom(v=1, room="room-1", sender="joe"))
    await command(log, LeaveRoom(v=1, room="room-1", sender="jim"))
    for room in ("room-2", "room-1", "room-1"):
        asked[log.partition(room)] += 1
    answers: dict[int, list[Event | Verdict]] = {}

    async def all_answered() -> bool:
        for partition, records in (await log.read(log.events)).items():
            answers[partition] = [
                decode_verdict(r.value) if dict(r.headers)["kind"] == b"verdict" else decode_event(r.value)
                for r in records
                if r.offset >= starts[partition] and dict(r.headers)["kind"] != b"writer"
            ]
        # A minute may end meanwhile: ticks are answered, too.
        said = {p: [a for a in found if getattr(a, "outcome", "") != "tick"] for p, found in answers.items()}
        answers.update(said)
        return all(len(answers[p]) >= count for p, count in asked.items())

    await until(all_answered, "every command is answered")
    said = [answer for found in answers.values() for answer in found]
    new = {event.room: event for event in said if isinstance(event, Event)}
    assert new.keys() == before.keys()
    for room, event in new.items():
        last = before[room][-1]
        assert (event.seq, event.epoch, event.msg_no) == (last.seq + 1, last.epoch, last.msg_no + 1)
        assert event.members == last.members
        assert verify(last.chain, event)
    verdicts = [answer for answer in said if isinstance(answer, Verdict)]
    assert sorted((v.outcome, v.room, v.seq) for v in verdicts if v.outcome == "duplicate") == [
        ("duplicate", "room-2", repeated.seq)
    ]
    assert [v.room for v in verdicts if v.outcome == "unchanged"] == ["room-1", "room-1"]


async def test_with_changelogs_gone_and_the_log_trimmed_the_tables_come_back_from_cassandra(worker: Workers) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        before = await lived_in(worker, log)
        await trimmed(namespace, "--keep-days", "0")
        await without_changelogs(settings)
        sequencer = worker.all[1]
        sequencer.spawn()
        await until(lambda: "partition_stopped" in sequencer.log(), "it stands still")
        assert "run `faust -A app rebuild-tables --partition" in sequencer.log()
        # Beside a sequencer that stands still it may run: it needs no new numbers, it takes none.
        said = await rebuilt(namespace)
        assert "checkpoint at" in said
        await sequencer.restart()
        await goes_on(log, before)


async def test_it_goes_on_where_cassandra_is_further_than_the_base_and_the_log_further_still(worker: Workers) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        rooms = await lived_in(worker, log)
        await trimmed(namespace, "--keep-days", "0")
        bases = await read_bases(settings)
        archiver, sequencer = worker.all
        await asyncio.gather(archiver.start(), sequencer.start())
        for n in range(3 * ROOMS):
            await log.post(f"room-{n % ROOMS}", f"more {n}", sender="user-1", client_id=f"more-{n}")
        await until(lambda: after(log, bases, 3 * ROOMS), "these are answered")
        await holds_exactly_from(settings, await after(log, bases, 3 * ROOMS))
        assert await archiver.sigterm() == 0
        for n in range(3 * ROOMS):
            await log.post(f"room-{n % ROOMS}", f"late {n}", sender="user-1", client_id=f"late-{n}")
        await until(lambda: after(log, bases, 6 * ROOMS), "these, too")
        for event in await after(log, bases, 6 * ROOMS):
            rooms[event.room].append(event)
        sequencer.kill9()
        await without_changelogs(settings)
        await rebuilt(namespace)
        await sequencer.start()
        await goes_on(log, rooms)


async def after(log: Log, bases: dict[int, Base], count: int) -> list[Event]:
    """Events that a reader takes after the bases, once there are so many; none before."""
    events = []
    for partition, records in (await log.read(log.events)).items():
        taker = Taker(bases[partition].position if partition in bases else START)
        events += [decode_event(r.value) for r in records if taker.take(r.offset, r.headers) is Take.EVENT]
    return events if len(events) >= count else []


async def holds_exactly_from(settings: Settings, events: list[Event]) -> None:
    """Cassandra holds `events`."""
    last = {event.room: event for event in events}
    async with archived(settings) as history:

        async def there() -> bool:
            return all([await history.read_events(e.room, e.seq, 1) == [e] for e in last.values()])

        await eventually(there, "they are archived")


@pytest.mark.parametrize("failpoint", ["rebuild-after-fence", "rebuild-mid-rows:2", "rebuild-before-checkpoint"])
async def test_killed_in_the_middle_it_changes_nothing_and_is_repeated(worker: Workers, failpoint: str) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        before = await lived_in(worker, log)
        await trimmed(namespace, "--keep-days", "0")
        await without_changelogs(settings)
        partition = str(log.partition("room-1"))
        killed = await asyncio.to_thread(
            faust, namespace, "rebuild-tables", "--partition", partition, failpoint=failpoint
        )
        assert killed.returncode == -9
        sequencer = worker.all[1]
        sequencer.spawn()
        await until(lambda: f"partition {partition} stands still" in sequencer.log(), "it stands still as before")
        await rebuilt(namespace)
        await sequencer.restart()
        await goes_on(log, before)


async def test_on_a_whole_log_it_comes_to_what_the_log_says(worker: Workers) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        before = await lived_in(worker, log)
        await without_changelogs(settings)
        await rebuilt(namespace)
        sequencer = worker.all[1]
        await sequencer.start()
        await goes_on(log, before)
        taken = await log.answered()
        await log.check(taken)


@pytest.mark.parametrize("table", TABLES[:-1])
async def test_a_changelog_that_was_lost_alone_is_noticed_before_a_number_is_given_twice(
    worker: Workers, table: str
) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        before = await lived_in(worker, log)
        await without_changelogs(settings, [table])
        sequencer = worker.all[1]
        sequencer.spawn()
        await until(lambda: "partition_stopped" in sequencer.log(), "it stands still")
        assert "vouches for; run `faust -A app rebuild-tables --partition" in sequencer.log()
        await rebuilt(namespace)
        await sequencer.restart()
        await goes_on(log, before)


async def test_while_a_healthy_sequencer_runs_it_is_refused(worker: Workers) -> None:
    await worker("sequencer")
    worker.namespace.make_keyspace()
    refused = await asyncio.to_thread(faust, worker.namespace, "rebuild-tables")
    assert refused.returncode == 1
    assert refused.stderr.startswith("roomlog: 1 sequencer(s) are running and have the tables they need")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM room_log WHERE room = 'room-1' AND bucket = 0 AND seq = 5", "its events end at 4"),
        ("DELETE FROM room_log WHERE room = 'room-1' AND bucket = 0", "its events end at 0"),
        ("UPDATE room_log SET event = 0x7b7d WHERE room = 'room-1' AND bucket = 0 AND seq = 5", "seq 5: "),
    ],
)
async def test_an_archive_with_a_hole_is_reported_and_nothing_is_written(
    worker: Workers, statement: str, words: str
) -> None:
    namespace, settings = worker.namespace, worker.namespace.settings()
    async with Log(settings) as log:
        await lived_in(worker, log)
        await trimmed(namespace, "--keep-days", "0")
        await without_changelogs(settings)
        await asyncio.to_thread(execute, settings, statement)
        partition = log.partition("room-1")
        refused = await asyncio.to_thread(faust, namespace, "rebuild-tables", "--partition", str(partition))
        assert refused.returncode == 1
        assert "room-1" in refused.stderr
        assert words in refused.stderr
        assert refused.stderr.count("roomlog: ") == 1
        assert not any((await log.rows("rooms")).values())


def execute(settings: Settings, statement: str) -> None:
    """One statement, by hand."""
    cluster = open_cluster(settings)
    try:
        session = cluster.connect()
        session.set_keyspace(settings.keyspace)
        session.execute(statement)
    finally:
        cluster.shutdown()
