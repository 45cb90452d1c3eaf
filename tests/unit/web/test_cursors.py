"""A room's cursor: positions, modes and the fan-out, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from chat.records import Event
from chat.stomp.acks import AckWindow
from chat.stomp.frames import AckMode, Version
from web.cursors import RING_EVENTS_MAX, GroupKey, Mode, RoomCursor, Subscription, Want


class Client:
    """What a cursor sees of a connection."""

    def __init__(self) -> None:
        self.outbox: list[bytes] = []
        self.dirty = False


def event(seq: int, body: str = "hello") -> Event:
    return Event(
        v=1,
        room="r",
        seq=seq,
        epoch="e",
        kind="message",
        at=seq,
        sender="ann",
        msg_no=seq,
        members=1,
        chain="",
        body=body,
    )


def subscription(client: Client, key: str = "0", window: AckWindow | None = None, next_seq: int = 1) -> Subscription:
    connection: Any = client
    made = Subscription(connection, key, 1, GroupKey(key, "/room/r", Version.V12, False), "ann", window, Want(), None)
    made.next_seq = next_seq
    return made


def cursor_at(next_seq: int) -> RoomCursor:
    cursor = RoomCursor("r")
    cursor.place(next_seq)
    return cursor


def attach(cursor: RoomCursor, one: Subscription) -> Subscription:
    one.cursor = cursor
    cursor.subscriptions.add(one)
    cursor.go_live(one)
    return one


def test_live_subscribers_with_the_same_id_share_one_frame() -> None:
    cursor, clients, dirty = cursor_at(1), [Client() for _ in range(3)], []
    for client in clients:
        attach(cursor, subscription(client))
    cursor.deliver(event(1), dirty)
    first, second, third = (client.outbox[0] for client in clients)
    assert first is second is third
    assert b"x-seq:1\n" in first
    assert dirty == clients


def test_a_connection_is_written_once_a_turn_however_many_events_it_gets() -> None:
    cursor, client, dirty = cursor_at(1), Client(), []
    attach(cursor, subscription(client))
    for seq in (1, 2, 3):
        cursor.deliver(event(seq), dirty)
    assert dirty == [client]
    assert len(client.outbox) == 3


def test_a_full_window_is_reported_and_holds_later_events_back() -> None:
    cursor, client, dirty = cursor_at(1), Client(), []
    one = attach(cursor, subscription(client, window=AckWindow(AckMode.CLIENT, 2, 1)))
    assert cursor.deliver(event(1), dirty) == []
    assert cursor.deliver(event(2), dirty) == [one]
    cursor.detach(one)
    cursor.deliver(event(3), dirty)
    assert len(client.outbox) == 2
    assert one.next_seq == 3


def test_a_detached_subscription_needs_what_the_cursor_gives_next() -> None:
    cursor, dirty = cursor_at(5), []
    one = attach(cursor, subscription(Client(), next_seq=5))
    cursor.deliver(event(5), dirty)
    cursor.detach(one)
    assert one.next_seq == 6
    assert cursor.groups == {}


def test_placing_a_cursor_ahead_takes_everybody_off_at_the_seq_they_miss() -> None:
    cursor = cursor_at(5)
    one = attach(cursor, subscription(Client(), next_seq=5))
    assert cursor.place(9) == [one]
    assert (one.next_seq, cursor.next_seq) == (5, 9)
    assert cursor.place(7) == []
    assert cursor.next_seq == 9


def test_a_subscription_ahead_of_the_room_gets_nothing_below_its_seq() -> None:
    cursor, client, dirty = cursor_at(1), Client(), []
    one = attach(cursor, subscription(client, next_seq=3))
    for seq in (1, 2, 3, 4):
        cursor.deliver(event(seq), dirty)
    assert [b"x-seq:%d\n" % seq in frame for seq, frame in zip((3, 4), client.outbox, strict=True)] == [True, True]
    assert one.mode is Mode.LIVE


def test_memory_answers_only_with_a_run_that_begins_where_asked() -> None:
    cursor, dirty = cursor_at(10), []
    for seq in range(10, 15):
        cursor.deliver(event(seq), dirty)
    assert [e.seq for e in cursor.recent(11, 2)] == [11, 12]
    assert cursor.recent(9, 10) == []
    assert cursor.recent(15, 10) == []


def test_memory_is_forgotten_at_a_hole() -> None:
    cursor = cursor_at(1)
    cursor.remember(event(1))
    cursor.remember(event(3))
    assert [e.seq for e in cursor.ring] == [3]


@pytest.mark.parametrize(("body", "kept"), [("x", RING_EVENTS_MAX), ("x" * 40_000, 26)])
def test_memory_is_bounded_in_events_and_in_bytes(body: str, kept: int) -> None:
    cursor, dirty = cursor_at(1), []
    for seq in range(1, RING_EVENTS_MAX + 100):
        cursor.deliver(event(seq, body), dirty)
    assert len(cursor.ring) == kept


def test_a_body_that_is_not_utf8_goes_to_everybody_as_a_binary_frame() -> None:
    cursor, client, dirty = cursor_at(1), Client(), []
    attach(cursor, subscription(client))
    raw = Event(
        v=1,
        room="r",
        seq=1,
        epoch="e",
        kind="message",
        at=1,
        sender="a",
        msg_no=1,
        members=1,
        chain="",
        body_b64="/w==",
    )
    cursor.deliver(raw, dirty)
    assert client.outbox[0][0] == 0x82
    assert client.outbox[0].endswith(b"\n\n\xff\x00")
