"""The main job on real engines: from a socket into the log, into Cassandra and Redis, and back to everybody."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request

import pytest_asyncio
import redis.asyncio
import websockets

from chat.stores.cassandra.history import HistoryStore
from tests.engines import Worker, Workers, eventually
from tests.people import Line, Reader, Writer, audit, dial


async def everything(worker: Workers, **changed: object) -> dict[str, Worker]:
    return {w.role: w for w in await worker.together("gateway", "sequencer", "archiver", "projector", **changed)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(module_worker: Workers) -> dict[str, Worker]:
    """One worker of each role, for tests that break none of them and use rooms of their own."""
    return await everything(module_worker)


async def get(gateway: Worker, path: str) -> tuple[int, dict]:
    def fetch() -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(gateway.url + path, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return await asyncio.to_thread(fetch)


async def close_code(line: Line) -> int | None:
    """Read to the end of a connection; the code of the server's close frame."""
    try:
        while True:
            await line.next()
    except websockets.ConnectionClosed as ended:
        return ended.rcvd.code if ended.rcvd else None


async def test_a_thousand_messages_are_sequenced_kept_and_seen_by_all_also_after_a_restart(worker: Workers) -> None:
    workers = await everything(worker)
    gateway = workers["gateway"]
    live = Reader(lambda: gateway.ws, "live", "main")
    reading = asyncio.create_task(live.run())
    await eventually(lambda: live.reconnects == 0, "a reader")
    writers = [Writer(lambda: gateway.ws, name, "main", 500, in_flight=50) for name in ("ann", "bob")]
    await asyncio.gather(*(writer.run() for writer in writers))
    late = Reader(lambda: gateway.ws, "late", "main")
    reading_late = asyncio.create_task(late.run())
    await asyncio.gather(live.until(1000), late.until(1000))
    audit(writers, [live, late])
    reading.cancel()
    reading_late.cancel()

    history = HistoryStore.open(worker.namespace.settings())
    try:

        async def rows() -> int:
            return len(await history.read_events("main", 1, 500)) + len(await history.read_events("main", 501, 600))

        await eventually(lambda: _equals(rows(), 1000), "exactly 1,000 rows in Cassandra")
    finally:
        await history.stop()

    for one in workers.values():
        await one.sigterm()
    await asyncio.gather(*(one.start() for one in workers.values()))
    again = Reader(lambda: gateway.ws, "again", "main")
    reading_again = asyncio.create_task(again.run())
    await again.until(1000)
    assert again.seen == live.seen
    more = Writer(lambda: gateway.ws, "cat", "main", 1)
    await more.run()
    assert more.receipts == {0: 1001}
    reading_again.cancel()


async def _equals(value: object, wanted: object) -> bool:
    return await value == wanted  # type: ignore[misc]


async def test_the_room_list_is_whole_again_within_five_seconds_of_a_flushall(worker: Workers) -> None:
    workers = await everything(worker)
    gateway = workers["gateway"]
    rooms = {f"room{i}" for i in range(5)}
    for room in rooms:
        await Writer(lambda: gateway.ws, "ann", room, 1).run()

    async def listed() -> set[str]:
        _, body = await get(gateway, "/api/v1/rooms")
        return {room["room"] for room in body["rooms"]}

    await eventually(lambda: _equals(listed(), rooms), "all rooms in the list")
    host, port = worker.namespace.settings().redis_address
    own = redis.asyncio.Redis(host=host, port=port)
    # FLUSHALL would hurt the other tests' namespaces: everything of this one is what it would delete here.
    keys = [key async for key in own.scan_iter(f"{worker.namespace.settings().namespace}:*")]
    assert keys
    await own.delete(*keys)
    await own.aclose()
    started = time.monotonic()
    await eventually(lambda: _equals(listed(), rooms), "the list whole again", within_s=5.0)
    assert time.monotonic() - started < 5.0


async def test_history_pages_are_dense_and_refusals_are_problem_documents(shared: dict[str, Worker]) -> None:
    gateway = shared["gateway"]
    await Writer(lambda: gateway.ws, "ann", "paged", 30).run()
    status, newest = await get(gateway, "/api/v1/rooms/paged/messages?limit=10")
    assert (status, [event["seq"] for event in newest["events"]]) == (200, list(range(21, 31)))
    assert newest["head_seq"] == 30
    _, before = await get(gateway, "/api/v1/rooms/paged/messages?before_seq=21&limit=15")
    assert [event["seq"] for event in before["events"]] == list(range(6, 21))
    _, after = await get(gateway, "/api/v1/rooms/paged/messages?after_seq=28&limit=15")
    assert [event["body"] for event in after["events"]] == ["ann 28", "ann 29"]
    _, around = await get(gateway, "/api/v1/rooms/paged/messages?around_seq=10&limit=4")
    assert [event["seq"] for event in around["events"]] == [8, 9, 10, 11]
    assert (await get(gateway, "/api/v1/rooms/nowhere/messages"))[1]["code"] == "room_not_found"
    assert (await get(gateway, "/api/v1/rooms/paged/messages?before_seq=x"))[1]["code"] == "bad_position"
    assert (await get(gateway, "/api/v1/rooms/bad%20id/messages"))[1]["code"] == "bad_room_id"
    assert (await get(gateway, "/api/v1/nothing"))[1]["code"] == "not_found"


async def test_a_slow_reader_is_closed_with_4008_and_costs_nobody_else_anything(worker: Workers) -> None:
    workers = await everything(worker, outbox_bytes_max=65_536, outbox_age_s=1.0)
    gateway = workers["gateway"]
    slow = await dial(lambda: gateway.ws, "slow")
    await slow.write(slow.stomp.subscribe("/room/loud", "0", receipt="s"))
    await slow.until("RECEIPT")
    slow.socket.transport.pause_reading()
    quick = Reader(lambda: gateway.ws, "quick", "loud")
    reading = asyncio.create_task(quick.run())
    ann = await dial(lambda: gateway.ws, "ann")
    body = "x" * 40_000
    closed = asyncio.Event()

    async def write() -> int:
        n = 0
        while not closed.is_set():
            n += 1
            await ann.write(ann.stomp.send("/room/loud", body, receipt=str(n)))
            await ann.until("RECEIPT", receipt_id=str(n))
        return n

    writing = asyncio.create_task(write())
    await eventually(lambda: "too_slow" in gateway.log(), "the slow reader noticed", within_s=40)
    slow.socket.transport.resume_reading()
    assert await close_code(slow) == 4008
    closed.set()
    await quick.until(await writing)
    assert quick.reconnects == 0
    reading.cancel()


async def test_sends_that_were_read_before_the_connection_dropped_are_carried_out(shared: dict[str, Worker]) -> None:
    gateway = shared["gateway"]
    ann = await dial(lambda: gateway.ws, "ann")
    await ann.write(*(ann.stomp.send("/room/hasty", f"ann {n}") for n in range(50)))
    await ann.socket.close()
    reader = Reader(lambda: gateway.ws, "bob", "hasty")
    reading = asyncio.create_task(reader.run())
    await reader.until(50)
    assert [body for _, body in reader.seen] == [f"ann {n}" for n in range(50)]
    reading.cancel()


async def test_a_stopping_gateway_says_1001_and_has_carried_out_what_it_read(worker: Workers) -> None:
    workers = await everything(worker)
    gateway = workers["gateway"]
    ann: Line = await dial(lambda: gateway.ws, "ann")
    await ann.write(ann.stomp.subscribe("/room/last", "0", receipt="s"))
    await ann.until("RECEIPT")
    started = time.monotonic()
    leaving = asyncio.create_task(gateway.sigterm())
    assert await close_code(ann) == 1001
    assert await leaving == 0
    assert time.monotonic() - started < 5.0
