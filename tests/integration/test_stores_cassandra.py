"""The archive on a real Cassandra."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat.errors import Unavailable
from chat.records import Event, Membership, Opens, encode
from chat.stores.cassandra import migrations
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.history import BUCKET_SEQS, HistoryStore
from chat.stores.model import Stored
from tests.engines import Namespace, eventually
from tests.forwarder import Forwarder

_rooms = itertools.count(1)


@pytest.fixture
def room() -> str:
    return f"room{next(_rooms)}"


@pytest.fixture
async def archive(module_keyspace: Namespace) -> AsyncIterator[ArchiveStore]:
    store = ArchiveStore(module_keyspace.settings())
    yield store
    await store.stop()


@pytest.fixture
async def history(module_keyspace: Namespace) -> AsyncIterator[HistoryStore]:
    store = HistoryStore.open(module_keyspace.settings())
    yield store
    await store.stop()


def stored(room: str, seq: int, *, at: int | None = None, body: str = "hello", **more: object) -> Stored:
    event = Event(
        v=1,
        room=room,
        seq=seq,
        epoch="e",
        kind="message",
        at=at if at is not None else 1_700_000_000_000_000 + seq,
        sender="ann",
        msg_no=seq,
        members=1,
        chain="c",
        body=body,
        **more,  # type: ignore[arg-type]
    )
    return Stored(event, encode(event))


def opening(room: str, name: str | None = None) -> Stored:
    return stored(
        room, 1, opens=Opens(kind="open", owner="ann", name=name), member=Membership(user="ann", role="owner")
    )


def membership(room: str, seq: int, user: str, role: str) -> Stored:
    return stored(room, seq, member=Membership(user=user, role=role))


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


# ---------------------------------------------------------------- events


async def test_a_page_crosses_a_bucket_and_comes_back_as_it_was_written(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    written = [stored(room, seq) for seq in range(BUCKET_SEQS - 150, BUCKET_SEQS + 150)]
    await archive.write_events(written)
    page = await history.read_events(room, BUCKET_SEQS - 100, 200)
    assert page == [event for event, _ in written[50:250]]
    assert seqs(await history.read_before(room, BUCKET_SEQS + 10, 20)) == list(
        range(BUCKET_SEQS - 10, BUCKET_SEQS + 10)
    )


async def test_a_page_ends_at_a_hole_and_never_passes_it(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    await archive.write_events([stored(room, seq) for seq in range(1, 31) if seq != 20])
    assert seqs(await history.read_events(room, 11, 50)) == list(range(11, 20))
    assert seqs(await history.read_before(room, 31, 50)) == list(range(21, 31))


async def test_a_page_that_begins_where_nothing_is_is_empty(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    await archive.write_events([stored(room, seq) for seq in range(5, 10)])
    assert await history.read_events(room, 1, 50) == []
    assert await history.read_events(room, 10, 50) == []
    assert await history.read_before(room, 5, 50) == []
    assert await history.read_before(room, 1, 50) == []
    assert await history.read_events("no such room", 1, 50) == []


async def test_an_older_epoch_is_read_with_its_holes_and_across_numbers_that_were_never_given(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    first = 3 * BUCKET_SEQS + 7
    await archive.write_events([opening(room), *(stored(room, seq) for seq in (2, 5, 6)), stored(room, first)])
    assert seqs(await history.read_older(room, first, 10)) == [1, 2, 5, 6]
    assert seqs(await history.read_older(room, first, 3)) == [2, 5, 6]
    assert seqs(await history.read_older(room, 5, 10)) == [1, 2]
    assert await history.read_older(room, 1, 10) == []


async def test_events_written_again_in_any_order_change_nothing(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    events = [opening(room), *(stored(room, seq) for seq in range(2, 50))]
    await archive.write_events(events)
    info, page = await history.get_room(room), await history.read_events(room, 1, 100)
    await archive.write_events(list(reversed(events)))
    await archive.write_events(events[:7])
    assert await history.get_room(room) == info
    assert info is not None
    assert info.seq == 49
    assert await history.read_events(room, 1, 100) == page


async def test_large_and_odd_bodies_come_back_byte_for_byte(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    events = [
        stored(room, 1, body="x" * 48_000),
        stored(room, 2, body='"\\\u0000\u2028 \U0001f600'),
        stored(room, 3, body_b64="AP+A"),
    ]
    await archive.write_events(events)
    assert [encode(event) for event in await history.read_events(room, 1, 10)] == [value for _, value in events]


# ---------------------------------------------------------------- rooms and people


async def test_a_room_is_what_its_opening_says_and_stands_where_its_last_event_is(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    assert await history.get_room(room) is None
    await archive.write_events([opening(room, "The room"), stored(room, 2)])
    info = await history.get_room(room)
    assert info is not None
    assert (info.room, info.name, info.owner, info.kind) == (room, "The room", "ann", "open")
    assert (info.first_seq, info.seq, info.msg_no, info.epoch) == (1, 2, 2, "e")


async def test_a_room_whose_opening_is_not_archived_yet_is_not_there_yet(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    await archive.write_events([stored(room, 2)])
    assert await history.get_room(room) is None
    await archive.write_events([opening(room)])
    info = await history.get_room(room)
    assert info is not None
    assert info.seq == 2


async def test_all_rooms_are_listed_page_by_page_once_each(archive: ArchiveStore, history: HistoryStore) -> None:
    mine = {f"list{n}" for n in range(25)}
    await archive.write_events([opening(room) for room in mine])
    seen: list[str] = []
    after = None
    while page := await history.list_rooms(7, after):
        seen += [info.room for info in page]
        after = page[-1].room
    assert len(seen) == len(set(seen))
    assert mine <= set(seen)


async def test_who_left_stays_as_none_and_a_late_copy_brings_nobody_back(
    archive: ArchiveStore, history: HistoryStore, room: str
) -> None:
    joined, left = membership(room, 2, "bob", "member"), membership(room, 3, "bob", "none")
    await archive.write_events([opening(room), joined, left])
    await archive.write_events([joined])
    assert [(m.user, m.role, m.seq) for m in await history.members(room)] == [("ann", "owner", 1), ("bob", "none", 3)]
    bob = await history.member(room, "bob")
    assert bob is not None
    assert bob.role == "none"
    assert await history.member(room, "eve") is None


async def test_a_persons_rooms_and_a_rooms_people_are_paged(archive: ArchiveStore, history: HistoryStore) -> None:
    await archive.write_events([membership(f"of-kim-{n:02}", 1, "kim", "member") for n in range(12)])
    first = await history.rooms_of("kim", 5)
    rest = await history.rooms_of("kim", 50, first[-1].room)
    assert [m.room for m in [*first, *rest]] == [f"of-kim-{n:02}" for n in range(12)]


# ---------------------------------------------------------------- the session


async def test_a_cassandra_that_is_away_is_unavailable_at_once_and_used_again_when_it_is_back(
    module_keyspace: Namespace, room: str
) -> None:
    async with Forwarder(module_keyspace.engines.cassandra) as forwarder:
        await forwarder.off()
        settings = module_keyspace.settings(cassandra=forwarder.address)
        archive, history = ArchiveStore(settings), HistoryStore(settings)
        try:
            with pytest.raises(Unavailable, match="refused"):
                await history.read_events(room, 1, 10)
            started = time.monotonic()
            for _ in range(100):
                with pytest.raises(Unavailable):
                    await archive.write_events([opening(room)])
            assert time.monotonic() - started < 1.0, "those who ask while it is away wait"

            async def write() -> bool:
                try:
                    return bool(await archive.write_events([opening(room)]))
                except Unavailable:
                    return False

            for _ in range(2):  # never connected before, and connected before
                await forwarder.on()
                await eventually(write, "Cassandra is written to")
                await forwarder.off()
                assert not await write()
            await forwarder.on()
            await eventually(write, "Cassandra is written to again")

            async def read() -> bool:
                try:
                    return seqs(await history.read_events(room, 1, 10)) == [1]
                except Unavailable:
                    return False

            await eventually(read, "Cassandra is read again")
        finally:
            await asyncio.gather(archive.stop(), history.stop())


async def test_a_keyspace_that_was_not_migrated_says_what_to_do_and_is_used_once_it_was(namespace: Namespace) -> None:
    history = HistoryStore.open(namespace.settings())
    try:
        with pytest.raises(Unavailable, match="faust -A app migrate"):
            await history.get_room("r")
        await asyncio.to_thread(namespace.make_keyspace)

        async def answers() -> bool:
            try:
                return await history.get_room("r") is None
            except Unavailable:
                return False

        await eventually(answers, "the keyspace is used")
    finally:
        await history.stop()


async def test_a_closed_session_is_unavailable(module_keyspace: Namespace) -> None:
    history = HistoryStore(module_keyspace.settings())
    await history.stop()
    with pytest.raises(Unavailable, match="closed"):
        await history.get_room("r")


# ---------------------------------------------------------------- migrations


async def test_migrating_twice_and_at_the_same_time_ends_in_the_same_tables(namespace: Namespace) -> None:
    settings = namespace.settings()
    applied = await asyncio.gather(*(asyncio.to_thread(migrations.migrate, settings, wait_s=30) for _ in range(2)))
    assert max(applied) == len(migrations.load())
    assert migrations.migrate(settings) == 0
    migrations.drop(settings)


async def test_an_applied_file_that_was_altered_is_refused_and_a_new_one_is_applied(
    module_keyspace: Namespace, tmp_path: Path
) -> None:
    settings = module_keyspace.settings()
    for path in migrations.FOLDER.glob("*.cql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0002_more.cql").write_text("CREATE TABLE IF NOT EXISTS more (id int PRIMARY KEY);\n-- end; of it\n")
    assert migrations.migrate(settings, folder=tmp_path) == 1
    assert migrations.migrate(settings, folder=tmp_path) == 0
    (tmp_path / "0002_more.cql").write_text("CREATE TABLE IF NOT EXISTS less (id int PRIMARY KEY);\n")
    with pytest.raises(migrations.MigrationChanged, match="0002 more was altered"):
        migrations.migrate(settings, folder=tmp_path)
