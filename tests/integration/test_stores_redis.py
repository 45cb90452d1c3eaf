"""The directory and the tails on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from chat.errors import Unavailable
from chat.records import Event, Opens, encode
from chat.stores.model import RoomInfo, Stored
from chat.stores.redis import Directory, Projection, RecentTail, reading
from chat.stores.redis.writing import TAIL_EVENTS
from tests.engines import Namespace, eventually
from tests.forwarder import Forwarder


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway does without Redis after a moment; here a busy machine must not look like a Redis that is away."""
    monkeypatch.setattr(reading, "READ_TIMEOUT_S", 5.0)


@pytest.fixture
async def projection(namespace: Namespace) -> AsyncIterator[Projection]:
    store = Projection(namespace.settings())
    yield store
    await store.clear()
    await store.stop()


@pytest.fixture
async def directory(namespace: Namespace) -> AsyncIterator[Directory]:
    store = Directory(namespace.settings())
    yield store
    await store.stop()


@pytest.fixture
async def tail(namespace: Namespace) -> AsyncIterator[RecentTail]:
    store = RecentTail(namespace.settings())
    yield store
    await store.stop()


def stored(room: str, seq: int, *, at: int | None = None, opens: Opens | None = None) -> Stored:
    event = Event(
        v=1,
        room=room,
        seq=seq,
        epoch="e",
        kind="message",
        at=at if at is not None else 1_700_000_000_000_000 + seq,
        sender="ann",
        msg_no=seq,
        members=2,
        chain="c",
        opens=opens,
    )
    return Stored(event, encode(event))


def opening(room: str, at: int | None = None, name: str | None = None) -> Stored:
    return stored(room, 1, at=at, opens=Opens(kind="open", owner="ann", name=name))


async def make_whole(projection: Projection, partitions: range = range(4)) -> None:
    await projection.begin_rebuild(partitions, "attempt")
    for partition in partitions:
        assert await projection.finish_rebuild(partition, "attempt")


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


# ---------------------------------------------------------------- directory


async def test_rooms_are_listed_most_recent_first_page_by_page(projection: Projection, directory: Directory) -> None:
    # Three rooms share a microsecond: none is shown twice or left out at a page's edge.
    await projection.write_events([opening(f"r{n:02}", at=10**15 + n // 3) for n in range(20)])
    await make_whole(projection)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = await directory.list_rooms(4, cursor)
        seen += [info.room for info in page]
        if cursor is None:
            break
    assert seen == sorted(seen, key=lambda room: (10**15 + int(room[1:]) // 3, room), reverse=True)
    assert len(seen) == 20


async def test_a_room_shows_where_it_stands_and_what_it_is(projection: Projection, directory: Directory) -> None:
    await projection.write_events([opening("r", name="The room"), stored("r", 2), stored("r", 3)])
    assert await directory.get_room("r") == RoomInfo(
        room="r",
        name="The room",
        kind="open",
        owner="ann",
        epoch="e",
        first_seq=1,
        seq=3,
        msg_no=3,
        members=2,
        at=1_700_000_000_000_003,
    )


async def test_nothing_older_replaces_what_is_there(projection: Projection, directory: Directory) -> None:
    events = [opening("r"), *(stored("r", seq) for seq in range(2, 10))]
    await projection.write_events(events)
    before = await directory.get_room("r")
    await projection.write_events(events[:4])
    await projection.write_rooms(
        [RoomInfo("r", kind="open", owner="ann", epoch="e", first_seq=1, seq=5, msg_no=5, members=9, at=5)]
    )
    assert await directory.get_room("r") == before


async def test_a_list_that_is_not_whole_is_not_shown(projection: Projection, directory: Directory) -> None:
    await projection.write_events([opening("r")])
    with pytest.raises(Unavailable, match="0 of 4 partitions"):
        await directory.list_rooms(10)
    await make_whole(projection, range(3))
    with pytest.raises(Unavailable, match="3 of 4 partitions"):
        await directory.list_rooms(10)
    with pytest.raises(Unavailable):  # it may be in the partition that is missing
        await directory.get_room("other")
    await make_whole(projection)
    assert await directory.get_room("other") is None


async def test_a_rebuild_that_lost_its_memory_does_not_count(projection: Projection) -> None:
    await projection.begin_rebuild([0, 1], "first")
    assert await projection.finish_rebuild(0, "first")
    await projection.clear()
    assert not await projection.finish_rebuild(1, "first")
    await projection.begin_rebuild([1], "second")
    assert not await projection.finish_rebuild(1, "first")
    assert await projection.whole() == set()


async def test_a_cursor_of_another_list_is_not_guessed_at(projection: Projection, directory: Directory) -> None:
    await projection.write_events([opening("r")])
    await make_whole(projection)
    with pytest.raises(Unavailable):
        await directory.list_rooms(10, "123")


# ---------------------------------------------------------------- tails


async def test_a_tail_holds_the_last_events_of_a_room_without_a_hole(projection: Projection, tail: RecentTail) -> None:
    events = [stored("r", seq) for seq in range(1, 501)]
    for start in range(0, 500, 70):
        await projection.write_events(events[start : start + 70])
    first = 500 - TAIL_EVENTS + 1
    assert await tail.read_events("r", first, 1_000) == [event for event, _ in events[first - 1 :]]
    assert seqs(await tail.read_events("r", 450, 10)) == list(range(450, 460))
    assert await tail.read_events("r", first - 1, 10) == []
    assert await tail.read_events("r", 501, 10) == []


async def test_a_hole_empties_a_tail(projection: Projection, tail: RecentTail) -> None:
    await projection.write_events([stored("r", seq) for seq in range(1, 11)])
    await projection.write_events([stored("r", seq) for seq in range(12, 15)])
    assert await tail.read_events("r", 5, 10) == []
    assert seqs(await tail.read_events("r", 12, 10)) == [12, 13, 14]


async def test_events_that_come_again_change_no_tail(projection: Projection, tail: RecentTail) -> None:
    events = [stored("r", seq) for seq in range(1, 51)]
    await projection.write_events(events)
    await projection.write_events(events[:20])
    await projection.write_events(events[40:])
    assert seqs(await tail.read_events("r", 1, 100)) == list(range(1, 51))


async def test_a_tail_that_is_read_again_from_the_past_is_dense_again(projection: Projection, tail: RecentTail) -> None:
    events = [stored("r", seq) for seq in range(1, 51)]
    await projection.write_events(events[30:])
    await projection.clear()
    for start in range(0, 50, 10):
        await projection.write_events(events[start : start + 10])
    assert seqs(await tail.read_events("r", 1, 100)) == list(range(1, 51))


async def test_a_redis_that_comes_back_is_used_again(namespace: Namespace, projection: Projection) -> None:
    await projection.write_events([stored("r", 1)])
    async with Forwarder(namespace.engines.redis) as forwarder:
        tail = RecentTail(namespace.settings(redis=forwarder.address))
        try:
            assert seqs(await tail.read_events("r", 1, 10)) == [1]
            await forwarder.off()
            with pytest.raises(Unavailable):
                await tail.read_events("r", 1, 10)
            await forwarder.on()

            async def answers() -> bool:
                try:
                    return seqs(await tail.read_events("r", 1, 10)) == [1]
                except Unavailable:
                    return False

            await eventually(answers, "Redis is asked again")
        finally:
            await tail.stop()


# ---------------------------------------------------------------- new epochs


def renumbered(room: str, seq: int) -> Stored:
    event = stored(room, seq, opens=Opens(kind="open", owner="ann", name="A")).event
    event = msgspec.structs.replace(event, kind="room.renumbered", epoch="f")
    return Stored(event, encode(event))


@pytest.mark.parametrize("first", [3, 1001], ids=["the next number", "a jump"])
async def test_a_new_epoch_begins_a_tail_anew(projection: Projection, tail: RecentTail, first: int) -> None:
    await projection.write_events([opening("a"), stored("a", 2)])
    await projection.write_events([renumbered("a", first), stored("a", first + 1)])
    assert await tail.read_events("a", 1, 10) == []
    assert seqs(await tail.read_events("a", first, 10)) == [first, first + 1]
    # What came before it comes again, from a reader that was put out: nothing changes.
    await projection.write_events([opening("a"), stored("a", 2)])
    assert seqs(await tail.read_events("a", first, 10)) == [first, first + 1]
    assert await tail.read_events("a", 1, 10) == []


async def test_an_older_epoch_does_not_come_back(projection: Projection, directory: Directory) -> None:
    await make_whole(projection)
    await projection.write_events([opening("a", name="A"), renumbered("a", 1001)])
    await projection.write_events([opening("a", name="A"), stored("a", 2)])
    info = await directory.get_room("a")
    assert info is not None
    assert (info.epoch, info.first_seq, info.seq, info.name) == ("f", 1001, 1001, "A")
