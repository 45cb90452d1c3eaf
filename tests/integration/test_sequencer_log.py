"""Snapshots, trimmed logs, garbage: what a sequencer finds when it starts, and what it makes of it."""

from __future__ import annotations

from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from agents.sequencing.rows import physical_key
from chat.errors import Code
from chat.records import Event, Tick, Verdict, Writer, decode_event, decode_verdict, encode, record_headers
from tests.engines import Worker, Workers
from tests.integration.sequencing import Load, Log, until

ROOM = "lobby"


async def delete_records(log: Log, topic: str, before: dict[int, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=log.settings.kafka_servers)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic, p): RecordsToDelete(before_offset=offset) for p, offset in before.items()}
        )
    finally:
        await admin.close()


async def checkpoint(log: Log, partition: int) -> dict[str, Any]:
    """The newest checkpoint of a partition."""
    newest: dict[str, Any] = {"term": -1}
    for record in (await log.rows("checkpoints"))[partition]:
        if record.value is not None:
            row = orjson.loads(record.value)
            newest = max(newest, row["row"] | {"term": row["term"]}, key=lambda row: row["term"])
            if newest["term"] == row["term"]:
                newest = row["row"]
    return newest


async def snapshotted(log: Log) -> dict[int, dict[str, Any]]:
    """The checkpoints of all partitions once they hold everything that has been answered."""
    taken = await log.answered()
    found: dict[int, dict[str, Any]] = {}

    async def all_there() -> bool:
        for partition, answers in taken.answers.items():
            if answers:
                found[partition] = await checkpoint(log, partition)
                if found[partition].get("src") != len(answers) - 1:
                    return False
        return True

    await until(all_there, "a snapshot of everything")
    return found


async def stopped_with(worker: Worker, status: int, words: str) -> None:
    """The process ends with `status` and one line that holds `words`."""
    await until(lambda: not worker.alive, "the process leaves")
    assert worker._process is not None
    assert worker._process.returncode == status
    lines = [line for line in worker.log().splitlines() if "sequencer_leaves" in line]
    assert len(lines) == 1
    assert words in lines[0]


async def test_numbering_goes_on_after_a_silence_longer_than_any_retention(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        async with Load(log, least=200, rate_s=1000, rooms=5):
            pass
        before = (await log.answered()).rooms()
        checkpoints = await snapshotted(log)
        assert await sequencer.sigterm() == 0
        # Commands are gone for good; events are trimmed exactly at the checkpoint.
        await delete_records(log, log.commands, await log.ends(log.commands))
        await delete_records(log, log.events, {p: row["offset"] + 1 for p, row in checkpoints.items()})
        await sequencer.start()
        for room in before:
            await log.post(room, "still here", sender="user-0")
        await log.post("room-0", "message 0", sender="user-0", client_id="id-0")
        await until(lambda: _answered(log, before), "new messages")


async def _answered(log: Log, before: dict[str, list[Event]]) -> bool:
    events: dict[str, list[Event]] = {}
    duplicates: list[Verdict] = []
    for records in (await log.read(log.events)).values():
        for record in records:
            kind = dict(record.headers).get("kind")
            if kind == b"verdict":
                verdict = decode_verdict(record.value)
                if verdict.outcome != "tick":  # one stands there whenever a minute has ended meanwhile
                    duplicates.append(verdict)
            elif kind == b"message":
                event = decode_event(record.value)
                events.setdefault(event.room, []).append(event)
    if not (events.keys() == before.keys() and duplicates):
        return False
    assert {room: event.seq for room, (event,) in events.items()} == {r: len(old) + 1 for r, old in before.items()}
    assert {room: event.epoch for room, (event,) in events.items()} == {r: old[0].epoch for r, old in before.items()}
    # A client's id from before the silence is still known.
    assert [(verdict.outcome, verdict.seq) for verdict in duplicates] == [("duplicate", 1)]
    return True


async def test_a_restart_folds_only_what_came_after_the_snapshot(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        await log.post(ROOM)
        await snapshotted(log)
        for n in range(1, 4):
            await sequencer.restart()
            await log.post(ROOM, f"{n}")
            await log.answered()
        await log.check(taken := await log.answered())
        assert [event.seq for event in taken.events()] == [1, 2, 3, 4]
        # Rows of terms that are over go, once the newest owner has written its own.
        await snapshotted(log)
        partition = log.partition(ROOM)

        async def one_head_is_left() -> bool:
            heads: dict[bytes, bytes | None] = {}
            for record in (await log.rows("rooms"))[partition]:
                heads[record.key] = record.value
            alive = [key for key, value in heads.items() if value is not None]
            return len(alive) == 1 and len(heads) > 1

        await until(one_head_is_left, "older terms' rows are deleted")


async def test_events_lost_before_they_were_in_the_rows_stop_their_partition_and_no_other(worker: Workers) -> None:
    sequencer = await worker("sequencer", start=False)
    async with Log(worker.namespace.settings()) as log:
        lost, other = log.partition("room-0"), log.partition("room-1")
        assert lost != other
        term = await log.append(log.events, lost, encode(Writer(v=1, id="x")), headers=[("kind", b"writer")])
        await log.append(log.events, lost, b"{}", headers=record_headers(0, term, "message"))
        await delete_records(log, log.events, {lost: 2})
        sequencer.spawn()
        await until(lambda: "partition_stopped" in sequencer.log(), "the partition is stopped")
        assert "lost events" in sequencer.log()
        await log.post("room-1")

        async def other_goes_on() -> bool:
            return any(dict(r.headers).get("kind") == b"message" for r in (await log.read(log.events))[other])

        await until(other_goes_on, "the other partition is written")
        assert not sequencer.is_ready()


async def test_commands_lost_before_they_were_answered_stop_their_partition(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        await log.post(ROOM)
        await log.answered()
        sequencer.kill9()
        await log.post(ROOM)
        await log.post(ROOM)
        await delete_records(log, log.commands, {log.partition(ROOM): 2})
        sequencer.spawn()
        await until(lambda: "partition_stopped" in sequencer.log(), "the partition is stopped")
        assert "lost commands" in sequencer.log()


async def test_garbage_among_the_commands_is_parked_and_the_partition_goes_on(worker: Workers) -> None:
    await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        partition = log.partition(ROOM)
        await log.post(ROOM)
        garbage: list[tuple[bytes | None, bytes | None, Any]] = [
            (b"", None, ()),
            (b"\xff", b"\xff\x00", ()),
            (ROOM.encode(), b"{}", [("cmd", b"me")]),
            (ROOM.encode(), b'{"kind":"post","x":' + b"[" * 20_000, ()),
            (b"elsewhere", b'{"kind":"join","v":1,"room":"elsewhere","sender":"a b"}', ()),
            (ROOM.encode(), b'{"kind":"join","v":1,"room":"lobby","sender":"bob"}', [("cmd", b"x" * 500)]),
            (ROOM.encode(), b"x" * 700_000, [("h" * 100, b"y" * 1000)] * 100),
        ]
        for key, value, headers in garbage:
            await log.append(log.commands, partition, value, key, headers)
        await log.append(log.commands, partition, encode(Tick(v=1)), b"")
        await log.post(ROOM)
        await log.check(taken := await log.answered())
        assert [event.seq for event in taken.events()] == [1, 2]
        refusals = [
            verdict.code
            for _, verdict in taken.answers[partition]
            if isinstance(verdict, Verdict) and verdict.outcome == "refused"
        ]
        assert len(refusals) == len(garbage)
        assert set(refusals) <= {Code.UNDECODABLE, Code.IMPOSSIBLE}
        parked = [record for records in (await log.read(log.dead_letters)).values() for record in records]
        assert {record.key for record in parked} == {
            f"{log.commands}-{partition}-{offset}".encode() for offset in range(1, 1 + len(garbage))
        }


async def test_garbage_among_the_events_is_passed_over(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        partition = log.partition(ROOM)

        async def litter() -> None:
            await log.append(log.events, partition, b"\xff", b"\xff")
            await log.append(log.events, partition, None, b"k")
            await log.append(log.events, partition, b"{}", b"k", [("src", b"7"), ("term", b"x"), ("kind", b"message")])
            await log.append(log.events, partition, b"{}", b"k", [("src", b""), ("term", b""), ("kind", b"message")])
            await log.append(log.events, partition, b"{}", b"k", record_headers(0, 4711, "message"))

        await log.post(ROOM)
        await log.answered()
        await litter()
        await log.post(ROOM)
        await log.answered()
        await litter()
        await sequencer.restart()
        await log.post(ROOM)
        await log.check(taken := await log.answered())
    assert [event.seq for event in taken.events()] == [1, 2, 3]
    assert len(taken.ignored) == 10


async def test_garbage_among_the_rows_is_parked_and_the_rows_stay(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        partition = log.partition(ROOM)
        await log.post(ROOM, client_id="a")
        term = (await snapshotted(log))[partition]["term"]
        sequencer.kill9()
        topic = log.settings.topic("sequencer.rooms.changelog")
        await log.append(topic, partition, b"junk", b"junk")
        await log.append(topic, partition, b"junk", physical_key(partition, term, ROOM))
        await log.append(topic, partition, b'{"v":1,"term":99,"src":1}', physical_key(partition, term, ROOM))
        await sequencer.start()
        await log.post(ROOM, client_id="a")
        await log.post(ROOM, client_id="b")
        await log.check(taken := await log.answered())
        assert [event.seq for event in taken.events()] == [1, 2]
        parked = [record for records in (await log.read(log.dead_letters)).values() for record in records]
        assert len(parked) == 3


async def test_a_strangers_fence_makes_the_owner_leave_and_come_back(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        await log.post(ROOM)
        await log.answered()
        await log.append(log.events, log.partition(ROOM), b"whatever", headers=[("kind", b"writer")])
        await log.post(ROOM)
        await stopped_with(sequencer, 70, "Fenced")
        await sequencer.start()
        await log.check(taken := await log.answered())
        assert [event.seq for event in taken.events()] == [1, 2]


async def test_a_second_process_of_one_name_does_no_harm(worker: Workers) -> None:
    """A double start, with another address: the group knows one of them, and nobody stays who is not known."""
    first = await worker("sequencer")
    second = Worker(
        "sequencer", "sequencer", worker.namespace.environment(), worker.namespace.data / "log" / "double.log"
    )
    worker.all.append(second)
    async with Log(worker.namespace.settings()) as log:
        async with Load(log, rate_s=200) as load:
            second.spawn()
            await until(lambda: not second.alive, "the second one ends by itself")
            assert "consumer_group_lost" in second.log()
            await until(lambda sent=load.sent: load.sent > sent + 100, "messages sent")
        assert first.alive
        await log.check(taken := await log.answered())
    assert len(taken.events()) == load.sent
