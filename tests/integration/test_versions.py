"""A newer Roomlog beside an older one: what it adds is kept, what it changes is not guessed at, and order holds."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agents.sequencing.rows import physical_key
from chat.log.positions import committed
from chat.log.producer import Record
from chat.records import Tick, Verdict, encode, record_headers
from chat.settings import Settings
from chat.stores.cassandra.history import HistoryStore, bucket_of
from chat.stores.cassandra.session import Session
from chat.stores.redis import RecentTail
from chat.stores.redis.client import Client
from tests import engines
from tests.engines import Worker, Workers, eventually
from tests.eventlog import EventLog, post
from tests.integration.sequencing import Load, Log, until
from tests.people import dial

pytestmark = pytest.mark.timeout(300)

EVENT = "SELECT event FROM room_log WHERE room = ? AND bucket = ? AND seq = ?"


def rooms_apart(log: Log | EventLog, count: int) -> list[str]:
    """Rooms of which no two share a partition."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < count:
        found.setdefault(log.partition(f"room-{n}"), f"room-{n}")
        n += 1
    return list(found.values())


def stopped_lines(worker: Worker) -> list[str]:
    return [line for line in worker.log().splitlines() if "partition_stopped" in line]


def newer(value: bytes, **changed: object) -> bytes:
    return json.dumps(json.loads(value) | changed, separators=(",", ":")).encode()


async def with_commands(events: EventLog) -> None:
    """Let the command topic hold as many commands as the stand-in has answered."""
    async with Log(events.settings) as log:
        for partition, src in events.srcs.items():
            for _ in range(src + 1):
                await log.append(log.commands, partition, encode(Tick(v=1)))


# ---------------------------------------------------------------- what a newer version adds


async def test_a_field_that_is_not_known_here_is_kept_byte_for_byte_and_the_event_delivered(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        await log.fence(log.partition("r"))
        partition, record, event = log.decide(post("r", body="hello"))
        assert record.value is not None
        value = newer(record.value, mood={"glad": [1, 2.5, None]})
        await log.raw(partition, Record(record.key, value, record.headers))
        await with_commands(log)
    gateway, *_ = await worker.together("gateway", "sequencer", "archiver", "projector")

    line = await dial(lambda: gateway.ws, "ann")
    await line.write(line.stomp.subscribe("/room/r", "0", headers={"x-after-seq": "0"}))
    message = await line.until("MESSAGE")
    assert (message.headers["x-seq"], message.body) == ("1", b"hello")
    # The sequencer goes on from it.
    await line.write(line.stomp.send("/room/r", "next", receipt="n"))
    assert (await line.until("RECEIPT", receipt_id="n")).headers["x-seq"] == "2"
    await eventually(lambda: archived_as(settings, event.room, value), "Cassandra has its bytes")
    await eventually(lambda: projected_as(settings, event.room, value), "Redis has its bytes")


async def archived_as(settings: Settings, room: str, value: bytes) -> bool:
    session = Session(settings, [EVENT])
    try:
        return await session.rows(EVENT, (room, bucket_of(1), 1)) == [(value,)]
    finally:
        await session.stop()


async def projected_as(settings: Settings, room: str, value: bytes) -> bool:
    client = Client(settings, 5.0)
    try:
        key = client.keys.tail(room)
        return await client.run(lambda redis: redis.zrangebyscore(key, 1, 1)) == [value]
    finally:
        await client.stop()


# ---------------------------------------------------------------- what a newer version changes


@pytest.mark.parametrize("change", [{"v": 2}, {"kind": "room.painted"}], ids=["version", "kind"])
async def test_a_newer_event_stops_its_partition_and_no_other(worker: Workers, change: dict[str, object]) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        stuck, free = rooms_apart(log, 2)
        (first, *_) = await log.commands([post(stuck), post(free)])
        partition, record, _ = log.decide(post(stuck))
        assert record.value is not None
        headers = [(name, b"room.painted" if "kind" in change and name == "kind" else v) for name, v in record.headers]
        at = await log.raw(partition, Record(record.key, newer(record.value, **change), headers))
        readers = [await worker(role, start=False) for role in ("archiver", "projector")]
        for reader in readers:
            reader.spawn()
        more = await log.commands([post(free, body=f"{n}") for n in range(20)])
        await with_commands(log)
        history, tail = HistoryStore.open(settings), RecentTail(settings)
        stores: list[Callable[[str], Awaitable[object]]] = [
            lambda room: history.read_events(room, 1, 50),
            lambda room: tail.read_events(room, 1, 50),
        ]
        for read in stores:
            await eventually(_counts(read, free, 1 + len(more)), "the other partition goes on", 90)
            await eventually(_counts(read, stuck, 1), "what stands before it is kept", 90)
        await asyncio.gather(history.stop(), tail.stop())
        for reader in readers:
            await eventually(lambda reader=reader: stopped_lines(reader), "it says so")
            assert reader.alive
            assert not reader.is_ready()
            (line,) = stopped_lines(reader)
            assert f"partition {partition} stands still at offset {at}: event" in line
            assert "upgrade this worker" in line

            async def committed_up_to_it(role: str = reader.role) -> bool:
                checkpoint = (await committed(settings, role)).get(partition)
                return checkpoint is not None and checkpoint.newest.offset == at - 1

            await eventually(committed_up_to_it, "its position stands right before it")
    await sequencer_stops_for(worker, partition, free, f"event log, offset {at}: event")
    assert first.seq == 1


def _counts(read: Callable[[str], Awaitable[object]], room: str, count: int) -> Callable[[], Awaitable[bool]]:
    async def counts() -> bool:
        events = await read(room)
        assert isinstance(events, list)
        return len(events) == count

    return counts


async def sequencer_stops_for(worker: Workers, partition: int, free: str, words: str) -> None:
    """It stands still in `partition` with one line, and writes the others."""
    sequencer = await worker("sequencer", start=False)
    sequencer.spawn()
    await until(lambda: stopped_lines(sequencer), "the sequencer says so")
    async with Log(worker.namespace.settings()) as log:
        await log.post(free, "goes on")

        async def written() -> bool:
            return "goes on" in await bodies(log, free)

        await until(written, "the other partition is written")
    (line,) = stopped_lines(sequencer)
    assert f"partition {partition} stands still: {words}" in line
    assert "upgrade this worker" in line
    assert sequencer.alive
    assert not sequencer.is_ready()


async def bodies(log: Log, room: str) -> list[str]:
    """What messages of a partition say, read without deciding what counts: there is one writer."""
    records = (await log.read(log.events))[log.partition(room)]
    return [json.loads(r.value).get("body", "") for r in records if dict(r.headers).get("kind") == b"message"]


async def test_a_newer_verdict_stops_the_sequencers_partition_and_no_other(worker: Workers) -> None:
    async with EventLog(worker.namespace.settings()) as log:
        stuck, free = rooms_apart(log, 2)
        partition = log.partition(stuck)
        term = await log.fence(partition)
        verdict = newer(encode(Verdict(v=1, outcome="tick", at=5)), outcome="postponed")
        at = await log.raw(partition, Record(None, verdict, record_headers(0, term, "verdict")))
    await sequencer_stops_for(worker, partition, free, f"event log, offset {at}: verdict outcome 'postponed'")


async def test_a_newer_row_stops_the_sequencers_partition_and_no_other(worker: Workers) -> None:
    async with Log(worker.namespace.settings()) as log:
        stuck, free = rooms_apart(log, 2)
        partition = log.partition(stuck)
        topic = log.settings.topic("sequencer.rooms.changelog")
        at = await log.append(topic, partition, b'{"v":2,"term":7,"src":1}', physical_key(partition, 7, stuck))
    await sequencer_stops_for(worker, partition, free, f"{topic}, offset {at}: row version 2")


async def test_a_newer_command_waits_for_a_newer_sequencer_and_only_its_partition_with_it(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        stuck, free = rooms_apart(log, 2)
        await log.post(stuck, "before")
        at = await log.append(log.commands, log.partition(stuck), b'{"kind":"post","v":2}', stuck.encode())
        for n in range(5_000):  # more than a writer's inbox holds: nobody may wait for room in it
            await log.post_soon(stuck, f"after {n}", sender="ann", client_id=None)
        await log.post(free, "goes on")

        async def answers() -> tuple[int, int]:
            taken = (await log.taken()).answers
            return len(taken[log.partition(stuck)]), len(taken[log.partition(free)])

        async def others_go_on() -> bool:
            return (await answers())[1] >= 1

        await until(others_go_on, "the other partition is written")
        await until(lambda: stopped_lines(sequencer), "the sequencer says so")
        assert (await answers())[0] == 1
        (line,) = stopped_lines(sequencer)
        assert f"command {at}: command version 2, this code knows 1: upgrade this worker" in line
        assert sequencer.alive
        await until(lambda: not sequencer.is_ready(), "it is not ready")


# ---------------------------------------------------------------- two versions at work


def another_version(folder: Path) -> Path:
    """A copy of the tree whose rules refuse every seventh message: as if they had been changed."""
    for name in ("agents", "chat", "tables", "web"):
        ignore = shutil.ignore_patterns("ui", "static", "__pycache__")
        shutil.copytree(engines.ROOT / name, folder / name, ignore=ignore)
    shutil.copy(engines.ROOT / "app.py", folder / "app.py")
    rules = folder / "chat" / "rooms" / "decide.py"
    text = rules.read_text()
    strict = """        case PostMessage() if int(command.body.split()[-1]) % 7 == 0:
            return refuse_undecodable(command.room, Code.FORBIDDEN, "no sevens", at)
        case PostMessage():
"""
    assert text.count("        case PostMessage():\n") == 1
    rules.write_text(text.replace("        case PostMessage():\n", strict))
    return folder


async def test_two_versions_with_different_rules_leave_one_order_however_they_are_killed(
    worker: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer_one = await worker("sequencer", start=False), await worker("sequencer", start=False)
    copy = another_version(tmp_path / "another")

    def spawn(one: Worker) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(engines, "ROOT", copy if one is newer_one else engines.ROOT)
            one.spawn()

    async with Log(worker.namespace.settings()) as log:
        for one in (older, newer_one):
            spawn(one)
        await asyncio.gather(older.ready(), newer_one.ready())
        async with Load(log, rate_s=150, least=600) as load:

            async def more(count: int) -> None:
                """So many more messages are sent, and answered."""
                wanted = load.sent + count
                await until(lambda: load.sent >= wanted, "messages sent")
                await log.answered()

            for dying in (older, newer_one, older, newer_one):
                await more(50)  # both have partitions
                dying.kill9()
                spawn(dying)
                await dying.ready()
                await dying.sigterm()
                await log.answered()
                await more(50)  # the other one has all of them
                spawn(dying)
                await dying.ready()
        taken = await log.answered()  # every command has one answer, `src` has no hole: `Taker` saw to it
    for room, events in taken.rooms().items():
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), room
        ids = [event.client_id for event in events]
        assert len(ids) == len(set(ids)), room
    answers = [answer for of_partition in taken.answers.values() for _, answer in of_partition]
    refused = [answer for answer in answers if isinstance(answer, Verdict) and answer.outcome == "refused"]
    sevens = [event for event in taken.events() if int(event.body.split()[-1]) % 7 == 0]
    assert refused, "the other rules decided nothing"
    assert sevens, "the rules here decided nothing"
