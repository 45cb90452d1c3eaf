"""A room's events as Cassandra has them: in order, checked, and not past a hole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents.upkeeping import census
from agents.upkeeping.census import ArchivedRoom, Known, take_census
from chat.errors import BrokenInvariant
from chat.log.topics import partition_of
from chat.records import Event, encode
from chat.settings import Settings
from tests.unit.agents.upkeeping.test_files import Room


class Archive:
    """What Cassandra would answer."""

    def __init__(self, *events: Event) -> None:
        self.rows = {event.seq: encode(event) for event in events}
        self.heads: list[dict[str, Any]] = []
        self.keys: list[list[Any]] = []

    async def read_above(self, _room: str, seq: int, limit: int) -> list[Any]:
        bucket = (seq + 1) // census.BUCKET_SEQS
        found = sorted(s for s in self.rows if s > seq and s // census.BUCKET_SEQS == bucket)
        return [(s, 0, "", "", self.rows[s]) for s in found[:limit]]

    async def buckets(self) -> Any:
        for page in self.keys:
            yield page

    async def rooms(self) -> Any:
        yield self.heads


async def seqs(archive: Archive, *buckets: int, first_seq: int = 1) -> list[int]:
    room = ArchivedRoom(archive, "lobby", Known(0, first_seq, list(buckets or (0,))))  # type: ignore[arg-type]
    return [event.seq for page in [page async for page in room.pages()] for event, _ in page]


def posts(count: int) -> tuple[Room, list[Event]]:
    room = Room()
    return room, [room.post(f"{n}") for n in range(count)]


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_all_of_a_room_comes_in_order_over_pages_and_buckets(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(census, "PAGE_MAX", page)
    monkeypatch.setattr(census, "BUCKET_SEQS", 4)
    monkeypatch.setattr(census, "bucket_of", lambda seq: seq // 4)
    _, events = posts(11)
    assert await seqs(Archive(*events), 2, 0, 1) == list(range(1, 12))


async def test_what_lies_behind_a_hole_is_left_to_the_log() -> None:
    _, events = posts(6)
    assert await seqs(Archive(*events[:3], *events[4:])) == [1, 2, 3]
    assert await seqs(Archive(*events[1:])) == []


async def test_what_lies_behind_a_hole_counts_when_a_new_epoch_has_begun_since() -> None:
    room, events = posts(4)
    anew = [room.renumber(above=9), room.post(), room.post()]
    assert await seqs(Archive(*events[:2], *anew), first_seq=10) == [1, 2, 10, 11, 12]
    assert await seqs(Archive(*events[:1], *events[2:], *anew), first_seq=10) == [1, 3, 4, 10, 11, 12]
    assert await seqs(Archive(*events[2:], *anew), first_seq=10) == [3, 4, 10, 11, 12]
    assert await seqs(Archive(*anew), first_seq=10) == [10, 11, 12]
    # In the newest epoch a hole is the log's to fill, as ever.
    assert await seqs(Archive(*events, *anew[:1], *anew[2:]), first_seq=10) == [1, 2, 3, 4, 10]


async def test_a_row_that_claims_a_new_epoch_which_is_not_there_is_named() -> None:
    _, events = posts(4)
    with pytest.raises(BrokenInvariant, match="room lobby, seq 3: events before it are missing, and no new epoch"):
        await seqs(Archive(*events[:1], *events[2:]), first_seq=10)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda event: b"junk", "not a record of ours"),
        (lambda event: encode(msgspec.structs.replace(event, body="changed")), "its chain is broken"),
        (lambda event: encode(msgspec.structs.replace(event, seq=77)), "holds the event of seq 77"),
        (lambda event: encode(msgspec.structs.replace(event, room="other")), "not the record's key"),
        (lambda event: None, "without a value"),
    ],
)
async def test_an_event_that_was_altered_is_named(harm: Any, words: str) -> None:
    _, events = posts(3)
    archive = Archive(*events)
    archive.rows[2] = harm(events[1])
    with pytest.raises(BrokenInvariant, match=r"room lobby, seq 2: ") as found:
        await seqs(archive)
    assert words in str(found.value)


async def test_a_room_counts_wherever_a_row_of_it_stands() -> None:
    settings = Settings(partitions=2)
    mine = [room for room in "abcdefghijklmnop" if partition_of(room, 2) == 1]
    archive = Archive()
    archive.keys = [[(room, 0) for room in mine[1:]], [(mine[1], 3)]]
    archive.heads = [
        {"room": mine[0], "seq": 7, "first_seq": 1},
        {"room": mine[1], "seq": None, "first_seq": None},
        {"room": mine[2], "seq": 5, "first_seq": 3},
    ]
    found = (await take_census(settings, archive, [1]))[1]  # type: ignore[arg-type]
    assert found.keys() == set(mine)
    assert found[mine[0]].least == 7
    assert found[mine[1]].least == 15_000
    assert (found[mine[2]].least, found[mine[2]].first_seq) == (5, 3)
