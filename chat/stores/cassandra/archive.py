"""Writing the archive: events into `room_log` and the views that follow from them.

Every row is an upsert with the event's own log time as its timestamp, so any row may be written again, late, by
anybody, in any order, and the newest event's values stand. That is the whole of the archiver's correctness.

Requests are what costs. Rows of one Cassandra partition go as one unlogged batch (one mutation on the node, no limit
bites); rows that are alone in theirs are joined over partitions in small batches, which stay below the size at which a
node begins to warn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from chat.records import KIND_RENUMBERED, Event
from chat.settings import Settings
from chat.stores.cassandra.history import bucket_of
from chat.stores.cassandra.session import Encoded, Session, bigint, integer
from chat.stores.model import Stored

PARTITION_ROWS_MAX: Final = 100
"""Rows of one partition in one batch: past that nothing is gained (measured)."""
PARTITION_BYTES_MAX: Final = 1_048_576
"""A mutation must fit into half a commit log segment (16 MiB by default)."""
MIXED_ROWS_MAX: Final = 32
MIXED_BYTES_MAX: Final = 4_800
"""Cassandra warns about a batch over several partitions from 5 KiB on and refuses it from 50 KiB on."""
IN_FLIGHT_MAX: Final = 32
"""Requests of one store under way: enough to keep a node busy, few enough to be fair to readers."""
ROW_OVERHEAD_BYTES: Final = 60
"""What a row weighs on a node beside its texts and blob."""

_LOG = (
    "INSERT INTO room_log (room, bucket, seq, at, kind, sender, event) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_OPENED = (
    "INSERT INTO rooms (room, kind, owner, epoch, first_seq, created_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_RENUMBERED = "INSERT INTO rooms (room, kind, owner, epoch, first_seq) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
_NAMED = "INSERT INTO rooms (room, name) VALUES (?, ?) USING TIMESTAMP ?"
_HEAD = "INSERT INTO rooms (room, seq, msg_no, members, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
_MEMBER = "INSERT INTO room_members (room, user, role, seq, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
_USER_ROOM = "INSERT INTO user_rooms (user, room, role, seq, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"

STATEMENTS: Final = (_LOG, _OPENED, _RENUMBERED, _NAMED, _HEAD, _MEMBER, _USER_ROOM)


class ArchiveStore:
    """Writes of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._session = Session(settings, STATEMENTS)
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    def start(self) -> None:
        """Begin to connect, in the background. Without it the first request does."""
        self._session.start()

    @property
    def is_there(self) -> bool:
        """False while a write that was acknowledged a moment ago may be gone: see `Session.is_there`."""
        return self._session.is_there

    async def stop(self) -> None:
        """Close the session."""
        await self._session.stop()

    async def write_events(self, events: Sequence[Stored], stamps: Mapping[int, int] | None = None) -> int:
        """Archive `events`: any of any rooms, those of one room in order. Returns the number of rows written.

        Idempotent. When it raises `Unavailable`, some rows may be written: write all of them again. No events: it
        returns when Cassandra is there.

        `stamps`: the time stamp of each event's rows by its log time, instead of the log time itself. They must have
        the order of the log, and none may be later than the log time of an event that is not among them and newer.
        """
        await self._session.ready()
        requests = list(requests_of(events))
        if stamps is not None:
            for request in requests:
                for _, values in request:
                    # The last value of every statement.
                    values[-1] = bigint(stamps[int.from_bytes(values[-1], "big", signed=True)])
        done = await asyncio.gather(*map(self._write, requests), return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure
        return sum(map(len, requests))

    async def _write(self, request: list[Encoded]) -> None:
        async with self._slots:
            await self._session.write(request)


def requests_of(events: Iterable[Stored]) -> Iterator[list[Encoded]]:
    """The requests that archive `events`, each one a list of statements."""
    logs: dict[tuple[str, int], list[Stored]] = {}
    heads: dict[str, Event] = {}
    small: list[Encoded] = []
    for stored in events:
        event = stored.event
        logs.setdefault((event.room, bucket_of(event.seq)), []).append(stored)
        if (head := heads.get(event.room)) is None or head.at < event.at:
            heads[event.room] = event
        if event.opens is not None or event.member is not None:
            small.extend(_views(event))
    for (_, bucket), rows in logs.items():
        if len(rows) == 1:
            small.append(_log_row(integer(bucket), *rows[0]))
        else:
            yield from _partition_batches(bucket, rows)
    small.extend(map(_head_row, heads.values()))
    yield from _mixed_batches(small)


def _partition_batches(bucket: int, rows: list[Stored]) -> Iterator[list[Encoded]]:
    batch: list[Encoded] = []
    size = 0
    encoded_bucket = integer(bucket)
    for event, value in rows:
        if batch and (len(batch) >= PARTITION_ROWS_MAX or size + len(value) > PARTITION_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(_log_row(encoded_bucket, event, value))
        size += len(value)
    yield batch


def _mixed_batches(rows: list[Encoded]) -> Iterator[list[Encoded]]:
    batch: list[Encoded] = []
    size = 0
    for row in rows:
        weight = ROW_OVERHEAD_BYTES + sum(map(len, row[1]))
        if batch and (len(batch) >= MIXED_ROWS_MAX or size + weight > MIXED_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def _log_row(bucket: bytes, event: Event, value: bytes) -> Encoded:
    at = bigint(event.at)
    return _LOG, [
        event.room.encode(),
        bucket,
        bigint(event.seq),
        at,
        event.kind.encode(),
        event.sender.encode(),
        value,
        at,
    ]


def _head_row(event: Event) -> Encoded:
    at = bigint(event.at)
    return _HEAD, [event.room.encode(), bigint(event.seq), bigint(event.msg_no), integer(event.members), at, at]


def _views(event: Event) -> Iterator[Encoded]:
    at, seq, room = bigint(event.at), bigint(event.seq), event.room.encode()
    if (opens := event.opens) is not None:
        about = [room, opens.kind.encode(), opens.owner.encode(), event.epoch.encode(), seq, at]
        if event.kind == KIND_RENUMBERED:
            yield _RENUMBERED, about
        else:
            yield _OPENED, [*about, at]
        if opens.name is not None:  # a null would be a tombstone
            yield _NAMED, [room, opens.name.encode(), at]
    if (change := event.member) is not None:
        user, role = change.user.encode(), change.role.encode()
        yield _MEMBER, [room, user, role, seq, at, at]
        yield _USER_ROOM, [user, room, role, seq, at, at]
