"""The writer of one partition: one attempt to own it, from its fence until it is out.

Commands come in by `put`, in offset order and without a hole. One task takes what waits, decides it against the rows,
appends the answers (one record a command) and waits for the acknowledgement before it takes more. An attempt is out
when a later fence stands in the log: it learns that from the place where its batch lands. From then on it writes
nothing, and its rows are worth nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agents.sequencing.clock import Clock
from agents.sequencing.intake import read_command
from agents.sequencing.log import Found, Log
from agents.sequencing.pace import Pace
from agents.sequencing.rows import Change, Checkpoint, Rows
from chat import metrics
from chat.errors import BrokenInvariant, Refused, UnknownVersion
from chat.failpoints import failpoint
from chat.log.producer import UNKNOWN, Record
from chat.log.taking import Position, Take, Taker
from chat.records import (
    CMD_ID_BYTES_MAX,
    H_CMD,
    KIND_VERDICT,
    VERSION,
    Event,
    Verdict,
    encode,
    header,
    record_headers,
)
from chat.records import Command as Asked
from chat.rooms.decide import decide, log_time, refuse_undecodable

TAKE_MAX: Final = 500
"""Commands decided in one go: 10 ms of the loop at most."""

VERDICT: Final = KIND_VERDICT.decode()

INBOX_MAX: Final = 4_000
"""Commands that wait for the writer; beyond it the agent waits (Kafka keeps the rest)."""


class Fenced(Exception):
    """A later fence stands in the log: this attempt is out."""


class Command(Found, Protocol):
    """A record of the command topic."""

    @property
    def timestamp(self) -> int:
        """LogAppendTime, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command is checked against."""

    partitions: int
    value_bytes_max: int


class Attempt:
    """Owns the rows and the numbering of one partition until it is closed or out."""

    def __init__(
        self, partition: int, log: Log, rows: Rows, taker: Taker, clock: Clock, limits: Limits, pace: Pace
    ) -> None:
        self.partition = partition
        self.rows = rows
        self.clock = clock
        self.next = taker.src + 1
        """Offset of the command that is wanted next."""
        self.unsnapshotted = False
        """Something was taken since the last snapshot, ticks of our own clock aside."""
        self.asks = 0
        """How often the next command was asked for, because later ones were there without it."""
        self.asked_s = float("-inf")
        """When it was last asked for."""
        self._appending_since_s: float | None = None
        self._log = log
        self._taker = taker
        self._limits = limits
        self._pace = pace
        self._inbox: deque[Command] = deque()
        self._wake = asyncio.Event()
        self._room_in_inbox = asyncio.Event()
        self._room_in_inbox.set()
        self._settled = asyncio.Lock()
        self._unknown: UnknownVersion | None = None
        """Why this attempt goes no further: a command that only a newer sequencer can decide."""
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> Position:
        """How far the log is taken and acknowledged: a valid start for any reader."""
        return self._taker.position

    def stalled_s(self) -> float:
        """For how long an append has been waiting for its acknowledgement."""
        return 0.0 if self._appending_since_s is None else time.monotonic() - self._appending_since_s

    # ------------------------------------------------------------ from the agent

    def start(self, on_end: Callable[[Attempt, BaseException | None], None]) -> None:
        """Begin to write. `on_end` is called once, with what ended it (None after `close`)."""
        self._task = asyncio.create_task(self._run(), name=f"writer-{self.partition}")
        self._task.add_done_callback(lambda task: on_end(self, None if task.cancelled() else task.exception()))

    def put(self, command: Command) -> None:
        """Hand over the command at `self.next`."""
        self._inbox.append(command)
        self.next += 1
        self.asks = 0
        self._wake.set()
        if len(self._inbox) >= INBOX_MAX:
            self._room_in_inbox.clear()

    @property
    def full(self) -> bool:
        """The inbox has reached its bound."""
        return not self._room_in_inbox.is_set()

    async def wait_for_room(self) -> None:
        """Return when the inbox takes more, or nobody will need it any more."""
        await self._room_in_inbox.wait()

    async def pause(self, timeout_s: float) -> None:
        """Forget what has not been decided (it will be read again) and wait for what has, at most `timeout_s`."""
        self.next -= len(self._inbox)
        self._inbox.clear()
        self._room_in_inbox.set()
        if self._task is not None and not self._task.done():
            try:
                async with asyncio.timeout(timeout_s), self._settled:
                    pass
            except TimeoutError:
                return

    async def close(self, timeout_s: float) -> None:
        """Stop writing, after what is in flight or `timeout_s`."""
        await self.pause(timeout_s)
        self._closed = True
        self._room_in_inbox.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # ------------------------------------------------------------ accepted losses

    async def give_up(self, first: int, progress: Callable[[int], None]) -> None:
        """Answer every command below `first` that has no answer yet as lost. Only before `start`.

        `progress` is told how many are answered. Whatever ends this in the middle, a later attempt goes on behind it.

        Raises:
            Fenced: somebody else writes the partition now.
        """
        begun = self.next
        while self.next < first:
            srcs = range(self.next, min(first, self.next + TAKE_MAX))
            records = []
            for src in srcs:
                self.clock.at = at = log_time(0, self.clock.at)
                lost = Verdict(v=VERSION, outcome="lost", at=at)
                records.append(Record(None, encode(lost), record_headers(src, self._taker.term, VERDICT)))
            await self._append(records)
            self.next = srcs.stop
            self.unsnapshotted = True
            failpoint("accept-loss-mid-verdicts")
            progress(self.next - begun)

    # ------------------------------------------------------------ snapshots

    async def capture(self) -> tuple[list[Change], Change] | None:
        """What a snapshot of now has to write, all of it acknowledged in the log; None when there is nothing new."""
        if not self.unsnapshotted:
            return None
        async with self._settled:
            if self._closed:
                return None
            self.unsnapshotted = False
            offset, src, term = self._taker.position
            return self.rows.capture(Checkpoint(offset=offset, src=src, term=term, at=self.clock.at))

    # ------------------------------------------------------------ the writer

    async def _run(self) -> None:
        inbox, wake = self._inbox, self._wake
        while not self._closed:
            if not inbox:
                wake.clear()
                await wake.wait()
                continue
            await self._pace.wait()
            async with self._settled:
                commands = [inbox.popleft() for _ in range(min(len(inbox), TAKE_MAX))]
                if len(inbox) < INBOX_MAX // 2:
                    self._room_in_inbox.set()
                if commands:
                    self._pace.count(len(commands))
                    await self._write(commands)

    async def _write(self, commands: list[Command]) -> None:
        metrics.sequencer_wait_seconds.observe(max(0.0, time.time() - commands[0].timestamp / 1000))
        started = time.perf_counter()
        records, refused = self._decide(commands)
        metrics.sequencer_batch_commands.observe(len(commands))
        metrics.sequencer_decide_seconds.observe(time.perf_counter() - started)
        for command, refusal in refused:
            # Parked before it is answered: a crash in between parks it twice, under one key, and loses nothing.
            await self._log.park(command, refusal.code, refusal.message)
            metrics.dead_letters.labels(refusal.code.value).inc()
        if records:
            failpoint("before-produce")
            started = time.perf_counter()
            await self._append(records)
            metrics.sequencer_ack_seconds.observe(time.perf_counter() - started)
            failpoint("after-produce")
        if self._unknown is not None:
            raise self._unknown

    async def _append(self, records: list[Record]) -> None:
        self._appending_since_s = time.monotonic()
        start = 0
        async for base, count in self._log.append_events(self.partition, records):
            await self._landed(base, records[start : start + count])
            start += count
        self._appending_since_s = None

    def _decide(self, commands: list[Command]) -> tuple[list[Record], list[tuple[Command, Refused]]]:
        records: list[Record] = []
        refused: list[tuple[Command, Refused]] = []
        limits, rows, term, at = self._limits, self.rows, self._taker.term, self.clock.at
        outcomes: dict[str, int] = {}
        last_event_at = -1
        for n, command in enumerate(commands):
            previous_at, at = at, log_time(command.timestamp, at)
            key = command.key
            answer: Event | Verdict
            try:
                asked, command_id = read_command(
                    key,
                    command.value,
                    command.headers,
                    partition=self.partition,
                    partitions=limits.partitions,
                    value_bytes_max=limits.value_bytes_max,
                )
            except UnknownVersion as error:
                # What stands before it is answered; it, and what follows, wait for a sequencer that knows it.
                self._unknown = UnknownVersion(f"command {command.offset}: {error}")
                commands, at = commands[:n], previous_at
                break
            except Refused as refusal:
                refused.append((command, refusal))
                command_id = header(command.headers, H_CMD)
                if command_id is not None and len(command_id) > CMD_ID_BYTES_MAX:
                    command_id = None
                key = None
                answer = refuse_undecodable("", refusal.code, refusal.message[:200], at)
            else:
                answer = self._answer(asked, at)
            if isinstance(answer, Event):
                rows.fold(answer)
                last_event_at = at
                kind = outcome = str(answer.kind)
                to = None if answer.member is None else answer.member.user
                self.unsnapshotted = True
            else:
                kind, outcome, to = VERDICT, str(answer.outcome), None
                if outcome != "tick":
                    self.unsnapshotted = True
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            records.append(Record(key, encode(answer), record_headers(command.offset, term, kind, command_id, to)))
        if commands:
            self.clock.passed(at, last_event_at, commands[-1].timestamp)
        for outcome, count in outcomes.items():
            metrics.sequencer_commands.labels(outcome).inc(count)
        return records, refused

    def _answer(self, asked: Asked, at: int) -> Event | Verdict:
        return decide(self.rows.of(getattr(asked, "room", "")), asked, at)

    async def _landed(self, base: int, written: list[Record]) -> None:
        """Our batch stands in the log from `base` on. `Fenced` if a later fence stands before it or in it."""
        taker = self._taker
        if base == taker.offset + 1:
            taker.wrote(len(written))
            return
        # Somebody else wrote here, or the broker no longer knows where the batch is: look.
        end = None if base == UNKNOWN else base + len(written)
        mine = iter(written)
        missing = len(written)
        for record in await self._log.read_events(self.partition, taker.offset + 1, end):
            match taker.take(record.offset, record.headers):
                case Take.FENCE:
                    # The rows hold answers that nobody takes, and our position names the heir's term: a snapshot that
                    # waits for this batch would put the one under the other (docs/model, SNAPSHOT_WHEN_OUT).
                    self._closed = True
                    raise Fenced(f"partition {self.partition}: fenced at offset {record.offset}")
                case Take.EVENT | Take.VERDICT:
                    expected = next(mine, None)
                    if expected is None or record.value != expected.value:
                        raise BrokenInvariant(
                            f"partition {self.partition}: offset {record.offset} carries our term and is not ours"
                        )
                    missing -= 1
                case _:
                    metrics.sequencer_ignored_records.inc()
        if missing:
            raise BrokenInvariant(f"partition {self.partition}: {missing} acknowledged records are not in the log")
