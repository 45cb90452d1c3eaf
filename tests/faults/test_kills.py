"""Kill -9 in the middle, of every role, several times: nothing receipted is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chat.stores.cassandra.history import HistoryStore
from tests.engines import Worker, Workers, eventually
from tests.people import Reader, Writer, audit

MESSAGES = 600
PER_S = 150.0


async def chat_while(
    gateways: list[Worker], breaking: Callable[[], Awaitable[None]], room: str = "lively"
) -> tuple[list[Writer], list[Reader]]:
    """Three people write and two read while `breaking` runs; returns once everybody has everything."""
    turn = iter(range(1_000_000))

    def address() -> str:
        return gateways[next(turn) % len(gateways)].ws

    writers = [Writer(address, f"writer{i}", room, MESSAGES, per_s=PER_S) for i in range(3)]
    readers = [Reader(address, f"reader{i}", room) for i in range(2)]
    reading = [asyncio.create_task(reader.run()) for reader in readers]
    writing = [asyncio.create_task(writer.run()) for writer in writers]
    try:
        await breaking()
        await asyncio.gather(*writing)
        late = Reader(address, "late", room)
        reading.append(asyncio.create_task(late.run()))
        for reader in (*readers, late):
            await reader.until(MESSAGES * len(writers))
    finally:
        for task in (*reading, *writing):
            task.cancel()
        await asyncio.gather(*reading, *writing, return_exceptions=True)
    return writers, [*readers, late]


async def kill_often(worker: Worker, times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0.6)  # the time between two faults, not the wait for anything
        await worker.restart()


@pytest.mark.parametrize("role", ["sequencer", "gateway", "archiver"])
async def test_kill_9_changes_nothing_that_a_reader_takes(worker: Workers, role: str) -> None:
    workers = {w.role: w for w in await worker.together("gateway", "sequencer", "archiver", "projector")}
    writers, readers = await chat_while([workers["gateway"]], lambda: kill_often(workers[role]))
    audit(writers, readers)
    if role == "gateway":
        assert all(person.reconnects >= 1 for person in (*writers, *readers[:2]))
    history = HistoryStore.open(worker.namespace.settings())
    total = MESSAGES * len(writers)
    try:

        async def archived() -> bool:
            rows = []
            while page := await history.read_events("lively", len(rows) + 1, 500):
                rows += page
            assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
            return [row.body for row in rows] == [body for _, body in readers[0].seen]

        await eventually(archived, f"{total} rows in Cassandra, in the order that readers saw", within_s=30)
    finally:
        await history.stop()


async def test_gateways_and_sequencers_join_and_leave_under_load(worker: Workers) -> None:
    first, second, *_ = await worker.together("gateway", "gateway", "sequencer", "sequencer", "archiver", "projector")
    third_gateway = await worker("gateway", start=False)
    third_sequencer = await worker("sequencer", start=False)
    gateways = [first, second]

    async def join_and_leave() -> None:
        await asyncio.gather(third_gateway.start(), third_sequencer.start())
        gateways.append(third_gateway)
        gateways.remove(first)
        await first.sigterm()
        await third_sequencer.sigterm()
        await first.start()
        gateways.append(first)
        gateways.remove(third_gateway)
        await third_gateway.sigterm()

    writers, readers = await chat_while(gateways, join_and_leave)
    audit(writers, readers)
