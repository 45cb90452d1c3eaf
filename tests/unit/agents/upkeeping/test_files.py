"""The files of a backup."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from agents.upkeeping.files import (
    FORMAT,
    MANIFEST,
    Ends,
    Manifest,
    PartWriter,
    paths,
    read_ends,
    read_manifest,
    read_values,
    write_manifest,
)
from chat.errors import BrokenInvariant, RoomlogError
from chat.records import Event, PostMessage, RenumberRoom, encode
from chat.rooms.decide import decide
from chat.rooms.state import fold_head


@dataclasses.dataclass
class Room:
    """A room's rows, and what happened in it."""

    name: str = "lobby"
    head: object = None
    members: dict = dataclasses.field(default_factory=dict)
    senders: dict = dataclasses.field(default_factory=dict)
    at: int = 1000

    def do(self, command) -> Event:
        self.at += 1
        event = decide(self, command, self.at)
        assert isinstance(event, Event)
        self.head = fold_head(self.head, event)
        return event

    def post(self, body: str = "hello") -> Event:
        return self.do(PostMessage(v=1, room=self.name, sender="ann", nonce="n", body=body, create=True))

    def renumber(self, above: int = 0) -> Event:
        return self.do(RenumberRoom(v=1, room=self.name, sender="op", epoch=self.head.epoch, above=above))


def backed_up(folder: Path, *events: Event) -> Manifest:
    with PartWriter(folder, 3) as writer:
        for event in events:
            writer.add(event, encode(event))
        part = writer.finish(9, 8, 0)
    manifest = Manifest(FORMAT, "0", "n", "then", "now", [part])
    write_manifest(folder, manifest)
    return manifest


def test_what_is_written_is_read_byte_for_byte_in_its_order(tmp_path: Path) -> None:
    lobby, other = Room(), Room("other", at=5000)
    events = [lobby.post("eins"), other.post("zwei\n\x00 ☃"), lobby.post(), lobby.renumber(above=90), lobby.post()]
    manifest = backed_up(tmp_path, *events)
    assert read_manifest(tmp_path) == manifest
    (part,) = manifest.parts
    assert (part.events, part.rooms, part.offset, part.src, part.term) == (5, 2, 9, 8, 0)
    assert list(read_values(tmp_path, part)) == [encode(event) for event in events]
    assert {(end.room, end.seq, end.chain) for end in read_ends(tmp_path, part)} == {
        ("lobby", 92, events[-1].chain),
        ("other", 1, events[1].chain),
    }


def test_a_partition_without_events_has_empty_files(tmp_path: Path) -> None:
    manifest = backed_up(tmp_path)
    assert list(read_values(tmp_path, manifest.parts[0])) == []
    assert list(read_ends(tmp_path, manifest.parts[0])) == []
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("harm", ["altered", "gone"])
def test_a_file_that_is_not_as_it_was_is_named(tmp_path: Path, which: int, harm: str) -> None:
    backed_up(tmp_path, Room().post())
    path = paths(tmp_path, 3)[which]
    if harm == "gone":
        path.unlink()
    else:
        octets = bytearray(path.read_bytes())
        octets[len(octets) // 2] ^= 1
        path.write_bytes(octets)
    with pytest.raises(RoomlogError, match=path.name):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_backup(tmp_path: Path) -> None:
    backed_up(tmp_path, Room().post())
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(RoomlogError, match="not finished"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"v":1}'])
def test_another_manifest_is_none_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(RoomlogError, match="not a manifest of ours"):
        read_manifest(tmp_path)


def test_a_newer_format_is_not_guessed(tmp_path: Path) -> None:
    manifest = backed_up(tmp_path)
    write_manifest(tmp_path, msgspec.structs.replace(manifest, v=FORMAT + 1))
    with pytest.raises(RoomlogError, match=f"format {FORMAT + 1}"):
        read_manifest(tmp_path)


def test_an_event_that_does_not_follow_is_refused() -> None:
    room = Room()
    first, second, third = room.post(), room.post(), room.post()
    altered, twice = Ends(), Ends()
    altered.follow(first)
    with pytest.raises(BrokenInvariant, match="seq 2 does not follow seq 1"):
        altered.follow(msgspec.structs.replace(second, body="changed"))
    for event in (first, second, third):
        twice.follow(event)
    for event in (first, second, third):
        with pytest.raises(BrokenInvariant, match="does not follow seq 3"):
            twice.follow(event)


def test_a_hole_is_refused_unless_a_new_epoch_begins_after_it() -> None:
    room = Room()
    events = [room.post() for _ in range(5)]
    for missing in (0, 1, 3):
        ends = Ends()
        for n, event in enumerate(events):
            if n != missing:
                ends.follow(event)
        with pytest.raises(BrokenInvariant, match=r"room lobby: events before seq \d are missing"):
            ends.check()
        ends.follow(room.do(RenumberRoom(v=1, room="lobby", sender="op", epoch=room.head.epoch)))
        ends.check()


def test_an_event_behind_an_accepted_hole_is_still_chained_to_the_one_before_it() -> None:
    room = Room()
    events = [room.post() for _ in range(4)]
    ends = Ends()
    ends.follow(events[0])
    ends.follow(events[2])
    with pytest.raises(BrokenInvariant):
        ends.follow(msgspec.structs.replace(events[3], body="changed"))


def test_a_part_with_a_hole_is_not_finished(tmp_path: Path) -> None:
    room = Room()
    with PartWriter(tmp_path, 0) as writer:
        for event in (room.post(), room.post(), room.post()):
            if event.seq != 2:
                writer.add(event, encode(event))
        with pytest.raises(BrokenInvariant, match="room lobby: events before seq 3 are missing"):
            writer.finish(9, 8, 0)
