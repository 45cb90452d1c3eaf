"""A checkpoint vouches for every row before it, whatever happens to a snapshot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.sequencing.attempt import Attempt, Limits
from agents.sequencing.clock import Clock
from agents.sequencing.pace import Pace
from agents.sequencing.rows import TABLES, Rows, load_rows
from agents.sequencing.snapshots import Snapshots
from chat.log.producer import Record
from chat.log.taking import START, Taker
from chat.records import Event, PostMessage
from chat.rooms.decide import decide


class Changelogs:
    """Changelogs in memory; the next append to the table `held` waits for `go`."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.held = ""
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def append_rows(self, topic: str, partition: int, records: list[Record]) -> None:
        _, table, _ = topic.split(".")
        if table == self.held:
            self.held = ""
            self.entered.set()
            await self.go.wait()
        for record in records:
            assert record.key is not None
            if record.value is None:
                self.tables[table].pop(record.key, None)
            else:
                self.tables[table][record.key] = record.value

    def whole(self) -> bool:
        """The newest checkpoint finds all of its rows."""
        rows = load_rows([0], self.tables)[0]  # type: ignore[arg-type]
        return rows.checkpoint is None or rows.count >= rows.checkpoint.rows


class Writer:
    """An attempt whose rows change."""

    def __init__(self) -> None:
        taker = Taker(START)
        taker.take(0, (("kind", b"writer"),))
        rows = Rows(0, {table: {} for table in TABLES})
        self.attempt = Attempt(0, SimpleNamespace(), rows, taker, Clock(), Limits(1, 10_000), Pace())  # type: ignore[arg-type]
        self.at = 1000

    def post(self, room: str) -> None:
        self.at += 1
        command = PostMessage(v=1, room=room, sender="ann", nonce="n", create=True)
        event = decide(self.attempt.rows.of(room), command, self.at)
        assert isinstance(event, Event)
        self.attempt.rows.fold(event)
        self.attempt.unsnapshotted = True


def make(changelogs: Changelogs) -> Snapshots:
    settings: Any = SimpleNamespace(topic=lambda name: name)
    log: Any = changelogs
    return Snapshots(settings, log)


@pytest.mark.parametrize("table", TABLES)
async def test_a_snapshot_that_was_cut_short_is_the_last_one(table: str) -> None:
    changelogs, writer = Changelogs(), Writer()
    snapshots = make(changelogs)
    writer.post("lobby")
    changelogs.held = table
    cut_short = asyncio.create_task(snapshots.take([writer.attempt]))
    await changelogs.entered.wait()
    cut_short.cancel()
    await asyncio.wait([cut_short])
    writer.post("hall")
    assert await snapshots.take([writer.attempt]) == 0
    assert changelogs.whole()


async def test_a_snapshot_waits_for_the_one_that_is_under_way() -> None:
    changelogs, writer = Changelogs(), Writer()
    snapshots = make(changelogs)
    writer.post("lobby")
    changelogs.held = "members"
    first = asyncio.create_task(snapshots.take([writer.attempt]))
    await changelogs.entered.wait()
    writer.post("hall")
    last = asyncio.create_task(snapshots.take([writer.attempt]))
    for _ in range(20):
        await asyncio.sleep(0)
        assert changelogs.whole()
    changelogs.go.set()
    await asyncio.gather(first, last)
    rows = load_rows([0], changelogs.tables)[0]  # type: ignore[arg-type]
    assert rows.checkpoint is not None
    assert rows.checkpoint.at == writer.attempt.clock.at
    assert (rows.count, changelogs.whole()) == (6, True)
