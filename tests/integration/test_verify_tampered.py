"""`verify` on real engines that were tampered with: what is wrong is named with store, room and seq, and left as it is."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis.asyncio as driver
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from agents.verify import Audit
from chat.errors import Unavailable
from chat.log.bases import Base, write_base
from chat.log.producer import Record
from chat.log.taking import Position
from chat.log.topics import admin_client
from chat.records import Event, RenumberRoom, encode, record_headers
from chat.stores.redis.client import Keys
from tests.engines import Namespace
from tests.eventlog import EventLog, join, leave, post
from tests.forwarder import Forwarder
from tests.integration.verifying import audit, cql, faust, found
from tests.stored import StoredLog

pytestmark = pytest.mark.timeout(300)

LATER = 2_000_000_000_000_000
"""A timestamp above every log time: what is written with it stands."""

_state: dict[str, dict[str, Any]] = defaultdict(dict)


@pytest.fixture
async def log(module_topics: Namespace, module_keyspace: Namespace) -> AsyncIterator[StoredLog]:
    """Shared by the tests that use rooms of their own."""
    async with StoredLog(module_topics.settings(), _state[module_topics.name]) as shared:
        yield shared


@pytest.fixture
async def own_log(topics: Namespace, keyspace: Namespace) -> AsyncIterator[StoredLog]:
    async with StoredLog(topics.settings()) as own:
        yield own


async def room_with(log: EventLog, room: str, count: int = 12) -> list[Event]:
    """A room of `count` messages and three people, in all stores, found to be clean."""
    events = await log.commands(
        [*(post(room, body=f"message {n}") for n in range(count)), join(room, "bob"), join(room, "eve"), leave(room, "bob")]
    )  # fmt: skip
    assert found(await audit(log.settings, room)) == set()
    return events


# ---------------------------------------------------------------- tampered with: Cassandra


async def test_rows_of_the_archive_that_were_tampered_with_are_named_and_left(log: StoredLog) -> None:
    settings = log.settings
    events = await room_with(log, "rows")
    values = [encode(event) for event in events]
    insert = "INSERT INTO room_log (room, bucket, seq, event) VALUES (%s, 0, %s, %s) USING TIMESTAMP %s"
    await cql(settings, "DELETE FROM room_log WHERE room = 'rows' AND bucket = 0 AND seq = 3")
    await cql(settings, insert, "rows", 5, values[4].replace(b"message 4", b"messbge 4"), LATER)
    await cql(settings, insert, "rows", 7, values[7], LATER)
    await cql(settings, insert, "rows", 8, values[6], LATER)
    await cql(settings, insert, "rows", 10, b"{", LATER)
    await cql(settings, insert, "rows", 40, values[1], LATER)
    await cql(settings, "UPDATE room_log USING TIMESTAMP %s SET sender = 'm' WHERE room = 'rows' AND bucket = 0 AND seq = 12", LATER)  # fmt: skip
    expected = {
        ("cassandra", "room_log", "rows", 3, "missing"),
        ("cassandra", "room_log", "rows", 5, "differs"),
        ("cassandra", "room_log", "rows", 7, "out of order"),
        ("cassandra", "room_log", "rows", 10, "does not decode"),
        ("cassandra", "room_log", "rows", 40, "too many"),
    }
    summary = await audit(settings, "rows")
    assert found(summary) == expected
    assert summary.status == 1
    assert found(await audit(settings, "rows")) == expected, "it is reported, not repaired"
    # What differs at seq 5 and 12 is one finding with two places.
    assert [f.count for f in summary.findings if f.wrong.value == "differs"] == [2]


async def test_what_the_archive_says_of_a_room_and_its_people_is_compared(log: StoredLog) -> None:
    settings = log.settings
    events = await room_with(log, "people")
    last = events[-1].seq
    await cql(settings, "UPDATE rooms USING TIMESTAMP %s SET members = 9 WHERE room = 'people'", LATER)
    for table, keys in (("room_members", "room, user"), ("user_rooms", "room, user")):
        insert = f"INSERT INTO {table} ({keys}, role, seq, at) VALUES ('people', %s, %s, %s, %s) USING TIMESTAMP %s"
        await cql(settings, insert, "mallory", "owner", 4, 5, LATER)
        await cql(settings, insert, "eve", "owner", events[-2].seq, events[-2].at, LATER)
        await cql(settings, insert, "bob", "member", events[-3].seq, events[-3].at, LATER)
        await cql(settings, f"DELETE FROM {table} WHERE room = 'people' AND user = 'alice'")
    assert found(await audit(settings, "people")) == {
        ("cassandra", "rooms", "people", last, "differs"),
        ("cassandra", "room_members", "people", 1, "missing"),
        ("cassandra", "room_members", "people", 4, "too many"),
        ("cassandra", "room_members", "people", last - 1, "differs"),
        ("cassandra", "room_members", "people", last - 2, "stale"),
        ("cassandra", "user_rooms", "people", 1, "missing"),
        ("cassandra", "user_rooms", "people", last - 1, "differs"),
        ("cassandra", "user_rooms", "people", last - 2, "stale"),
    }
    await cql(settings, "UPDATE rooms USING TIMESTAMP %s SET members = 2, seq = 4 WHERE room = 'people'", LATER + 1)
    assert ("cassandra", "rooms", "people", 4, "stale") in found(await audit(settings, "people"))
    await cql(settings, "DELETE FROM rooms USING TIMESTAMP %s WHERE room = 'people'", LATER + 2)
    assert ("cassandra", "rooms", "people", last, "missing") in found(await audit(settings, "people"))


# ---------------------------------------------------------------- tampered with: Redis


async def test_what_redis_holds_of_a_room_is_compared(log: StoredLog) -> None:
    settings = log.settings
    events = await room_with(log, "memory")
    keys, last = Keys(settings), events[-1]
    host, port = settings.redis_address
    async with driver.Redis(host=host, port=port) as redis:
        tail, room = keys.tail("memory"), keys.room("memory")
        before = await redis.zrange(tail, 0, -1, withscores=True)
        await redis.zremrangebyscore(tail, 4, 4)
        await redis.zremrangebyscore(tail, 6, 6)
        await redis.zadd(tail, {encode(events[5]).replace(b"message 5", b"messbge 5"): 6, b"{": 30})
        await redis.hset(room, mapping={"members": 9, "owner": "mallory"})
        await redis.zadd(keys.rooms, {"memory": 5})
        assert found(await audit(settings, "memory")) == {
            ("redis", "tail", "memory", 4, "missing"),
            ("redis", "tail", "memory", 6, "differs"),
            ("redis", "tail", "memory", 30, "too many"),
            ("redis", "room", "memory", last.seq, "differs"),
            ("redis", "rooms", "memory", last.seq, "differs"),
        }
        await redis.delete(tail)
        await redis.zadd(tail, dict(before[:-1]))
        await redis.hset(room, mapping={"seq": last.seq - 1, "members": 2, "owner": "alice"})
        await redis.zrem(keys.rooms, "memory")
        assert found(await audit(settings, "memory")) == {
            ("redis", "tail", "memory", last.seq - 1, "stale"),
            ("redis", "room", "memory", last.seq - 1, "stale"),
            ("redis", "rooms", "memory", last.seq, "missing"),
        }
        await redis.delete(tail, room)
        assert found(await audit(settings, "memory")) == {("redis", "room", "memory", last.seq, "missing")}


# ---------------------------------------------------------------- tampered with: the log, everything


async def forged(log: StoredLog, event: Event) -> None:
    """`event` as the next record of its partition, and in both stores, as if the sequencer had written it."""
    partition = log.partition(event.room)
    log.srcs[partition] += 1
    headers = record_headers(log.srcs[partition], log.terms[partition], event.kind)
    await log.raw(partition, Record(event.room.encode(), encode(event), headers))
    await log.store([event])
    await log.committed()


async def test_a_changed_event_that_stands_everywhere_breaks_the_chain(log: StoredLog) -> None:
    await log.commands(post("forged", body=f"message {n}") for n in range(10))
    room = log.rooms["forged"]
    _, _, event = log.decide(post("forged", body="what was said"))
    log.srcs[log.partition("forged")] -= 1
    await forged(log, msgspec.structs.replace(event, body="what was never said"))
    await log.commands([post("forged")])
    assert room.head is not None
    summary = await audit(log.settings, "forged")
    partition = f"room.events/{log.partition('forged')}"
    assert found(summary) == {("log", partition, "forged", 11, "chain broken")}
    assert str(next(iter(summary.findings))) == f"log {partition} room forged seq 11: chain broken"


async def test_what_a_put_out_writer_left_in_the_log_is_no_finding(log: StoredLog) -> None:
    await log.commands(post("zombie", body=f"message {n}") for n in range(10))
    partition = log.partition("zombie")
    old = log.terms[partition]
    await log.fence(partition)
    event = msgspec.structs.replace((await log.commands([post("zombie")]))[0], body="of a zombie")
    late = Record(b"zombie", encode(event), record_headers(log.srcs[partition] + 1, old, event.kind))
    repeat = Record(b"zombie", encode(event), record_headers(log.srcs[partition], log.terms[partition], event.kind))
    await log.raw(partition, late, repeat, Record(b"zombie", b"of a stranger", []))
    await log.committed()
    summary = await audit(log.settings, "zombie")
    assert (found(summary), summary.status, summary.foreign) == (set(), 0, 1)


async def test_drops_and_doubles_and_what_does_not_decode_are_found_in_the_log(log: StoredLog) -> None:
    events = await log.commands(post("dropped", body=f"message {n}") for n in range(10))
    partition = f"room.events/{log.partition('dropped')}"
    log.decide(post("dropped"))  # seq 11 is never written
    log.srcs[log.partition("dropped")] -= 1
    await log.commands([post("dropped")])
    await forged(log, events[4])
    number = log.partition("dropped")
    log.srcs[number] += 1
    headers = record_headers(log.srcs[number], log.terms[number], "message")
    await log.raw(number, Record(b"dropped", b"{", headers))
    await log.committed()
    assert found(await audit(log.settings, "dropped")) == {
        ("log", partition, "dropped", 11, "missing"),
        ("log", partition, "dropped", 5, "twice"),
        ("log", partition, "dropped", 0, "does not decode"),
    }


async def test_a_hole_in_the_log_is_found_and_what_lies_before_it_is_compared(own_log: StoredLog) -> None:
    await own_log.commands(post("r", body=f"message {n}") for n in range(10))
    partition = own_log.partition("r")
    own_log.srcs[partition] += 1  # a command without a record
    await own_log.commands(post("r", body=f"message {n}") for n in range(10))
    await cql(own_log.settings, "DELETE FROM room_log WHERE room = 'r' AND bucket = 0 AND seq = 3")
    summary = await audit(own_log.settings)
    assert {(f.store.value, f.room, f.seq, f.wrong.value) for f in summary.findings} >= {
        ("log", "", 0, "missing"),
        ("cassandra", "r", 3, "missing"),
    }
    assert summary.status == 1


async def test_what_only_the_stores_know_is_found(own_log: StoredLog) -> None:
    settings = own_log.settings
    events = await own_log.commands([*(post("r", body=f"message {n}") for n in range(10)), join("r", "eve")])
    insert = "INSERT INTO room_log (room, bucket, seq, event) VALUES (%s, %s, %s, %s) USING TIMESTAMP %s"
    await cql(settings, insert, "ghost", 0, 1, encode(events[0]), LATER)
    await cql(settings, insert, "r", 7, 35_001, encode(events[0]), LATER)
    await cql(settings, insert, "r", 7, 3, encode(events[0]), LATER)
    await cql(settings, "INSERT INTO rooms (room, seq, first_seq) VALUES ('phantom', 2, 1) USING TIMESTAMP %s", LATER)
    lists = "INSERT INTO user_rooms (user, room, role, seq, at) VALUES (%s, %s, 'owner', 3, 5) USING TIMESTAMP %s"
    await cql(settings, lists, "mallory", "r", LATER)
    await cql(settings, lists, "mallory", "spectre", LATER)
    await cql(settings, "DELETE FROM user_rooms WHERE user = 'eve' AND room = 'r'")
    keys = Keys(settings)
    host, port = settings.redis_address
    async with driver.Redis(host=host, port=port) as redis:
        await redis.hset(keys.room("shade"), mapping={"seq": 3, "at": 1})
        await redis.zadd(keys.rooms, {"shadow": 5})
        await redis.zadd(keys.tail("echo"), {b"{": 5})
    assert found(await audit(settings)) == {
        ("cassandra", "room_log", "ghost", 1, "does not decode"),
        ("cassandra", "room_log", "ghost", 1, "missing"),
        ("cassandra", "rooms", "ghost", 1, "missing"),
        ("cassandra", "room_log", "r", 3, "too many"),
        ("cassandra", "room_log", "phantom", 1, "missing"),
        ("cassandra", "user_rooms", "r", 3, "too many"),
        ("cassandra", "user_rooms", "r", 11, "missing"),
        ("cassandra", "user_rooms", "spectre", 3, "too many"),
        ("redis", "room", "shade", 3, "too many"),
        ("redis", "room", "shadow", 0, "too many"),
        ("redis", "room", "echo", 0, "too many"),
    }


# ---------------------------------------------------------------- a trimmed log


async def trimmed_at(log: StoredLog, position: Position) -> None:
    """Cut the log of `lobby`'s partition after `position`, as the operation does."""
    partition = log.partition("lobby")
    assert log._producer is not None
    await write_base(log._producer, log.settings, partition, Base(1, *position, at=0))
    async with admin_client(log.settings) as admin:
        tp = TopicPartition(log.topic, partition)
        await admin.delete_records({tp: RecordsToDelete(before_offset=position.offset + 1)})


async def test_what_the_log_no_longer_holds_is_walked_in_the_archive(own_log: StoredLog) -> None:
    settings, partition = own_log.settings, own_log.partition("lobby")
    quiet = next(f"quiet{n}" for n in range(100) if own_log.partition(f"quiet{n}") == partition)
    await own_log.commands([*(post(quiet, body=f"message {n}") for n in range(7)), join(quiet, "bob")])
    await own_log.commands([*(post("lobby", body=f"message {n}") for n in range(2_500)), join("lobby", "bob")])
    cut = Position(own_log.offsets[partition], own_log.srcs[partition], own_log.terms[partition])
    await trimmed_at(own_log, cut)
    await own_log.commands([*(post("lobby", body=f"message {n}") for n in range(20)), leave("lobby", "bob")])
    clean = await audit(settings)
    assert (found(clean), clean.events, clean.rooms) == (set(), 21, 2)
    assert found(await audit(settings, quiet)) == set()
    tamper = "INSERT INTO room_log (room, bucket, seq, event) VALUES (%s, 0, %s, %s) USING TIMESTAMP %s"
    ((value,),) = await cql(settings, "SELECT event FROM room_log WHERE room = 'lobby' AND bucket = 0 AND seq = 1234")
    await cql(settings, tamper, "lobby", 1234, value.replace(b"message", b"messbge", 2).replace(b'"messbge"', b'"message"', 1), LATER)  # fmt: skip
    await cql(settings, f"DELETE FROM room_log WHERE room = '{quiet}' AND bucket = 0 AND seq = 4")
    tampered = await audit(settings)
    assert found(tampered) == {
        ("cassandra", "room_log", "lobby", 1234, "chain broken"),
        ("cassandra", "room_log", quiet, 4, "missing"),
    }
    await cql(settings, "DELETE FROM room_log WHERE room = 'lobby' AND bucket = 0 AND seq = 2501")
    assert ("cassandra", "room_log", "lobby", 2501, "missing") in found(await audit(settings, "lobby"))


@pytest.mark.parametrize("cut_last", [False, True])
async def test_a_room_that_was_numbered_anew_is_clean_from_there_whatever_the_log_still_has(
    own_log: StoredLog, cut_last: bool
) -> None:
    partition = own_log.partition("lobby")
    await own_log.commands([*(post("lobby") for _ in range(5)), join("lobby", "bob")])
    cut = Position(own_log.offsets[partition], own_log.srcs[partition], own_log.terms[partition])
    events = await own_log.commands([post("lobby"), post("lobby")])
    if cut_last:
        cut = Position(own_log.offsets[partition], own_log.srcs[partition], own_log.terms[partition])
    await trimmed_at(own_log, cut)
    renumber = RenumberRoom(v=1, room="lobby", sender="op", epoch=events[0].epoch, above=7_000)
    await own_log.commands([renumber, *(post("lobby") for _ in range(3)), join("lobby", "eve")])
    assert found(await audit(own_log.settings)) == set()
    assert found(await audit(own_log.settings, "lobby")) == set()
    await cql(own_log.settings, "UPDATE rooms USING TIMESTAMP %s SET first_seq = 6900 WHERE room = 'lobby'", LATER)
    await cql(own_log.settings, "DELETE FROM room_log WHERE room = 'lobby' AND bucket = 1 AND seq = 7002")
    assert found(await audit(own_log.settings)) >= {
        ("cassandra", "rooms", "lobby", 7_005, "differs"),
        ("cassandra", "room_log", "lobby", 7_002, "missing"),
    }


# ---------------------------------------------------------------- what cannot be read


async def test_a_store_that_is_away_is_one_line_and_status_2(log: StoredLog, module_topics: Namespace) -> None:
    await log.commands([post("away")])
    for engine in ("cassandra", "redis"):
        async with Forwarder(getattr(log.settings, engine)) as forwarder:
            await forwarder.off()
            done = await asyncio.to_thread(
                faust, module_topics, "verify", "--wait", "1", **{engine: forwarder.address}
            )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith(f"roomlog: stopped: {engine.capitalize()}: ")
        assert done.stderr.count("roomlog: ") == 1
        assert done.stdout.splitlines()[-1] == "0 events of 0 rooms: not all could be read"


async def test_a_store_that_goes_away_in_the_middle_is_not_called_clean(log: StoredLog) -> None:
    await log.commands(post(f"room{n % 50}") for n in range(500))
    async with Forwarder(log.settings.cassandra) as forwarder:
        made = Audit(replace(log.settings, cassandra=forwarder.address))
        try:
            await made.connect()
            await forwarder.off()
            with pytest.raises(Unavailable):
                await made.run(1)
        finally:
            await made.stop()


async def test_a_reader_that_is_behind_leaves_something_unverified_and_that_is_said(
    log: StoredLog, module_topics: Namespace
) -> None:
    await log.commands([post("behind")])
    await EventLog.commands(log, [post("behind")])
    await log.committed(roles=["archiver"])
    done = await asyncio.to_thread(faust, module_topics, "verify", "--room", "behind", "--wait", "1")
    assert done.returncode == 2, done.stdout
    assert re.fullmatch(r"roomlog: \S+ partition \d+: the projector has come to \d+ of \d+: what follows is not verified\n", done.stderr)  # fmt: skip
    assert "1 events of 1 rooms" in done.stdout


async def test_a_directory_that_is_being_rebuilt_is_not_called_clean(log: StoredLog) -> None:
    await log.commands([post("rebuilt")])
    await log._projection._client.redis.hdel(Keys(log.settings).whole, str(log.partition("rebuilt")))
    summary = await audit(log.settings, "rebuilt", wait_s=0.5)
    assert summary.unread == ["Redis: 1 partitions are being rebuilt by the projector"]
    assert summary.status == 2


async def test_findings_are_printed_as_text_and_as_json(log: StoredLog, module_topics: Namespace) -> None:
    await log.commands(post("printed", body=f"message {n}") for n in range(10))
    await cql(log.settings, "DELETE FROM room_log WHERE room = 'printed' AND bucket = 0 AND seq = 3")
    text = await asyncio.to_thread(faust, module_topics, "verify", "--room", "printed")
    assert (text.returncode, text.stderr) == (1, "")
    finding, closing = text.stdout.splitlines()
    assert finding == "cassandra room_log room printed seq 3: missing"
    # Other tests may have left records of strangers in the partition.
    assert re.fullmatch(r"10 events of 1 rooms(, \d+ records of strangers passed over)?: 1 findings", closing)
    as_json = await asyncio.to_thread(faust, module_topics, "verify", "--json", "--room", "printed")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout) == {
        "store": "cassandra", "part": "room_log", "room": "printed", "wrong": "missing", "seq": 3, "detail": "", "count": 1,
    }  # fmt: skip
    nothing = await asyncio.to_thread(faust, module_topics, "verify", "--room", "no-such-room")
    assert nothing.returncode == 2
    assert nothing.stderr == "roomlog: room no-such-room: neither the log nor Cassandra has it\n"
