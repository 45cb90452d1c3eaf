"""A durable reader: takes every event of the log, in order, into a store, and remembers how far it is.

The archiver and the projector are this with two different writes. Correctness rests on three things, and on nothing
that Faust does about offsets:

* one `Taker` a partition decides what counts, and its position is committed as the metadata of the group's offset, by
  us, and only when everything before it is written (agents/reading.py);
* every write is idempotent and carries the log's order in itself, so any event may be written again, by anybody. A
  reader that has lost a partition without knowing it (a zombie) writes what is already there, and a commit of its that
  still lands moves the checkpoint back at worst: an older checkpoint is as true as a newer one, only more is repeated;
* contiguity is checked record by record: whatever Faust's flow control loses is sought again, what it repeats skipped.

When the store is away the reader holds a bounded number of events and waits (agents/batches.py). Nothing else does:
live delivery is another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP

from agents.batches import BatchWriter, Write
from agents.bulk import in_bulk
from agents.dead_letters import DeadLetters
from agents.engine import Consumer, RoomlogApp
from agents.reading import Reading
from chat import logs, metrics
from chat.errors import BrokenInvariant, Code, Refused
from chat.failpoints import failpoint
from chat.ids import is_id
from chat.log.positions import Checkpoint, committed
from chat.log.taking import START, Position, Take
from chat.log.topics import EVENTS
from chat.readiness import readiness
from chat.records import Event, decode_event
from chat.settings import Settings
from chat.stores.model import Stored

log = logs.get(__name__)

EXIT_BROKEN: Final = 70
"""The supervisor starts the process again, which recovers from the committed positions (sysexits: EX_SOFTWARE)."""
TICK_S: Final = 1.0
"""Between two commits, and two looks at lag."""
SEEK_PERIOD_S: Final = 0.5
SILENCE_TICKS: Final = 3
"""Without a record although the log has one: then it is sought."""
COMMIT_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 3.0
SEQ_MAX: Final = 10**12
"""Far above what a room reaches, below what a column or a Redis score cannot hold."""
TIME_MAX_US: Final = 2**53


class DurableReader:
    """Reads `room.events` for one role. Feed it from a Faust agent (see `follow`)."""

    def __init__(
        self,
        app: RoomlogApp,
        settings: Settings,
        *,
        store: str,
        write: Write,
        events_max: int,
        in_flight_max: int,
        linger_s: float,
        again_s: float = 0.0,
        parks: bool = False,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        """A reader that follows its application from the first assignment of partitions to its stop.

        Args:
            app: whose partitions it reads.
            settings: of this worker; its role names the consumer group.
            store: name of what `write` writes to, in logs, metrics and readiness.
            write: writes events, idempotently; raises `Unavailable` to be called again with the same ones.
            events_max: events of one write at most.
            in_flight_max: writes under way at most. With 1, `write` sees the events of a room in their order.
            linger_s: how long a batch that is not full waits for more.
            again_s: after a restart, what was written less than so long before is written again: a store's node may
                have acknowledged what it had not synced.
            parks: whether this role is the one that parks what nobody of ours wrote.
            beside: what else the role does from its first assignment on, for ever.
            on_stop: closes the store, after the last write and the last commit.
        """
        self._app = app
        self._settings = settings
        self._topic = settings.topic(EVENTS)
        self._again_s = again_s
        self._parks = parks
        self._dead_letters = DeadLetters(settings)
        self._writer = BatchWriter(
            store,
            write,
            self._dead_letters.park,
            events_max=events_max,
            in_flight_max=in_flight_max,
            linger_s=linger_s,
        )
        self._beside = beside
        self._on_stop = on_stop
        self._readings: dict[int, Reading] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._log_records = {take: metrics.log_records.labels(take.name.lower()) for take in Take}
        readiness.expect("partitions", "none assigned yet")
        readiness.expect(store, "nothing written or asked yet")
        in_bulk(app)
        app.on_rebalance_complete.connect(self._on_assigned)  # type: ignore[arg-type]  # it takes no assignment
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_before_shutdown.connect(self._on_shutdown)

    # ------------------------------------------------------------ records

    async def follow(self, stream: Any) -> None:
        """The body of the role's agent: take whatever its stream has, for ever."""
        async for event in stream.noack().events():
            await self.take(event.message.partition, event.value)

    async def take(self, partition: int, records: Sequence[Any]) -> None:
        """Records of one partition, as Faust has them. Waits while the store does not keep up; raises nothing."""
        for record in records:
            reading = self._readings.get(partition)
            if reading is None:
                return
            missing = record.offset - reading.taker.offset - 1
            if missing < 0:
                continue
            if missing > 0:
                await self._seek(reading)
                return
            try:
                full = self._add(reading, record)
            except BrokenInvariant as error:
                leave(f"{self._topic} partition {partition} offset {record.offset}: {error}")
            if full:
                await self._writer.room()

    def _add(self, reading: Reading, record: Any) -> bool:
        take = reading.taker.take(record.offset, record.headers)
        self._log_records[take].inc()
        reading.taken_at_ms = record.timestamp
        if take is Take.EVENT:
            try:
                event = read_event(record.key, record.value)
            except Refused as refused:
                return self._park(reading, record, refused.code, refused.message)
            return self._writer.add(reading, Stored(event, record.value))
        if take is Take.FOREIGN:
            return self._park(reading, record, Code.UNDECODABLE, "no record of ours: its headers are not")
        return self._writer.add(reading)

    def _park(self, reading: Reading, record: Any, code: Code, detail: str) -> bool:
        if not self._parks or reading.again:
            return self._writer.add(reading)
        letter = self._dead_letters.letter(
            self._topic,
            record.partition,
            record.offset,
            code=code,
            detail=detail,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        return self._writer.add(reading, parked=letter)

    async def _seek(self, reading: Reading) -> None:
        now = time.monotonic()
        if now - reading.sought_at < SEEK_PERIOD_S:
            return
        reading.sought_at = now
        offset = reading.taker.offset + 1
        log.info("reader_seeks", partition=reading.partition, offset=offset)
        try:
            # In the consumer's own thread. (`Consumer.seek` alters what that thread iterates over: KeyError, measured.)
            await self._consumer.seek_wait({TP(self._topic, reading.partition): offset})
        except (KafkaError, TimeoutError) as error:  # a rebalance, or Kafka is away: sought again
            log.info("seek_postponed", partition=reading.partition, reason=repr(error))

    # ------------------------------------------------------------ positions

    def positions(self) -> dict[int, Position]:
        """How far each assigned partition is read (perhaps not written yet)."""
        return {partition: reading.taker.position for partition, reading in self._readings.items()}

    def written(self, partition: int) -> Position | None:
        """How far a partition is written; None for one that is not assigned."""
        reading = self._readings.get(partition)
        return None if reading is None else reading.written

    async def rewind(self, starts: Mapping[int, Position]) -> None:
        """Read assigned partitions again from an older position on, where they are further."""
        for partition, start in starts.items():
            reading = self._readings.get(partition)
            if reading is not None and start.offset < reading.taker.offset:
                self._begin(partition, Checkpoint(reading.checkpoint(time.monotonic()).newest, start))
                await self._seek(self._readings[partition])

    def _begin(self, partition: int, start: Checkpoint) -> None:
        self._readings[partition] = Reading(partition, start, again_s=self._again_s, now=time.monotonic())

    # ------------------------------------------------------------ assignment

    async def _on_assigned(self, _app: Any, /, **_: Any) -> None:
        # Faust awaits this one while no record flows, then seeks to the committed offsets and lets them flow.
        # (`on_partitions_assigned` is awaited beside the start of the flow.)
        mine = {tp.partition for tp in self._consumer.assignment() if tp.topic == self._topic}
        try:
            if not self._tasks:
                beside = [self._beside()] if self._beside is not None else []
                self._tasks = [self._spawn(work) for work in (self._writer.run(), self._tick(), *beside)]
            await self._assign(mine)
        except Exception as error:  # noqa: BLE001  (Faust would swallow it and go on without positions)
            leave(f"{self._topic}: partitions {sorted(mine)} cannot be taken over: {error!r}")
        readiness.ok("partitions")

    async def _on_revoked(self, _app: Any, /, *args: Any, **_: Any) -> None:
        # All partitions, at each rebalance; most come back. What is in flight lands harmlessly either way.
        if args[0]:
            readiness.lost("partitions", "rebalancing")

    async def _assign(self, mine: set[int]) -> None:
        for partition in self._readings.keys() - mine:
            del self._readings[partition]
        tps = {partition: TP(self._topic, partition) for partition in mine}
        checkpoints = await committed(self._settings, self._settings.role)
        begins = await self._consumer.earliest_offsets(*tps.values()) if tps else {}
        ends = await self._consumer.highwaters(*tps.values()) if tps else {}
        new: dict[int, Checkpoint] = {}
        for partition, tp in tps.items():
            start = checkpoints.get(partition, Checkpoint(START, START))
            kept = self._readings.get(partition)
            if kept is not None and kept.taker.offset >= start.newest.offset:
                continue
            if start.again.offset + 1 < begins[tp] <= start.newest.offset + 1:
                start = Checkpoint(start.newest, start.newest)
            if not begins[tp] <= start.again.offset + 1 <= ends[tp]:
                leave(
                    f"{self._topic} partition {partition} holds offsets {begins[tp]} to {ends[tp]}, but this reader "
                    f"goes on at {start.again.offset + 1}: the log was trimmed or made anew under it"
                )
            new[partition] = start
            self._begin(partition, start)
        # The offset is where Faust seeks to next; the metadata stays what it was.
        await self._commit({p: (start.again, start) for p, start in new.items() if start.newest is not START})

    # ------------------------------------------------------------ once a second

    async def _tick(self) -> None:
        silence: dict[Reading, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(TICK_S)
            await self._commit_written()
            now_ms = time.time() * 1000
            silence = {reading: silence.get(reading, (0, 0)) for reading in self._readings.values()}
            for reading, (before, silent) in silence.items():
                offset = reading.taker.offset
                lag = max(0, self._end(reading.partition) - 1 - offset)
                age_ms = max(0.0, now_ms - reading.taken_at_ms) if lag and reading.taken_at_ms else 0.0
                metrics.log_lag_records.labels(reading.partition).set(lag)
                metrics.log_lag_seconds.labels(reading.partition).set(age_ms / 1000)
                # A record that was fetched and lost shows only when the next one comes: in silence, look.
                ticks = silent + 1 if lag and offset == before and not self._writer.full else 0
                silence[reading] = (offset, ticks)
                if ticks and not ticks % SILENCE_TICKS:
                    await self._seek(reading)

    def _end(self, partition: int) -> int:
        # The consumer's thread may be losing the partition at this moment.
        try:
            return self._consumer.highwater(TP(self._topic, partition)) or 0
        except (AssertionError, IllegalStateError):
            return 0

    async def _commit_written(self) -> None:
        now = time.monotonic()
        changed = {
            partition: (checkpoint.newest, checkpoint)
            for partition, reading in self._readings.items()
            if (checkpoint := reading.checkpoint(now)) != reading.committed
        }
        if not changed:
            return
        failpoint(f"{self._settings.role}-before-commit")
        try:
            done = await asyncio.wait_for(self._commit(changed), COMMIT_TIMEOUT_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("commit_postponed", reason=repr(error))
            return
        if not done:  # a rebalance: a later tick commits more
            return
        for partition, (_, checkpoint) in changed.items():
            if (reading := self._readings.get(partition)) is not None:
                reading.committed = checkpoint

    async def _commit(self, checkpoints: Mapping[int, tuple[Position, Checkpoint]]) -> bool:
        if not checkpoints:
            return True
        return await self._consumer.commit_positions(
            {
                TP(self._topic, partition): (position.offset + 1, checkpoint.encode())
                for partition, (position, checkpoint) in checkpoints.items()
            }
        )

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self._app.consumer)

    # ------------------------------------------------------------ the end

    async def _on_shutdown(self, _app: Any, /, *_args: Any, **_: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._writer.settled()
                await self._commit_written()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._dead_letters.stop()
        await self._on_stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_must_not_end)
        return task


def read_event(key: bytes | None, value: bytes | None) -> Event:
    """The event in a record that counts.

    Raises:
        Refused: `undecodable`, or `impossible` for one that no store could keep.
        UnknownVersion: a newer Roomlog wrote it.
    """
    event = decode_event(value)
    if not is_id(event.room) or key != event.room.encode():
        raise Refused(Code.IMPOSSIBLE, "the room is no id, or not the record's key")
    if event.member is not None and not is_id(event.member.user):
        raise Refused(Code.IMPOSSIBLE, "the member is no id")
    if not (0 < event.seq < SEQ_MAX and 0 < event.at < TIME_MAX_US and 0 <= event.msg_no <= event.seq):
        raise Refused(Code.IMPOSSIBLE, "a number is out of its range")
    if not -(2**31) <= event.members < 2**31:
        raise Refused(Code.IMPOSSIBLE, "a number is out of its range")
    return event


def leave(line: str) -> NoReturn:
    """Leave the process: going on could lose or repeat something. The supervisor starts it again."""
    log.critical("leaving", reason=line)
    os._exit(EXIT_BROKEN)


def _must_not_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        leave(f"a task died: {error!r}")
