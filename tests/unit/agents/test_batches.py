"""Events on their way into a store that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents.batches import BatchWriter
from agents.reading import Reading
from chat.errors import Unavailable
from chat.log.positions import Checkpoint
from chat.log.producer import Record
from chat.log.taking import START
from chat.records import Event
from chat.stores.model import Stored
from tests.engines import eventually

EVENT = Event(v=1, room="r", seq=1, epoch="e", kind="message", at=1, sender="a", msg_no=1, members=1, chain="c")


class Store:
    def __init__(self) -> None:
        self.away = False
        self.tries = 0
        self.written: list[list[Stored]] = []
        self.parked: list[Record] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, events: list[Stored]) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        if events:
            self.written.append(list(events))

    async def park(self, records: list[Record]) -> None:
        self.parked.extend(records)


@asynccontextmanager
async def writing(store: Store, *, in_flight_max: int = 1, linger_s: float = 0.0) -> AsyncIterator[BatchWriter]:
    writer = BatchWriter("test", store.write, store.park, events_max=10, in_flight_max=in_flight_max, linger_s=linger_s)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def reading() -> Reading:
    return Reading(0, Checkpoint(START, START), again_s=0.0, now=0.0)


async def add(writer: BatchWriter, to: Reading, count: int) -> None:
    for _ in range(count):
        if writer.add(to, Stored(EVENT, b"x")):
            await writer.room()


async def test_events_are_written_in_order_in_batches_that_are_not_too_large() -> None:
    store, to = Store(), reading()
    async with writing(store) as writer:
        await add(writer, to, 95)
        await writer.settled()
    assert sum(map(len, store.written)) == 95
    assert max(map(len, store.written)) <= 10


async def test_a_store_that_is_away_holds_the_reader_back_at_a_bound_and_gets_all_of_it_later() -> None:
    store, to = Store(), reading()
    async with writing(store, in_flight_max=2) as writer:
        await writer.settled()
        store.away = True
        feeding = asyncio.create_task(add(writer, to, 1_000))
        await eventually(lambda: store.tries > 4, "it tries again")
        assert not feeding.done()
        assert writer.full
        store.away = False
        await asyncio.wait_for(feeding, 10)
        await writer.settled()
    assert sum(map(len, store.written)) == 1_000


async def test_nothing_is_written_before_the_store_has_answered_once() -> None:
    store, to = Store(), reading()
    store.away = True
    async with writing(store) as writer:
        writer.add(to, Stored(EVENT, b"x"))
        await eventually(lambda: store.tries >= 2, "it asks")
        assert store.written == []
        store.away = False
        await eventually(lambda: store.written, "it is written")


async def test_a_record_that_came_to_nothing_moves_the_position_all_the_same() -> None:
    store, to = Store(), reading()
    async with writing(store) as writer:
        to.taker.take(0, (("kind", b"writer"),))
        writer.add(to)
        await writer.settled()
    assert to.written.offset == 0
    assert store.written == []


async def test_what_is_parked_is_parked_before_its_position_counts() -> None:
    store, to = Store(), reading()
    store.gate.clear()
    async with writing(store) as writer:
        to.taker.take(0, (("kind", b"writer"),))
        writer.add(to, parked=Record(b"k", b"v", []))
        await asyncio.sleep(0)
        assert to.written == START
        store.gate.set()
        await writer.settled()
    assert store.parked == [Record(b"k", b"v", [])]
    assert to.written.offset == 0
