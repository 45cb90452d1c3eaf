"""The sequencer: `room.commands` in, `room.events` out, one writer a partition.

Faust decides which partitions are here, reads the tables' changelogs and feeds the agent; everything that correctness
rests on is ours (agents/sequencing/): the contiguity of commands, the fence, the place of every batch. When something
that must not be is seen, the process leaves: a new one recovers from the log within a second, and no state in memory is
worth more than that.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, cast

from faust.types import TP

from agents.engine import Consumer, more_events
from agents.sequencing.attempt import TAKE_MAX, Attempt, Command, Fenced, Limits
from agents.sequencing.log import Log
from agents.sequencing.pace import Pace
from agents.sequencing.recovery import Stopped, begin_attempts
from agents.sequencing.rows import Tables, check_row, load_rows
from agents.sequencing.snapshots import Snapshots
from app import app, commands_topic, settings
from chat import failpoints, logs, metrics
from chat.errors import LogHole, Refused, UnknownVersion
from chat.log.producer import Record
from chat.log.topics import record_bytes_max
from chat.readiness import readiness
from chat.records import VERSION, Tick, encode
from tables.rows import checkpoints, members, rooms, senders

log = logs.get(__name__)

EXIT_BROKEN: Final = 70
HANDOVER_S: Final = 3.0
"""How long a rebalance or a stop waits for the batch in flight: half of a session."""
SEEK_PERIOD_S: Final = 0.5
"""A missing command is asked for again at most this often."""
MISSING_MAX_S: Final = 20.0
"""A command that Kafka does not deliver for so long, while it delivers later ones, is a hole."""
STALLED_S: Final = 5.0
"""An append that takes longer is reported: Kafka is away or slow."""
REBALANCE_MAX_S: Final = 60.0
"""A rebalance that does not end: something of Faust's has stopped in silence, and a new process is the way out."""
SNAPSHOT_PERIOD_S: Final = 1.0
SNAPSHOT_PERIOD_MAX_S: Final = 10.0
"""At the longest; a recovery folds what came since."""
SNAPSHOT_SHARE: Final = 9
"""A snapshot that took long is followed by a pause of so many times its length: snapshots cost a tenth at most."""
SNAPSHOT_BYTES_PER_S: Final = 65_536
"""Large snapshots come less often: the changelogs of the last hour, which are not compacted yet, are what a recovery
reads, and this much a second makes 240 MB of them."""

READY: Final = "sequencer"


class Sequencer:
    """The partitions of this process."""

    def __init__(self) -> None:
        self._log = Log(settings)
        self._snapshots = Snapshots(settings, self._log)
        self._limits = Limits(settings.partitions, record_bytes_max(settings))
        self._pace = Pace()
        self._attempts: dict[int, Attempt] = {}
        self._stopped: dict[int, Stopped] = {}
        self._recovering = asyncio.Lock()
        self._committed: dict[int, tuple[int, str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._rebalancing_since_s: float | None = None

    # ------------------------------------------------------------ the agent's path

    async def take(self, message: Any) -> None:
        """One record of the command topic, wherever Faust has it from: taken if it is the next one."""
        partition = message.partition
        attempt = self._attempts.get(partition)
        if attempt is None:
            return
        offset = message.offset
        if offset == attempt.next:
            attempt.put(
                Command(
                    message.topic,
                    partition,
                    offset,
                    message.key,
                    message.value,
                    message.headers,
                    round(message.timestamp * 1000),
                )
            )
            if attempt.full:
                await attempt.wait_for_room()
        elif offset > attempt.next:
            await self._ask_again(attempt)

    async def _ask_again(self, attempt: Attempt) -> None:
        """Later commands arrive, the next one does not: have Faust read from there once more."""
        now_s = time.monotonic()
        if attempt.missing_since_s is None:
            attempt.missing_since_s = now_s
        elif now_s - attempt.missing_since_s > MISSING_MAX_S:
            raise LogHole(f"partition {attempt.partition}: command {attempt.next} is missing, later ones are there")
        if now_s - attempt.asked_s >= SEEK_PERIOD_S:
            attempt.asked_s = now_s
            await app.consumer.seek(TP(message_topic(), attempt.partition), attempt.next)

    # ------------------------------------------------------------ assignment

    async def is_row(self, _table: str, record: Any) -> bool:
        """Whether a record of a changelog may be a row of ours; one that may not is parked."""
        try:
            check_row(record.partition, record.key or b"", record.value)
        except Refused as refusal:
            await self._log.start()
            await self._log.park(record, refusal.code, refusal.message)
            log.error("row_parked", topic=record.topic, partition=record.partition, offset=record.offset)
            metrics.dead_letters.labels(refusal.code.value).inc()
            return False
        return True

    async def recover(self) -> None:
        """Faust has read the changelogs of the current assignment: begin an attempt for each partition that is new."""
        started = time.perf_counter()
        async with self._recovering:
            await self._log.start()
            mine = self._assigned()
            await self._forget(set(self._attempts) - mine)
            new = mine - set(self._attempts)
            if new:
                rows = load_rows(new, _tables())
                for result in await begin_attempts(self._log, rows, self._limits, self._pace, settings.worker):
                    if isinstance(result, Stopped):
                        log.error("partition_stopped", partition=result.partition, reason=result.reason)
                        self._stopped[result.partition] = result
                    elif result.partition in self._assigned():
                        self._attempts[result.partition] = result
                        result.start(self._ended)
                    else:
                        result.rows.drop()
                log.info(
                    "partitions_recovered", partitions=sorted(new), seconds=round(time.perf_counter() - started, 3)
                )
                metrics.sequencer_recovery_seconds.observe(time.perf_counter() - started)
            metrics.sequencer_partitions.set(len(self._attempts))
            self._committed.clear()
            await self._commit()
            if not self._tasks:
                self._tasks = [
                    asyncio.create_task(self._snapshot_forever()),
                    asyncio.create_task(self._watch_forever()),
                ]
        # Faust's own resume would clear queues that are filled already: see docs/decisions/0002-faust-overrides.md.
        app.consumer.stop_flow()
        app.flow_control.suspend()

    async def pause(self, revoked: set[TP]) -> None:
        """A rebalance begins: finish what is in flight. Who keeps a partition goes on with the attempt that it has."""
        readiness.lost(READY, "rebalancing")
        self._rebalancing_since_s = self._rebalancing_since_s or time.monotonic()
        partitions = {tp.partition for tp in revoked if tp.topic == message_topic()}
        await asyncio.gather(*(a.pause(HANDOVER_S) for p, a in self._attempts.items() if p in partitions))

    async def stop(self) -> None:
        """The process ends on purpose: leave nothing for the next owner to fold."""
        readiness.lost(READY, "stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(a.pause(HANDOVER_S) for a in self._attempts.values()))
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._snapshots.take(self._attempts.values())
                await self._commit()
        except TimeoutError:
            log.warning("last_snapshot_given_up", reason="Kafka does not answer")
        await asyncio.gather(*(a.close(0) for a in self._attempts.values()))
        self._attempts.clear()
        await self._log.stop()

    def _assigned(self) -> set[int]:
        return {tp.partition for tp in app.consumer.assignment() if tp.topic == message_topic()}

    async def _forget(self, gone: set[int]) -> None:
        for partition in gone:
            attempt = self._attempts.pop(partition)
            await attempt.close(0)
            attempt.rows.drop()
        for partition in set(self._stopped) - self._assigned():
            del self._stopped[partition]

    def _ended(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is None:
            return
        if isinstance(error, Fenced):
            metrics.sequencer_fenced.inc()
            if self._attempts.get(attempt.partition) is not attempt or attempt.partition not in self._assigned():
                log.warning("fenced", partition=attempt.partition, reason=str(error))
                return
        leave(error)

    # ------------------------------------------------------------ once a second

    async def _snapshot_forever(self) -> None:
        pause_s = SNAPSHOT_PERIOD_S
        while True:
            await asyncio.sleep(pause_s)
            started = time.perf_counter()
            try:
                written = await self._snapshots.take(self._attempts.values())
            except Exception as error:  # noqa: BLE001 (whatever it is: rows and log may differ now)
                leave(error)
            wanted_s = max(SNAPSHOT_SHARE * (time.perf_counter() - started), written / SNAPSHOT_BYTES_PER_S)
            pause_s = min(max(SNAPSHOT_PERIOD_S, wanted_s), SNAPSHOT_PERIOD_MAX_S)

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                self._report()
                await self._commit()
                await self._tick()
            except Exception as error:  # noqa: BLE001 (an unwatched partition would go silent unseen)
                leave(error)

    def _report(self) -> None:
        if not app.rebalancing:
            self._rebalancing_since_s = None
        elif self._rebalancing_since_s and time.monotonic() - self._rebalancing_since_s > REBALANCE_MAX_S:
            leave(TimeoutError(f"a rebalance has not ended after {REBALANCE_MAX_S:.0f} s"))
        stalled_s = max((a.stalled_s() for a in self._attempts.values()), default=0.0)
        if stalled_s > STALLED_S:
            readiness.lost(READY, f"Kafka has not acknowledged an append for {stalled_s:.0f} s")
        elif self._stopped:
            readiness.lost(READY, next(iter(self._stopped.values())).reason)
        elif not app.rebalancing:
            readiness.ok(READY)
        for partition, attempt in self._attempts.items():
            end = app.consumer.highwater(TP(message_topic(), partition))
            if end is not None:
                metrics.log_lag_records.labels(str(partition)).set(max(0, end - attempt.position.src - 1))

    async def _commit(self) -> None:
        """Tell the group how far we are, and every tail where it may begin: the position is the offset's metadata."""
        positions = {p: (a.position.src + 1, a.position.encode()) for p, a in self._attempts.items()}
        changed = {p: position for p, position in positions.items() if self._committed.get(p) != position}
        if changed and await cast("Consumer", app.consumer).commit_positions(
            {TP(message_topic(), p): position for p, position in changed.items()}
        ):
            self._committed.update(changed)

    async def _tick(self) -> None:
        for partition, attempt in list(self._attempts.items()):
            if attempt.clock.tick_due():
                await self._log.append_command(partition, Record(None, encode(Tick(v=VERSION)), []))


def leave(error: BaseException) -> NoReturn:
    """End this process now: what it holds can no longer be trusted, and the log can."""
    log.error("sequencer_leaves", error=type(error).__name__, reason=str(error))
    sys.stderr.flush()
    os._exit(EXIT_BROKEN)


def message_topic() -> str:
    """Kafka's name of the command topic."""
    return str(commands_topic.get_topic_name())


def _tables() -> Tables:
    return {"rooms": rooms.data, "members": members.data, "senders": senders.data, "checkpoints": checkpoints.data}


failpoints.arm(settings.failpoint)
readiness.expect(READY, "recovering")
sequencer = Sequencer()


async def _check_row(table: str, record: Any) -> bool:
    try:
        return await sequencer.is_row(table, record)
    except UnknownVersion as error:
        leave(error)


app.checkpoints_changelog = checkpoints.changelog_topic.get_topic_name()
app.row_check = _check_row


@app.agent(commands_topic)
async def sequence_room_commands(stream: Any) -> None:
    """The one agent: hands each command to the writer of its partition. Nothing may raise into the stream."""
    unacknowledged = stream.noack()
    async for event in unacknowledged.events():
        try:
            await sequencer.take(event.message)
            for waiting in more_events(unacknowledged, TAKE_MAX):
                await sequencer.take(waiting.message)
        except Exception as error:  # noqa: BLE001 (Faust would drop the record and go on)
            leave(error)


async def _or_leave(step: Callable[..., Awaitable[None]], *args: Any) -> None:
    try:
        await step(*args)
    except asyncio.CancelledError as error:
        if app.should_stop:
            raise
        leave(error)
    except Exception as error:  # noqa: BLE001 (Faust would swallow it)
        leave(error)


async def recover_room_writers() -> None:
    """Called by Faust at each assignment, when the tables are read and before a command flows."""
    await _or_leave(sequencer.recover)


rooms.on_recover(recover_room_writers)


@app.on_partitions_revoked.connect
async def pause_room_writers(_: Any, /, *args: Any, **__: Any) -> None:
    """Called by Faust when a rebalance begins."""
    await _or_leave(sequencer.pause, args[0])


@app.on_before_shutdown.connect
async def stop_room_writers(_: Any, /, *__: Any, **___: Any) -> None:
    """Called by Faust at a stop, while Kafka is still connected."""
    await _or_leave(sequencer.stop)
