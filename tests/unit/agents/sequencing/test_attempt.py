from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.sequencing.attempt import INBOX_MAX, Attempt, Fenced, Limits
from agents.sequencing.clock import Clock
from agents.sequencing.pace import Pace
from agents.sequencing.rows import TABLES, Rows
from chat.errors import BrokenInvariant, Code, UnknownVersion
from chat.log.producer import UNKNOWN, Record
from chat.log.taking import START, Taker
from chat.records import PostMessage, Tick, decode_event, decode_verdict, encode, header

FENCE = Record(None, b"{}", [("kind", b"writer")])


class FakeLog:
    """One partition of the event log, in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = [FENCE]
        self.parked: list[Any] = []
        self.steps: list[str] = []
        self.before_append: list[Record] = []
        self.report_unknown = False
        self.hold: asyncio.Event | None = None
        """Appends wait for it."""
        self.entered = asyncio.Event()
        """One does."""
        self.batch_max = 1000

    async def append_events(self, partition: int, records: list[Record]):
        for start in range(0, len(records), self.batch_max):
            if self.hold is not None:
                self.entered.set()
                await self.hold.wait()
            self.records += self.before_append
            self.before_append = []
            base = len(self.records)
            batch = records[start : start + self.batch_max]
            self.records += batch
            self.steps.append("append")
            yield (UNKNOWN if self.report_unknown else base), len(batch)

    async def read_events(self, partition: int, start: int, end: int | None = None) -> list[Any]:
        self.steps.append("read")
        return [
            SimpleNamespace(offset=offset, headers=tuple(record.headers), value=record.value)
            for offset, record in enumerate(self.records)
            if offset >= start and (end is None or offset < end)
        ]

    async def park(self, found: Any, code: Code, detail: str) -> None:
        self.steps.append("park")
        self.parked.append((found.offset, code))


def make(log: FakeLog) -> Attempt:
    taker = Taker(START)
    taker.take(0, (("kind", b"writer"),))
    return Attempt(0, log, Rows(0, {t: {} for t in TABLES}), taker, Clock(), Limits(1, 10_000), Pace())  # type: ignore[arg-type]


class Running:
    def __init__(self, log: FakeLog) -> None:
        self.attempt = make(log)
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.attempt.start(lambda _, error: self.ended.done() or self.ended.set_result(error))

    def put(self, value: bytes | None = None, *, key: bytes | None = b"lobby", headers=(), stamp: int = 5) -> None:
        if value is None:
            value = encode(PostMessage(v=1, room="lobby", sender="ann", nonce="n", create=True))
        offset = self.attempt.next
        command = SimpleNamespace(
            topic="commands", partition=0, offset=offset, key=key, value=value, headers=tuple(headers), timestamp=stamp
        )
        self.attempt.put(command)

    async def taken(self, src: int) -> None:
        for _ in range(10_000):
            if self.attempt.position.src >= src:
                return
            await asyncio.sleep(0)
        pytest.fail(f"command {src} is not answered: {self.attempt.position}")


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_each_command_becomes_one_record_that_names_it() -> None:
    log = FakeLog()
    running = Running(log)
    for n in range(3):
        running.put(headers=[("cmd", b"id-%d" % n)])
    await running.taken(2)
    records = log.records[1:]
    assert [header(tuple(r.headers), "src") for r in records] == [b"0", b"1", b"2"]
    assert {header(tuple(r.headers), "term") for r in records} == {b"0"}
    assert [header(tuple(r.headers), "cmd") for r in records] == [b"id-0", b"id-1", b"id-2"]
    assert [decode_event(r.value).seq for r in records] == [1, 2, 3]
    assert {r.key for r in records} == {b"lobby"}
    assert running.attempt.position == (3, 2, 0)


async def test_records_about_a_person_say_so_in_a_header() -> None:
    log = FakeLog()
    running = Running(log)
    running.put()
    running.put(b'{"kind":"join","v":1,"room":"lobby","sender":"bob"}')
    running.put()
    await running.taken(2)
    assert [header(tuple(r.headers), "to") for r in log.records[1:]] == [b"ann", b"bob", None]


async def test_log_time_rises_though_the_brokers_clock_stands_still() -> None:
    log = FakeLog()
    running = Running(log)
    for stamp in (5, 5, 4):
        running.put(stamp=stamp)
    await running.taken(2)
    assert [decode_event(r.value).at for r in log.records[1:]] == [5000, 5001, 5002]


async def test_garbage_is_parked_before_it_is_answered_and_src_stays_dense() -> None:
    log = FakeLog()
    running = Running(log)
    running.put()
    running.put(b"\xff", key=b"\xfe", headers=[("cmd", b"x" * 65)])
    running.put()
    await running.taken(2)
    assert log.parked == [(1, Code.IMPOSSIBLE)]
    assert log.steps.index("park") < log.steps.index("append")
    verdict = log.records[2]
    assert decode_verdict(verdict.value).code is Code.IMPOSSIBLE
    assert verdict.key is None
    assert header(tuple(verdict.headers), "cmd") is None
    assert decode_event(log.records[3].value).seq == 2


async def test_garbage_from_a_gateway_is_answered_to_that_gateway() -> None:
    log = FakeLog()
    running = Running(log)
    running.put(b"{}", headers=[("cmd", b"mine")])
    await running.taken(0)
    assert header(tuple(log.records[1].headers), "cmd") == b"mine"


async def test_a_later_fence_puts_the_writer_out() -> None:
    log = FakeLog()
    running = Running(log)
    running.put()
    await running.taken(0)
    log.before_append = [FENCE]
    running.put()
    assert isinstance(await running.ended, Fenced)
    assert running.attempt.position.src == 0


async def test_a_fence_between_two_batches_of_one_go_stops_the_second() -> None:
    log = FakeLog()
    log.batch_max = 1
    running = Running(log)
    log.before_append = [FENCE]
    running.put()
    running.put()
    assert isinstance(await running.ended, Fenced)
    assert log.steps.count("append") == 1


async def test_a_stale_writers_records_in_between_are_passed_over() -> None:
    log = FakeLog()
    running = Running(log)
    log.before_append = [
        Record(b"k", b"junk", []),
        Record(b"k", b"{}", [("src", b"0"), ("term", b"77"), ("kind", b"message")]),
    ]
    running.put()
    await running.taken(0)
    assert running.attempt.position == (3, 0, 0)


async def test_a_record_with_our_term_that_is_not_ours_breaks() -> None:
    log = FakeLog()
    running = Running(log)
    log.before_append = [Record(b"k", b"{}", [("src", b"0"), ("term", b"0"), ("kind", b"message")])]
    running.put()
    assert isinstance(await running.ended, BrokenInvariant)


async def test_a_batch_whose_place_is_unknown_is_looked_for() -> None:
    log = FakeLog()
    log.report_unknown = True
    running = Running(log)
    running.put()
    running.put()
    await running.taken(1)
    assert "read" in log.steps


async def test_a_batch_of_unknown_place_behind_a_fence_puts_the_writer_out() -> None:
    log = FakeLog()
    log.report_unknown = True
    log.before_append = [FENCE]
    running = Running(log)
    running.put()
    assert isinstance(await running.ended, Fenced)


async def test_an_acknowledged_batch_that_is_not_there_breaks() -> None:
    log = FakeLog()
    running = Running(log)
    log.read_events = lambda *_: asyncio.sleep(0, [])  # type: ignore[method-assign]
    log.report_unknown = True
    running.put()
    assert isinstance(await running.ended, BrokenInvariant)


async def test_a_snapshot_holds_only_what_is_acknowledged() -> None:
    log = FakeLog()
    running = Running(log)
    running.put()
    await running.taken(0)
    log.hold = asyncio.Event()
    running.put()
    await log.entered.wait()
    capture = asyncio.create_task(running.attempt.capture())
    await turns()
    assert not capture.done()
    log.hold.set()
    captured = await capture
    assert captured is not None
    assert b'"src":1' in captured[1].value


async def test_a_snapshot_that_waited_for_the_batch_behind_a_fence_is_not_taken() -> None:
    """A rebalance was on its way, so the process does not leave, and its next snapshot would take the heir's term."""
    log = FakeLog()
    running = Running(log)
    running.put()
    await running.taken(0)
    log.hold, log.before_append = asyncio.Event(), [FENCE]
    running.put()
    await log.entered.wait()
    capture = asyncio.create_task(running.attempt.capture())
    await turns()
    log.hold.set()
    assert isinstance(await running.ended, Fenced)
    assert await capture is None
    assert await running.attempt.capture() is None


async def test_a_tick_makes_nothing_to_snapshot_and_all_else_does() -> None:
    log = FakeLog()
    running = Running(log)
    running.put(encode(Tick(v=1)), key=None)
    await running.taken(0)
    assert await running.attempt.capture() is None
    running.put(b'{"kind":"watch","v":1,"room":"lobby","users":[]}')
    await running.taken(1)
    assert await running.attempt.capture() is not None
    assert await running.attempt.capture() is None


async def test_a_paused_writer_asks_again_for_what_it_had_not_decided() -> None:
    log = FakeLog()
    log.hold = asyncio.Event()
    running = Running(log)
    running.put()
    await log.entered.wait()
    running.put()
    running.put()
    pausing = asyncio.create_task(running.attempt.pause(5))
    await turns()
    assert running.attempt.next == 1
    log.hold.set()
    await pausing
    assert running.attempt.position.src == 0
    running.put()
    await running.taken(1)


async def test_a_full_inbox_says_so_until_half_of_it_is_done() -> None:
    log = FakeLog()
    log.hold = asyncio.Event()
    running = Running(log)
    for _ in range(INBOX_MAX):
        running.put()
    assert running.attempt.full
    log.hold.set()
    async with asyncio.timeout(10):
        await running.attempt.wait_for_room()


async def test_a_closed_writer_writes_nothing_more() -> None:
    log = FakeLog()
    running = Running(log)
    await running.attempt.close(1)
    running.put()
    await turns()
    assert log.records == [FENCE]
    assert await running.ended is None
    assert await running.attempt.capture() is None


async def test_an_append_that_does_not_come_back_shows() -> None:
    log = FakeLog()
    log.hold = asyncio.Event()
    running = Running(log)
    assert running.attempt.stalled_s() == 0
    running.put()
    await log.entered.wait()
    await turns()
    assert running.attempt.stalled_s() > 0
    log.hold.set()
    await running.taken(0)
    assert running.attempt.stalled_s() == 0


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1200])
async def test_any_number_of_commands_is_answered_in_order(count: int) -> None:
    log = FakeLog()
    log.batch_max = 7
    running = Running(log)
    for _ in range(count):
        running.put()
    await running.taken(count - 1)
    assert [decode_event(r.value).seq for r in log.records[1:]] == list(range(1, count + 1))


# ---------------------------------------------------------------- newer commands, lost commands


async def test_what_stands_before_a_newer_command_is_answered_and_nothing_after_it() -> None:
    log = FakeLog()
    running = Running(log)
    running.put()
    running.put(b'{"kind":"post","v":2}', stamp=9_000)
    running.put()
    ended = await running.ended
    assert isinstance(ended, UnknownVersion)
    assert str(ended) == "command 1: command version 2, this code knows 1: upgrade this worker"
    assert [header(tuple(record.headers), "src") for record in log.records[1:]] == [b"0"]
    # What a snapshot would say is the time of what was answered, not of what was not.
    assert (running.attempt.position.src, running.attempt.clock.at) == (0, 5000)


async def test_lost_commands_are_answered_one_by_one_at_rising_times() -> None:
    log = FakeLog()
    attempt = make(log)
    attempt.clock.at = 70
    told: list[int] = []
    await attempt.give_up(1_200, told.append)
    verdicts = [decode_verdict(record.value) for record in log.records[1:]]
    assert [verdict.at for verdict in verdicts] == list(range(71, 71 + 1_200))
    assert {verdict.outcome for verdict in verdicts} == {"lost"}
    assert [header(tuple(record.headers), "src") for record in log.records[1:]] == [b"%d" % n for n in range(1_200)]
    assert (attempt.next, attempt.position.src, told[-1]) == (1_200, 1_199, 1_200)
    await attempt.give_up(1_200, told.append)
    assert len(log.records) == 1_201


async def test_whoever_is_put_out_gives_up_nothing_more() -> None:
    log = FakeLog()
    attempt = make(log)
    log.before_append = [FENCE]
    with pytest.raises(Fenced):
        await attempt.give_up(1_200, lambda _: None)
    assert attempt.position.src == -1
