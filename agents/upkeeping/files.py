"""What a backup looks like: a folder of files that can be read without Roomlog.

* `events-00003.ndjson.gz`: every event of one partition, one a line, byte for byte the record's value. The events of a
  room stand in the order of their seq; rooms may alternate.
* `rooms-00003.ndjson.gz`: where each of its rooms ended: `{room, seq, epoch, chain}`.
* `manifest.json`: written last, so a folder without one is a backup that was not finished. Counts, SHA-256 of each
  file, and the position of the log up to which each partition was read.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

import msgspec

from chat.errors import BrokenInvariant, RoomlogError
from chat.records import KIND_RENUMBERED, Event
from chat.rooms.chain import genesis, verify

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
LEVEL: Final = 3
"""Of gzip: past that it takes longer than the rest of a backup."""

_encode = msgspec.json.Encoder().encode


class RoomEnd(msgspec.Struct, frozen=True):
    """Where a room ended."""

    room: str
    seq: int
    epoch: str
    chain: str


class Part(msgspec.Struct, frozen=True):
    """One partition of a backup."""

    partition: int
    events: int
    rooms: int
    events_sha256: str
    rooms_sha256: str
    offset: int
    src: int
    term: int
    """Position of the event log up to which it was read."""


class Manifest(msgspec.Struct, frozen=True):
    """A backup as a whole."""

    v: int
    roomlog: str
    """Version that wrote it."""
    namespace: str
    began_at: str
    ended_at: str
    """RFC 3339. Each partition is whole up to a moment between the two."""
    parts: list[Part]


class Ends:
    """The end of each room of some events, which must each follow the one before.

    A room that was numbered anew may have holes in its older epochs: its last one must have none.
    """

    def __init__(self) -> None:
        self._ends: dict[str, RoomEnd] = {}
        self._holes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[RoomEnd]:
        """Every room's."""
        return iter(self._ends.values())

    def seq(self, room: str) -> int:
        """How far a room has come; 0 for one that is not there."""
        end = self._ends.get(room)
        return 0 if end is None else end.seq

    def follow(self, event: Event) -> None:
        """`event` is the next one of its room.

        Raises:
            BrokenInvariant: it is not: it was altered, or comes after a later one.
        """
        room, end = event.room, self._ends.get(event.room)
        if event.kind == KIND_RENUMBERED or (end is None and event.opens is not None):
            previous: str | None = genesis(room, event.epoch)
            self._holes.pop(room, None)
        elif end is not None and event.seq == end.seq + 1:
            previous = end.chain
        else:
            previous = None
            self._holes[room] = event.seq
        if event.seq <= self.seq(room) or (previous is not None and not verify(previous, event)):
            raise BrokenInvariant(f"room {room}: seq {event.seq} does not follow seq {self.seq(room)}")
        self._ends[room] = RoomEnd(room, event.seq, event.epoch, event.chain)

    def check(self) -> None:
        """All events have come.

        Raises:
            BrokenInvariant: the last epoch of a room has a hole.
        """
        for room, seq in self._holes.items():
            raise BrokenInvariant(f"room {room}: events before seq {seq} are missing, and no new epoch begins after it")


class PartWriter:
    """Writes the files of one partition; they count only when `finish` has returned and the manifest names them."""

    def __init__(self, folder: Path, partition: int) -> None:
        self.ends = Ends()
        self.events = 0
        self._partition = partition
        self._paths = paths(folder, partition)
        self._file = _gzip(self._paths[0], "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, event: Event, value: bytes) -> None:
        """The next event of its room.

        Raises:
            BrokenInvariant: it is not the next one.
        """
        self.ends.follow(event)
        if b"\n" in value:
            raise BrokenInvariant(f"room {event.room}: the record of seq {event.seq} is more than one line")
        self._file.write(value)
        self._file.write(b"\n")
        self.events += 1

    def finish(self, offset: int, src: int, term: int) -> Part:
        """All is added, up to that position.

        Raises:
            BrokenInvariant: a room has a hole.
        """
        self._file.close()
        self.ends.check()
        with _gzip(self._paths[1], "wb") as file:
            for end in self.ends:
                file.write(_encode(end))
                file.write(b"\n")
        events, rooms = self._paths
        return Part(self._partition, self.events, len(self.ends), _digest(events), _digest(rooms), offset, src, term)


def make_folder(folder: Path) -> None:
    """Make the folder of a backup, and those above it."""
    folder.mkdir(parents=True, exist_ok=True)


def paths(folder: Path, partition: int) -> tuple[Path, Path]:
    """The files of a partition: its events, and where its rooms ended."""
    return folder / f"events-{partition:05}.ndjson.gz", folder / f"rooms-{partition:05}.ndjson.gz"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the files in `folder` a backup."""
    path = folder / MANIFEST
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        file.write(msgspec.json.format(_encode(manifest), indent=1))
        file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup whose files are all there and whole.

    Raises:
        RoomlogError: it is no backup of ours, it was not finished, or a file was altered.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise RoomlogError(f"{folder} is no backup, or one that was not finished: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RoomlogError(f"{folder / MANIFEST} is not a manifest of ours: {error}") from None
    if manifest.v != FORMAT:
        raise RoomlogError(f"{folder} has format {manifest.v}, this Roomlog knows {FORMAT}")
    for part in manifest.parts:
        for path, wanted in zip(paths(folder, part.partition), (part.events_sha256, part.rooms_sha256), strict=True):
            if not path.exists():
                raise RoomlogError(f"{path} is missing")
            if _digest(path) != wanted:
                raise RoomlogError(f"{path} is not the file that the manifest names: its SHA-256 differs")
    return manifest


def read_values(folder: Path, part: Part) -> Iterator[bytes]:
    """The values of a partition's events, in order."""
    with _gzip(paths(folder, part.partition)[0], "rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def read_ends(folder: Path, part: Part) -> Iterator[RoomEnd]:
    """Where each room of a partition ended."""
    decode = msgspec.json.Decoder(RoomEnd).decode
    with _gzip(paths(folder, part.partition)[1], "rb") as file:
        for line in file:
            yield decode(line)


def _gzip(path: Path, mode: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, mode, compresslevel=LEVEL))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
