"""A backup of a running namespace, brought back into another one, on real engines."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.upkeeping.files import MANIFEST, paths, read_ends, read_manifest, read_values
from agents.upkeeping.restore import RENUMBER_GAP
from chat.records import Event, decode_event, encode
from chat.rooms.chain import genesis, verify
from tests.engines import Engines, Namespace, Workers, eventually
from tests.eventlog import EventLog, join
from tests.integration.sequencing import Log, until
from tests.integration.test_archiver_keeps_everything import archived, holds_exactly, posts, whole_room
from tests.integration.test_operations_commands import faust
from tests.integration.test_upkeep_tables import goes_on, lived_in
from tests.integration.test_upkeep_trim import trimmed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def elsewhere(engines: Engines, namespace: Namespace, tmp_path: Path) -> Iterator[Namespace]:
    """Another namespace, empty."""
    made = Namespace(engines, f"{namespace.name}-b", tmp_path / "elsewhere")
    yield made
    made.make_keyspace()  # so that it is known, and dropped
    made.drop()


async def done_by(namespace: Namespace, *arguments: str, **changed: object) -> str:
    done = await asyncio.to_thread(faust, namespace, *arguments, **changed)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def archived_log(namespace: Namespace, log: EventLog) -> list[Event]:
    """Some rooms, all of them in Cassandra."""
    events = await log.commands([*posts(200, 8), join("room3", "bob")])
    await done_by(namespace, "re-archive")
    await holds_exactly(namespace.settings(), events)
    return events


async def test_a_restored_namespace_goes_on_where_the_backup_ended(
    worker: Workers, elsewhere: Namespace, tmp_path: Path
) -> None:
    namespace, folder = worker.namespace, str(tmp_path / "backup")
    async with Log(namespace.settings()) as log:
        rooms = await lived_in(worker, log)
        await trimmed(namespace, "--keep-days", "0")
        sequencer = worker.all[1]
        await sequencer.start()
        ends = await log.ends(log.events)
        for room in rooms:  # nobody archives these: they are in the log only
            await log.post(room, "late", sender="user-0")

        async def late() -> list[Event]:
            records = [r for found in (await log.read(log.events)).values() for r in found]
            new = [r for r in records if r.offset >= ends[r.partition] and dict(r.headers)["kind"] == b"message"]
            return [decode_event(r.value) for r in new] if len(new) == len(rooms) else []

        await until(late, "the late messages")
        for event in await late():
            rooms[event.room].append(event)
        said = await done_by(namespace, "backup", folder)
        assert f"{sum(map(len, rooms.values()))} events of {len(rooms)} rooms" in said
    # Into a namespace with another number of partitions.
    partitions = 3
    said = await done_by(elsewhere, "restore", folder, partitions=partitions)
    assert said.endswith("start the workers\n")
    workers = Workers(elsewhere)
    try:
        await workers("archiver", partitions=partitions)
        await workers("projector", partitions=partitions)
        await workers("sequencer", partitions=partitions)
        settings = elsewhere.settings(partitions=partitions)
        async with archived(settings) as history:
            for room, events in rooms.items():
                assert await whole_room(history, room) == events
        async with Log(settings) as log:
            await goes_on(log, rooms)
        clean = await asyncio.to_thread(faust, elsewhere, "verify", partitions=partitions)
        assert clean.returncode == 0, clean.stdout + clean.stderr
    finally:
        workers.kill()


async def test_with_a_new_epoch_every_room_is_numbered_anew(
    topics: Namespace, elsewhere: Namespace, tmp_path: Path
) -> None:
    topics.make_keyspace()
    folder = str(tmp_path / "backup")
    async with EventLog(topics.settings()) as events_log:
        events = await archived_log(topics, events_log)
        await done_by(topics, "backup", folder)
    said = await done_by(elsewhere, "restore", folder, "--new-epoch")
    assert "8 rooms get a new epoch" in said
    await done_by(elsewhere, "restore", folder, "--new-epoch")  # as after a kill: the second asking changes nothing
    workers = Workers(elsewhere)
    try:
        await workers("sequencer")
        last = {event.room: event for event in events}
        async with Log(elsewhere.settings()) as log:

            async def renumbered() -> dict[str, Event]:
                records = [r for found in (await log.read(log.events)).values() for r in found]
                new = [decode_event(r.value) for r in records if dict(r.headers)["kind"] == b"room.renumbered"]
                assert len(new) <= len(last)
                return {event.room: event for event in new} if len(new) == len(last) else {}

            await until(renumbered, "every room has its new epoch")
            for room, event in (await renumbered()).items():
                assert event.seq == last[room].seq + RENUMBER_GAP + 1
                assert event.epoch != last[room].epoch
                assert (event.msg_no, event.members) == (last[room].msg_no, last[room].members)
                assert verify(genesis(room, event.epoch), event)
    finally:
        workers.kill()


@pytest.mark.parametrize("failpoint", ["restore-mid-archive:2", "restore-after-base:2"])
async def test_a_restore_that_is_killed_is_repeated(
    topics: Namespace, elsewhere: Namespace, tmp_path: Path, failpoint: str
) -> None:
    topics.make_keyspace()
    folder = str(tmp_path / "backup")
    async with EventLog(topics.settings()) as log:
        events = await archived_log(topics, log)
        await done_by(topics, "backup", folder)
    killed = await asyncio.to_thread(faust, elsewhere, "restore", folder, failpoint=failpoint)
    assert killed.returncode == -9
    await done_by(elsewhere, "restore", folder)
    await holds_exactly(elsewhere.settings(), events)
    workers = Workers(elsewhere)
    try:
        await workers.together("sequencer", "archiver")
        async with Log(elsewhere.settings()) as log_b, archived(elsewhere.settings()) as history:
            await log_b.post("room3", "going on", sender="alice")
            seq = max(event.seq for event in events if event.room == "room3") + 1

            async def there() -> bool:
                return bool(await history.read_events("room3", seq, 1))

            await eventually(there, "the next number")
    finally:
        workers.kill()


async def test_nothing_is_restored_over_something_else(topics: Namespace, elsewhere: Namespace, tmp_path: Path) -> None:
    topics.make_keyspace()
    folder = tmp_path / "backup"
    async with EventLog(topics.settings()) as log:
        await archived_log(topics, log)
        await done_by(topics, "backup", str(folder))
        again = await asyncio.to_thread(faust, topics, "backup", str(folder))
        assert again.returncode == 1
        assert "holds a backup already" in again.stderr
        over = await asyncio.to_thread(faust, topics, "restore", str(folder))
        assert over.returncode == 1
        assert f"namespace {topics.name} is not empty" in over.stderr
    octets = bytearray(paths(folder, 1)[0].read_bytes())
    octets[-1] ^= 1
    paths(folder, 1)[0].write_bytes(octets)
    altered = await asyncio.to_thread(faust, elsewhere, "restore", str(folder))
    assert altered.returncode == 1
    assert altered.stderr.count("roomlog: ") == 1
    assert "its SHA-256 differs" in altered.stderr
    (folder / MANIFEST).unlink()
    unfinished = await asyncio.to_thread(faust, elsewhere, "restore", str(folder))
    assert "not finished" in unfinished.stderr


async def test_a_backup_can_be_read_without_roomlog(topics: Namespace, tmp_path: Path) -> None:
    topics.make_keyspace()
    folder = tmp_path / "backup"
    async with EventLog(topics.settings()) as log:
        events = await archived_log(topics, log)
        events += await log.commands(posts(50, 8, start=200))  # in the log only
        killed = await asyncio.to_thread(faust, topics, "backup", str(folder), failpoint="backup-after-partition")
        assert killed.returncode == -9
        assert not (folder / MANIFEST).exists()
        await done_by(topics, "backup", str(folder))
    manifest = read_manifest(folder)
    lines: list[bytes] = []
    for part in manifest.parts:
        with gzip.open(paths(folder, part.partition)[0]) as file:
            lines += file.read().splitlines()
        assert len(list(read_values(folder, part))) == part.events
        assert len(list(read_ends(folder, part))) == part.rooms
    assert sorted(lines) == sorted(encode(event) for event in events)
