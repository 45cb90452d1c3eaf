"""Writing the archive: events into `room_log` and the views that follow from them.

Every row is an upsert with the event's own log time as its timestamp, so any row may be written again, late, by
anybody, in any order, and the newest event's values stand. That is the whole of the archiver's correctness.

Requests are what costs. Rows of one Cassandra partition go as one unlogged batch (one mutation on the node, no limit
bites); rows that are alone in theirs are joined over partitions in small batches, which stay below the size at which a
node begins to warn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from chat.records import Event
from chat.settings import Settings
from chat.stores.cassandra.history import bucket_of
from chat.stores.cassandra.session import Session
from chat.stores.model import Stored

Statement = tuple[str, tuple[Any, ...]]

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
_NAMED = "INSERT INTO rooms (room, name) VALUES (?, ?) USING TIMESTAMP ?"
_HEAD = "INSERT INTO rooms (room, seq, msg_no, members, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
_MEMBER = "INSERT INTO room_members (room, user, role, seq, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
_USER_ROOM = "INSERT INTO user_rooms (user, room, role, seq, at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"

STATEMENTS: Final = (_LOG, _OPENED, _NAMED, _HEAD, _MEMBER, _USER_ROOM)


class ArchiveStore:
    """Writes of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._session = Session(settings, STATEMENTS)
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    def start(self) -> None:
        """Begin to connect, in the background. Without it the first request does."""
        self._session.start()

    async def stop(self) -> None:
        """Close the session."""
        await self._session.stop()

    async def write_events(self, events: Sequence[Stored]) -> int:
        """Archive `events`: any of any rooms, those of one room in order. Returns the number of rows written.

        Idempotent. When it raises `Unavailable`, some rows may be written: write all of them again. No events: it
        returns when Cassandra is there.
        """
        await self._session.ready()
        requests = list(requests_of(events))
        done = await asyncio.gather(*map(self._write, requests), return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure
        return sum(map(len, requests))

    async def _write(self, request: list[Statement]) -> None:
        async with self._slots:
            await self._session.write(request)


def requests_of(events: Iterable[Stored]) -> Iterator[list[Statement]]:
    """The requests that archive `events`, each one a list of statements."""
    logs: dict[tuple[str, int], list[Stored]] = {}
    heads: dict[str, Event] = {}
    small: list[tuple[int, Statement]] = []
    for stored in events:
        event = stored.event
        logs.setdefault((event.room, bucket_of(event.seq)), []).append(stored)
        # A batch may hold events of one room only in order, but heads must not depend on it.
        if (head := heads.get(event.room)) is None or head.at < event.at:
            heads[event.room] = event
        small.extend((_weight(*values), (cql, values)) for cql, values in _views(event))
    for (_, bucket), rows in logs.items():
        if len(rows) == 1:
            event, value = rows[0]
            small.append((_weight(value, event.room, event.sender), _log_row(bucket, event, value)))
        else:
            yield from _partition_batches(bucket, rows)
    small.extend((_weight(event.room), _head_row(event)) for event in heads.values())
    yield from _mixed_batches(small)


def _partition_batches(bucket: int, rows: list[Stored]) -> Iterator[list[Statement]]:
    batch: list[Statement] = []
    size = 0
    for event, value in rows:
        if batch and (len(batch) >= PARTITION_ROWS_MAX or size + len(value) > PARTITION_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(_log_row(bucket, event, value))
        size += len(value)
    yield batch


def _mixed_batches(rows: list[tuple[int, Statement]]) -> Iterator[list[Statement]]:
    batch: list[Statement] = []
    size = 0
    for weight, statement in rows:
        if batch and (len(batch) >= MIXED_ROWS_MAX or size + weight > MIXED_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(statement)
        size += weight
    if batch:
        yield batch


def _log_row(bucket: int, event: Event, value: bytes) -> Statement:
    return _LOG, (event.room, bucket, event.seq, event.at, event.kind, event.sender, value, event.at)


def _head_row(event: Event) -> Statement:
    return _HEAD, (event.room, event.seq, event.msg_no, event.members, event.at, event.at)


def _views(event: Event) -> Iterator[Statement]:
    at = event.at
    if (opens := event.opens) is not None:
        yield _OPENED, (event.room, opens.kind, opens.owner, event.epoch, event.seq, at, at)
        if opens.name is not None:  # a null would be a tombstone
            yield _NAMED, (event.room, opens.name, at)
    if (change := event.member) is not None:
        yield _MEMBER, (event.room, change.user, change.role, event.seq, at, at)
        yield _USER_ROOM, (change.user, event.room, change.role, event.seq, at, at)


def _weight(*values: Any) -> int:
    return ROW_OVERHEAD_BYTES + sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in values)
