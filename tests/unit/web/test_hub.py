"""The hub: what a subscription sees when the tail has holes, when history is late, and when its window opens."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from chat.errors import Code, Refused, Unavailable
from chat.log.taking import Take
from chat.records import Event, Verdict, WatchAnswer, encode, record_headers
from chat.stomp.acks import AckWindow
from chat.stomp.frames import AckMode, Version
from web.cursors import GroupKey, Mode, Subscription, Want
from web.hub import Hub

GATEWAY = b"gateway1"


def event(seq: int, kind: Any = "message", epoch: str = "e") -> Event:
    return Event(
        v=1,
        room="r",
        seq=seq,
        epoch=epoch,
        kind=kind,
        at=seq,
        sender="ann",
        msg_no=seq,
        members=1,
        chain="",
        body="x",
    )


class Log:
    """Keeps appended commands; the test answers them."""

    gateway_id = GATEWAY

    def __init__(self) -> None:
        self.appended: list[tuple[str, Any, Any]] = []

    def append(self, room: str, commands: list[tuple[Any, Any]]) -> None:
        self.appended += [(room, command, waiting) for command, waiting in commands]

    def answer(self, command_id: bytes, answer: Event | Verdict) -> None:
        raise AssertionError("no command of this test has an id")


class History:
    """Events that a store holds; `away` while it does not answer."""

    def __init__(self, *seqs: int) -> None:
        self.seqs = set(seqs)
        self.away = False
        self.reads = 0

    async def read(self, room: str, from_seq: int, limit: int, *, head_seq: int, scan: bool) -> tuple[list[Event], str]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        found = []
        while from_seq + len(found) in self.seqs and len(found) < limit:
            found.append(event(from_seq + len(found)))
        return found, "cassandra"


class Client:
    """A connection that keeps what it gets."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.outbox: list[bytes] = []
        self.dirty = False
        self.closing = False
        self.refused: list[Refused] = []
        self.heads: list[int] = []

    def seqs(self) -> list[int]:
        return [int(frame.split(b"x-seq:")[1].split(b"\n")[0]) for frame in self.outbox]

    def flush(self) -> None:
        self.dirty = False

    async def writable(self) -> None:
        await asyncio.sleep(0)

    def subscribed(self, subscription: Subscription, answer: WatchAnswer) -> None:
        self.heads.append(answer.head_seq)

    def subscription_refused(self, subscription: Subscription, refusal: Refused) -> None:
        self.refused.append(refusal)

    def fail(self, refusal: Refused) -> None:
        self.refused.append(refusal)


class Bench:
    """A hub with one client."""

    def __init__(self, *stored: int) -> None:
        self.log, self.history = Log(), History(*stored)
        log: Any = self.log
        history: Any = self.history
        self.hub = Hub(log, history, creates_on_first_use=True)
        self.client = Client(self.hub)

    def subscribe(self, want: Want = Want(), window: AckWindow | None = None) -> Subscription:  # noqa: B008
        client: Any = self.client
        key = GroupKey("0", "/room/r", Version.V12, False)
        made = Subscription(client, "0", 1, key, "ann", window, want, None)
        self.hub.watch("r", made)
        self.hub.before_command("r")
        return made

    def verdict(self, head_seq: int, epoch: str = "e", first_seq: int = 1, **denied: Any) -> None:
        _, _, waiting = self.log.appended.pop(0)
        answer = WatchAnswer(head_seq=head_seq, first_seq=first_seq, msg_no=head_seq, epoch=epoch, denied=denied)
        waiting.answered(Verdict(v=1, outcome="watch", at=1, watch=answer))

    def tail(self, *seqs: int) -> None:
        for seq in seqs:
            self.record(seq, encode(event(seq)))

    def renumbered(self, seq: int) -> None:
        self.record(seq, encode(event(seq, "room.renumbered", "f")))

    def record(self, seq: int, value: bytes) -> None:
        headers = tuple(record_headers(seq, 0, "message"))
        record = SimpleNamespace(key=b"r", value=value, headers=headers, timestamp=0, partition=0, offset=seq)
        self.hub.record(Take.EVENT, record)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)


async def test_a_subscription_begins_after_the_head_that_the_log_names() -> None:
    bench = Bench()
    bench.subscribe()
    bench.verdict(head_seq=7)
    bench.tail(6, 7, 8, 9)
    assert bench.client.seqs() == [8, 9]
    assert bench.client.heads == [7]


async def test_a_resume_joins_history_to_live_without_a_hole_or_a_repeat() -> None:
    bench = Bench(*range(1, 500))
    bench.subscribe(Want(from_seq=1))
    bench.verdict(head_seq=499)
    bench.tail(500, 501)
    await bench.until(lambda: len(bench.client.outbox) >= 501)
    bench.tail(502)
    assert bench.client.seqs() == list(range(1, 503))


async def test_a_hole_on_a_live_room_is_filled_before_the_client_sees_what_follows() -> None:
    bench = Bench(1, 2, 3, 4)
    bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1, 4, 5)
    assert bench.client.seqs() == [1]
    await bench.until(lambda: len(bench.client.outbox) >= 5)
    bench.tail(6)
    assert bench.client.seqs() == [1, 2, 3, 4, 5, 6]


async def test_a_verdict_that_is_ahead_of_the_cursor_heals_it() -> None:
    bench = Bench(1, 2, 3)
    bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1)
    bench.hub.position_lost()
    bench.verdict(head_seq=3)
    await bench.until(lambda: len(bench.client.outbox) >= 3)
    assert bench.client.seqs() == [1, 2, 3]


async def test_what_no_store_has_yet_is_waited_for() -> None:
    bench = Bench()
    bench.history.away = True
    bench.subscribe(Want(from_seq=1))
    bench.verdict(head_seq=2)
    await bench.until(lambda: bench.history.reads >= 2)
    assert bench.client.outbox == []
    bench.history.away, bench.history.seqs = False, {1, 2}
    await bench.until(lambda: len(bench.client.outbox) >= 2)
    assert bench.client.seqs() == [1, 2]


async def test_the_last_k_are_counted_back_from_the_head() -> None:
    bench = Bench(*range(1, 11))
    bench.subscribe(Want(last=3))
    bench.verdict(head_seq=10)
    await bench.until(lambda: len(bench.client.outbox) >= 3)
    assert bench.client.seqs() == [8, 9, 10]


async def test_a_full_window_waits_for_its_ack_and_then_misses_nothing() -> None:
    bench = Bench(*range(1, 10))
    window = AckWindow(AckMode.CLIENT, 2, 1)
    one = bench.subscribe(window=window)
    bench.verdict(head_seq=0)
    bench.tail(*range(1, 10))
    assert bench.client.seqs() == [1, 2]
    assert one.mode is Mode.PAUSED
    window.ack(2)
    bench.hub.window_opened(one)
    await bench.until(lambda: len(bench.client.outbox) >= 4)
    assert bench.client.seqs() == [1, 2, 3, 4]
    assert one.mode is Mode.PAUSED


async def test_a_nack_sends_again_and_what_follows() -> None:
    bench = Bench(1, 2, 3)
    window = AckWindow(AckMode.CLIENT, 10, 1)
    one = bench.subscribe(window=window)
    bench.verdict(head_seq=0)
    bench.tail(1, 2, 3)
    back = window.nack(2)
    bench.hub.resend_from(one, back[0].seq)
    await bench.until(lambda: len(bench.client.outbox) >= 5)
    assert bench.client.seqs() == [1, 2, 3, 2, 3]


async def test_a_denied_user_is_refused_with_the_code_of_the_log() -> None:
    bench = Bench()
    one = bench.subscribe()
    bench.verdict(head_seq=3, ann=Code.FORBIDDEN)
    assert [refusal.code for refusal in bench.client.refused] == ["forbidden"]
    assert one.mode is Mode.ENDED
    bench.tail(4)
    assert bench.client.outbox == []


async def test_a_position_of_another_numbering_is_refused() -> None:
    bench = Bench()
    bench.subscribe(Want(from_seq=3, epoch="before"))
    bench.verdict(head_seq=9)
    assert [refusal.code for refusal in bench.client.refused] == ["epoch_changed"]


async def test_watches_of_one_room_share_a_command() -> None:
    bench = Bench()
    client: Any = bench.client
    for key in ("1", "2", "3"):
        bench.hub.watch(
            "r",
            Subscription(client, key, 1, GroupKey(key, "/room/r", Version.V12, False), f"u{key}", None, Want(), None),
        )
    bench.hub.before_command("r")
    assert [command.users for _, command, _ in bench.log.appended] == [("u1", "u2", "u3")]


# ---------------------------------------------------------------- new epochs


async def test_a_new_epoch_moves_a_live_room_without_filling_a_hole() -> None:
    bench = Bench()
    bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1, 2)
    bench.renumbered(1001)
    bench.tail(1002)
    assert bench.client.seqs() == [1, 2, 1001, 1002]
    assert bench.history.reads == 0
    assert [b"x-recovered:false\nx-first-seq:1001\n" in frame for frame in bench.client.outbox] == [
        False, False, True, False,
    ]  # fmt: skip


async def test_a_new_epoch_that_skips_no_number_is_delivered_like_any_event() -> None:
    bench = Bench()
    one = bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1)
    bench.renumbered(2)
    bench.tail(3)
    assert bench.client.seqs() == [1, 2, 3]
    assert not any(b"x-recovered" in frame for frame in bench.client.outbox)
    assert one.skipped_to == 0


async def test_who_reads_history_when_the_epoch_ends_goes_on_in_the_new_one() -> None:
    bench = Bench(1, 2)  # 3 and 4 are lost: no store will ever have them
    bench.subscribe(Want(from_seq=1))
    bench.verdict(head_seq=4)
    await bench.until(lambda: len(bench.client.outbox) >= 2 and bench.history.reads >= 2)
    bench.renumbered(1001)
    bench.tail(1002)
    await bench.until(lambda: len(bench.client.outbox) >= 4)
    assert bench.client.seqs() == [1, 2, 1001, 1002]
    assert b"x-recovered:false\nx-first-seq:1001\n" in bench.client.outbox[2]
    assert bench.client.refused == []


async def test_a_full_window_opens_into_the_new_epoch_and_a_nack_does_not_go_back_behind_it() -> None:
    bench = Bench()
    window = AckWindow(AckMode.CLIENT, 2, 1)
    one = bench.subscribe(window=window)
    bench.verdict(head_seq=0)
    bench.tail(1, 2, 3)
    assert one.mode is Mode.PAUSED
    bench.renumbered(1001)
    assert bench.client.seqs() == [1, 2]
    back = window.nack(1)
    window.ack(2)
    bench.hub.resend_from(one, back[0].seq)
    bench.hub.window_opened(one)
    await bench.until(lambda: len(bench.client.outbox) >= 3)
    assert bench.client.seqs() == [1, 2, 1001]


async def test_an_epoch_that_ended_unseen_shows_in_the_next_verdict() -> None:
    bench = Bench(1001, 1002)
    bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1)
    bench.hub.position_lost()
    bench.verdict(head_seq=1002, epoch="f", first_seq=1001)
    await bench.until(lambda: len(bench.client.outbox) >= 3)
    assert bench.client.seqs() == [1, 1001, 1002]
    assert b"x-first-seq:1001\n" in bench.client.outbox[1]


async def test_a_resume_from_below_the_epoch_begins_with_it_and_says_so() -> None:
    bench = Bench(1001, 1002)
    bench.subscribe(Want(from_seq=2))
    bench.verdict(head_seq=1002, epoch="f", first_seq=1001)
    await bench.until(lambda: len(bench.client.outbox) >= 2)
    assert bench.client.seqs() == [1001, 1002]
    assert b"x-recovered:false\nx-first-seq:1001\n" in bench.client.outbox[0]


# ---------------------------------------------------------------- newer records


@pytest.mark.parametrize("value", [b'{"v":2,"room":"r"}', encode(event(2)).replace(b'"message"', b'"room.painted"')])
async def test_an_event_of_a_newer_version_ends_those_who_follow_its_room(value: bytes) -> None:
    bench = Bench()
    bench.subscribe()
    bench.verdict(head_seq=0)
    bench.tail(1)
    bench.record(2, value)
    assert bench.client.seqs() == [1]
    assert [refusal.code for refusal in bench.client.refused] == ["unavailable"]
