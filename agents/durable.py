"""A durable reader: takes every event of the log, in order, into a store, and remembers how far it is.

The archiver and the projector are this with two different writes. Correctness rests on three things, and on nothing
that Faust does about offsets:

* one `Taker` a partition decides what counts, and its position is committed as the metadata of the group's offset, by
  us, and only when everything before it is written (agents/reading.py);
* every write is idempotent and carries the log's order in itself, so any event may be written again, by anybody. A
  reader that has lost a partition without knowing it (a zombie) writes what is already there, and a commit of its that
  still lands moves the checkpoint back at worst: an older checkpoint is as true as a newer one, only more is repeated;
* contiguity is checked record by record: whatever Faust's flow control loses is sought again, what it repeats skipped.

An event of a version that is not known here stops its partition before it, and no other one: the worker says so, is
not ready, and waits to be upgraded. Guessing is no choice, and neither is leaving the process: it would come back to
the same record, and the other partitions with it.

When the store is away the reader holds a bounded number of events and waits (agents/batches.py). Nothing else does:
live delivery is another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from agents.batches import BatchWriter, Write
from agents.dead_letters import DeadLetters
from agents.engine import RoomlogApp
from agents.reading import Presence, Reading
from agents.readings import Readings, leave
from chat import failpoints, logs, metrics
from chat.errors import BrokenInvariant, Code, Refused, UnknownVersion
from chat.ids import is_id
from chat.log.taking import Position, Take
from chat.log.topics import EVENTS
from chat.readiness import readiness
from chat.records import SEQ_MAX, Event, decode_event
from chat.settings import Settings
from chat.stores.model import Stored

log = logs.get(__name__)

TICK_S: Final = 1.0
"""Between two commits, and two looks at lag."""
SILENCE_TICKS: Final = 3
"""Without a record although the log has one: then it is sought."""
STOP_TIMEOUT_S: Final = 3.0
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
        is_there: Callable[[], bool] = lambda: True,
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
            again_s: after a restart, of this process or of the store, what was written less than so long before is
                written again: a store's node may have acknowledged what it had not synced.
            is_there: whether the store still has what it has acknowledged, as far as its driver knows.
            parks: whether this role is the one that parks what nobody of ours wrote.
            beside: what else the role does from its first assignment on, for ever.
            on_stop: closes the store, after the last write and the last commit.
        """
        failpoints.arm(settings.failpoint)
        self._topic = settings.topic(EVENTS)
        self._role = settings.role
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
        self._presence = Presence()
        self._is_there = is_there
        self._readings = Readings(app, settings, self._topic, again_s=again_s, clock=lambda: self._presence.seconds)
        self._told: set[str] = set()
        """Why partitions stand still: each reason is said once."""
        self._tasks: list[asyncio.Task[None]] = []
        self._log_records = {take: metrics.log_records.labels(take.name.lower()) for take in Take}
        readiness.expect("partitions", "none assigned yet")
        readiness.expect(store, "nothing written or asked yet")
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
            if reading is None or reading.held:
                return
            missing = record.offset - reading.taker.offset - 1
            if missing < 0:
                continue
            if missing > 0:
                await self._readings.seek(reading)
                return
            try:
                full = self._add(reading, record)
            except UnknownVersion as error:
                # A newer Roomlog goes on from here. The other partitions are none the worse for it.
                reading.hold(f"partition {partition} stands still at offset {record.offset}: {error}")
                if reading.held not in self._told:  # a rebuild comes here again
                    self._told.add(reading.held)
                    log.critical("partition_stopped", partition=partition, reason=reading.held)
                self._tell_held()
                return
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

    # ------------------------------------------------------------ positions

    def positions(self) -> dict[int, Position]:
        """How far each assigned partition is read (perhaps not written yet)."""
        return {reading.partition: reading.taker.position for reading in self._readings}

    def written(self, partition: int) -> Position | None:
        """How far a partition is written; None for one that is not assigned."""
        reading = self._readings.get(partition)
        return None if reading is None else reading.written

    async def rewind(self, starts: Mapping[int, Position]) -> None:
        """Read assigned partitions again from an older position on, where they are further."""
        await self._readings.rewind(starts.items())

    # ------------------------------------------------------------ assignment

    async def _on_assigned(self, _app: Any, /, **_: Any) -> None:
        # Faust awaits this one while no record flows, then seeks to the committed offsets and lets them flow.
        # (`on_partitions_assigned` is awaited beside the start of the flow.)
        mine = self._readings.assigned()
        try:
            if not self._tasks:
                beside = [self._beside()] if self._beside is not None else []
                self._tasks = [self._spawn(work) for work in (self._writer.run(), self._tick(), *beside)]
            await self._readings.take_over(mine)
        except Exception as error:  # noqa: BLE001  (Faust would swallow it and go on without positions)
            leave(f"{self._topic}: partitions {sorted(mine)} cannot be taken over: {error!r}")
        readiness.ok("partitions")
        self._tell_held()

    def _tell_held(self) -> None:
        held = [reading.held for reading in self._readings if reading.held]
        readiness.lost("versions", "; ".join(held))

    async def _on_revoked(self, _app: Any, /, *args: Any, **_: Any) -> None:
        # All partitions, at each rebalance; most come back. What is in flight lands harmlessly either way.
        if args[0]:
            readiness.lost("partitions", "rebalancing")

    # ------------------------------------------------------------ once a second

    async def _tick(self) -> None:
        silence: dict[Reading, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(TICK_S)
            was_there = self._presence.there
            if self._presence.look(self._is_there(), time.monotonic()):
                log.info("store_returned", role=self._role)
                await self._readings.begin_again()
            elif was_there and not self._presence.there:
                log.warning("store_gone", role=self._role)
            await self._readings.commit_written()
            now_ms = time.time() * 1000
            silence = {reading: silence.get(reading, (0, 0)) for reading in self._readings}
            for reading, (before, silent) in silence.items():
                offset = reading.taker.offset
                lag = max(0, self._readings.end(reading) - 1 - offset)
                age_ms = max(0.0, now_ms - reading.taken_at_ms) if lag and reading.taken_at_ms else 0.0
                metrics.log_lag_records.labels(reading.partition).set(lag)
                metrics.log_lag_seconds.labels(reading.partition).set(age_ms / 1000)
                # A record that was fetched and lost shows only when the next one comes: in silence, look.
                waits = self._writer.full or reading.held
                ticks = silent + 1 if lag and offset == before and not waits else 0
                silence[reading] = (offset, ticks)
                if ticks and not ticks % SILENCE_TICKS:
                    await self._readings.seek(reading)

    # ------------------------------------------------------------ the end

    async def _on_shutdown(self, _app: Any, /, *_args: Any, **_: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._writer.settled()
                await self._readings.commit_written()
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


def _must_not_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        leave(f"a task died: {error!r}")
