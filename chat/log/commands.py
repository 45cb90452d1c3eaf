"""The way of a command into the log and of its answer back: what a gateway knows of `room.commands`.

`append` is synchronous and keeps the order of its calls per partition: commands wait in a list, and one sender a
partition takes the whole list as one batch while the batch before it is on its way (so batches grow with load and a
lone command waits for nobody). The answer is whatever the tail reads from the event log with this gateway's command id:
an ack of the append alone never answers anything (docs/architecture.md, "answered when read").

The table of waiting commands is bounded by number, by bytes and by time: a command that is not answered within
`timeout_s` is `unavailable`. One that was on its way to Kafka may still happen, one that still waited for its turn will
not; a retry with the same client id is harmless either way. A partition whose answers lag (chat/log/lag.py) takes no
more than it can answer soon.

A producer that Kafka refuses (its numbering is broken, its id has expired) would be refused for ever: it is replaced.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from chat import logs, metrics
from chat.errors import Code, Refused, Unavailable
from chat.log.lag import Lag
from chat.log.topics import partition_of
from chat.records import H_CMD, Event, RoomCommand, Verdict, WatchRoom, encode

log = logs.get(__name__)

GATEWAY_ID_BYTES = 8
_COUNTER_BYTES = 8

RENEW_S = 0.5
"""Between two tries to make a new producer."""

BATCH_BYTES_MAX = 1_000_000
"""Below the topic's `max.message.bytes` (a limit on batches), above a full transaction."""

RECORD_OVERHEAD_BYTES = 160
"""Room for a record's key, headers and framing when a batch is measured before it is built."""


class Waiting(Protocol):
    """Somebody who waits for the answer to one command. Exactly one of the two is called, once."""

    def answered(self, answer: Event | Verdict) -> None:
        """The event or verdict that the log holds."""

    def failed(self, code: Code) -> None:
        """No answer within the time limit, or the command never got into the log."""


class _Entry:
    __slots__ = ("appended_at", "command_id", "key", "lag", "size", "value", "waiting")

    def __init__(
        self, command_id: bytes, key: bytes, value: bytes, waiting: Waiting, appended_at: float, lag: Lag
    ) -> None:
        self.command_id = command_id
        self.key = key
        self.value = value
        """Empty once it is in a batch: whoever waits for an answer need not keep what was asked."""
        self.waiting = waiting
        self.appended_at = appended_at
        self.lag = lag
        self.size = len(value) + len(key) + RECORD_OVERHEAD_BYTES
        """What it takes of a batch at most, in bytes."""


class CommandLog:
    """Appends commands and completes them with their answers. One per gateway; all methods run on its loop."""

    def __init__(
        self,
        make_producer: Callable[[], AIOKafkaProducer],
        topic: str,
        partitions: int,
        *,
        timeout_s: float,
        limit: int,
        bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        """`limit`: commands that wait for their answer; `bytes_max`: of commands that Kafka has not got yet."""
        self.gateway_id = secrets.token_bytes(GATEWAY_ID_BYTES)
        self._make_producer = make_producer
        self._producer = make_producer()
        self._topic = topic
        self._partitions = partitions
        self._timeout_s = timeout_s
        self._limit = limit
        self._bytes_max = bytes_max
        self._clock = clock
        self._counter = 0
        self._bytes = 0
        self._waiting: dict[bytes, _Entry] = {}
        self._lags = [Lag() for _ in range(partitions)]
        self._queues: dict[int, list[list[_Entry]]] = {}
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._renewing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; may be tried again.

        Raises:
            Unavailable: Kafka does not answer.
        """
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka does not answer: {error}") from error

    async def stop(self) -> None:
        """Disconnect, after what has been handed to the producer."""
        for retired in self._retired:
            retired.cancel()
        await self._producer.stop()

    def __len__(self) -> int:
        """Commands that wait for their answer."""
        return len(self._waiting)

    def lags(self, room: str) -> bool:
        """True while the log answers the commands of `room` later than it should, and more come than it answers."""
        return self._lags[partition_of(room, self._partitions)].lasts

    def append(self, room: str, commands: Sequence[tuple[RoomCommand, Waiting]]) -> None:
        """Append commands of one room, together and in order (several: one transaction, one batch).

        Raises:
            Refused: `unavailable` when too many commands wait already; `transaction_too_long` when they fit no batch.
        """
        partition = partition_of(room, self._partitions)
        lag = self._lags[partition]
        full = len(self._waiting) + len(commands) > self._limit or self._bytes > self._bytes_max
        # A watch is not held to the lag: who is refused a SUBSCRIBE comes back with a whole new connection.
        watches = any(isinstance(command, WatchRoom) for command, _ in commands)
        if full or not (watches or lag.takes(len(commands))):
            raise Refused(Code.UNAVAILABLE, "the log does not keep up; try again later with the same x-client-id")
        key = room.encode()
        now = self._clock()
        group: list[_Entry] = []
        size = 0
        for command, waiting in commands:
            self._counter += 1
            command_id = self.gateway_id + self._counter.to_bytes(_COUNTER_BYTES, "big")
            entry = _Entry(command_id, key, encode(command), waiting, now, lag)
            size += entry.size
            group.append(entry)
        if size > BATCH_BYTES_MAX:
            raise Refused(Code.TRANSACTION_TOO_LONG, f"these commands take {size} bytes, a batch {BATCH_BYTES_MAX}")
        for entry in group:
            self._waiting[entry.command_id] = entry
        lag.waiting += len(group)
        self._bytes += size
        self._queues.setdefault(partition, []).append(group)
        if partition not in self._senders:
            self._senders[partition] = asyncio.create_task(self._send(partition), name=f"commands-{partition}")

    def answer(self, command_id: bytes, answer: Event | Verdict) -> None:
        """The log's answer to a command of this gateway; one that nobody waits for any more is dropped."""
        entry = self._waiting.pop(command_id, None)
        if entry is not None:
            now = self._clock()
            took_s = now - entry.appended_at
            metrics.gateway_answer_seconds.observe(took_s)
            entry.lag.waiting -= 1
            if entry.lag.answered(took_s, now):
                self._tell(entry.lag)
            entry.waiting.answered(answer)

    def expire(self) -> None:
        """Fail what has waited too long. Called by the gateway's wheel."""
        # All wait equally long, so the oldest is the first of the dictionary.
        now = self._clock()
        before = now - self._timeout_s
        while self._waiting:
            command_id = next(iter(self._waiting))
            entry = self._waiting[command_id]
            if entry.appended_at > before:
                break
            del self._waiting[command_id]
            entry.lag.waiting -= 1
            if entry.lag.unanswered(now):
                self._tell(entry.lag)
            metrics.gateway_command_timeouts.inc()
            entry.waiting.failed(Code.UNAVAILABLE)
        # What was answered so before its turn came is not sent any more: Kafka may be away for hours.
        for queue in self._queues.values():
            late = 0
            while late < len(queue) and queue[late][0].appended_at <= before:
                self._bytes -= sum(entry.size for entry in queue[late])
                late += 1
            del queue[:late]

    def _tell(self, lag: Lag) -> None:
        log.warning("log_lags" if lag.lasts else "log_caught_up", partition=self._lags.index(lag), waiting=lag.waiting)
        metrics.gateway_lagging_partitions.set(sum(lag.lasts for lag in self._lags))

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything that was appended is in the log, or `timeout_s` have passed."""
        if self._senders:
            await asyncio.wait(list(self._senders.values()), timeout=timeout_s)

    async def _send(self, partition: int) -> None:
        queue = self._queues[partition]
        try:
            while queue:
                groups, size = 0, 0
                entries: list[_Entry] = []
                for group in queue:
                    group_size = sum(entry.size for entry in group)
                    if entries and size + group_size > BATCH_BYTES_MAX:
                        break
                    groups, size = groups + 1, size + group_size
                    entries.extend(group)
                del queue[:groups]
                try:
                    await self._send_batch(partition, entries)
                finally:
                    self._bytes -= size
        finally:
            # Empty, unless a defect ended this task: then its commands time out, and their bytes are not held for ever.
            self._bytes -= sum(entry.size for group in queue for entry in group)
            del self._senders[partition]
            del self._queues[partition]

    async def _send_batch(self, partition: int, entries: list[_Entry]) -> None:
        started = self._clock()
        producer = self._producer
        batch = producer.create_batch()
        for entry in entries:
            added = batch.append(key=entry.key, value=entry.value, timestamp=None, headers=[(H_CMD, entry.command_id)])
            if added is None:  # measured before it was built: cannot happen while RECORD_OVERHEAD_BYTES is true
                self._fail(entry, Code.BODY_TOO_LARGE)
            entry.value = b""
        batch.close()
        try:
            # With idempotence the producer repeats this until the broker has it; it never gives up on its own.
            await (await producer.send_batch(batch, self._topic, partition=partition))
        except KafkaError as error:
            log.error("append_failed", partition=partition, commands=len(entries), error=repr(error))
            for entry in entries:
                self._fail(entry, Code.UNAVAILABLE)
            await self._renew(producer)
        else:
            metrics.gateway_append_seconds.observe(self._clock() - started)

    async def _renew(self, refused: AIOKafkaProducer) -> None:
        """Replace a producer that Kafka has refused, unless another partition's sender has done it."""
        async with self._renewing:
            while self._producer is refused:
                producer = self._make_producer()
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    log.warning("producer_not_renewed", error=repr(error))
                    await producer.stop()
                    await asyncio.sleep(RENEW_S)
                else:
                    self._producer = producer
                    log.warning("producer_renewed")
                    # It ends when the other senders have heard of their batches.
                    retired = asyncio.create_task(refused.stop())
                    self._retired.add(retired)
                    retired.add_done_callback(self._retired.discard)

    def _fail(self, entry: _Entry, code: Code) -> None:
        if self._waiting.pop(entry.command_id, None) is not None:
            entry.lag.waiting -= 1
            entry.waiting.failed(code)
