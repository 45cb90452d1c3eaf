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
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, cast

from aiokafka.errors import KafkaError
from faust.types import TP

from agents.consuming import Consumer
from agents.sequencing.attempt import Attempt, Command, Fenced, Limits
from agents.sequencing.checkpoints import newest_checkpoints
from agents.sequencing.log import Log
from agents.sequencing.pace import Pace
from agents.sequencing.recovery import Lost, Stopped, begin_attempts, too_new
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
MISSING_ASKS_MAX: Final = 40
"""A command that Kafka does not deliver although it was asked for so often, and delivers later ones, is a hole."""
SILENCE_TICKS: Final = 3
"""Seconds without a command although the log has one: then it is asked for."""
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
"""Large snapshots come less often: a recovery reads what the changelogs hold of the last two minutes or so, which are
not compacted yet, and this much a second makes 8 MB of them."""

LOOK_AGAIN_S: Final = 5.0
"""Between two looks whether an operation has mended a partition that stands still."""

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
        self._unreadable: dict[int, Stopped] = {}
        """Partitions whose rows a newer sequencer wrote: this process never writes them."""
        self._looked_s = 0.0
        self._recovering = asyncio.Lock()
        self._committed: dict[int, tuple[int, str]] = {}
        self._looks: dict[Attempt, tuple[int, int]] = {}
        """Command wanted at the last look, and looks in a row that found the same one and it had not come."""
        self._tasks: list[asyncio.Task[None]] = []
        self._rebalancing_since_s: float | None = None

    # ------------------------------------------------------------ the agent's path

    async def take(self, partition: int, commands: Sequence[Command]) -> None:
        """Records of one partition of the command topic, wherever Faust has them from: taken from the next one on."""
        attempt = self._attempts.get(partition)
        for command in commands:
            if attempt is None:
                return
            if command.offset == attempt.next:
                attempt.put(command)
                if attempt.full:
                    await attempt.wait_for_room()
                    # A rebalance may have come in between.
                    attempt = self._attempts.get(partition)
            elif command.offset > attempt.next:
                # Later ones arrive, the next one does not.
                now_s = time.monotonic()
                if now_s - attempt.asked_s >= SEEK_PERIOD_S:
                    attempt.asked_s = now_s
                    attempt.asks += 1
                    if attempt.asks > MISSING_ASKS_MAX:
                        raise LogHole(f"partition {partition}: command {attempt.next} is missing, later ones are there")
                    await self._ask_again(attempt)
                return

    async def _ask_again(self, attempt: Attempt) -> None:
        await _consumer().read_again(TP(message_topic(), attempt.partition), attempt.next)

    # ------------------------------------------------------------ assignment

    async def connect(self) -> None:
        """Connect to the log, while Faust joins the group."""
        try:
            await self._log.start()
        except (KafkaError, OSError) as error:  # `recover` tries again
            log.info("connect_postponed", reason=repr(error))

    async def is_row(self, _table: str, record: Any) -> bool:
        """Whether a record of a changelog may be a row of ours; one that may not is parked.

        A newer sequencer's row keeps this process from its partition, however often that is assigned to it.
        """
        try:
            check_row(record.partition, record.key or b"", record.value)
        except Refused as refusal:
            await self._log.start()
            await self._log.park(record, refusal.code, refusal.message)
            log.error("row_parked", topic=record.topic, partition=record.partition, offset=record.offset)
            metrics.dead_letters.labels(refusal.code.value).inc()
            return False
        except UnknownVersion as error:
            partition = record.partition
            self._unreadable.setdefault(
                partition, too_new(partition, f"{record.topic}, offset {record.offset}: {error}")
            )
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
                for partition in new & self._unreadable.keys():
                    self._stand_still(self._unreadable[partition])
                rows = load_rows(new - self._unreadable.keys(), _tables())
                for result in await begin_attempts(self._log, rows, self._limits, self._pace, settings.worker):
                    if isinstance(result, Stopped):
                        self._stand_still(result)
                    elif result.partition in self._assigned():
                        self._attempts[result.partition] = result
                        self._stopped.pop(result.partition, None)
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
        await asyncio.gather(*(a.pause(HANDOVER_S) for a in self._attempts.values()))
        try:
            async with asyncio.timeout(HANDOVER_S):
                # After the one that may be under way, which is not cut short: what it has captured counts as written.
                await self._snapshots.take(self._attempts.values())
                await self._commit()
        except TimeoutError:
            log.warning("last_snapshot_given_up", reason="Kafka does not answer")
        for task in self._tasks:
            task.cancel()
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

    def _stand_still(self, stopped: Stopped) -> None:
        """The other partitions go on; this process is not ready."""
        log.error("partition_stopped", partition=stopped.partition, reason=stopped.reason)
        self._stopped[stopped.partition] = stopped

    def _ended(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is None:
            return
        if isinstance(error, UnknownVersion):
            if self._attempts.get(attempt.partition) is attempt:
                del self._attempts[attempt.partition]
                self._stand_still(too_new(attempt.partition, str(error)))
            # The agent may be waiting for room in its inbox.
            self._tasks.append(asyncio.create_task(attempt.close(0)))
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
                await self._look_in_silence()
                await self._commit()
                await self._tick()
                await self._look_again()
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
            end = _consumer().end(TP(message_topic(), partition))
            metrics.log_lag_records.labels(str(partition)).set(max(0, end - attempt.position.src - 1))

    async def _look_in_silence(self) -> None:
        # A command that was fetched and lost shows when the next one comes: in silence, look.
        looks: dict[Attempt, tuple[int, int]] = {}
        for partition, attempt in list(self._attempts.items()):
            before, ticks = self._looks.get(attempt, (-1, 0))
            silent = _consumer().end(TP(message_topic(), partition)) > attempt.next == before and not attempt.full
            looks[attempt] = attempt.next, ticks + 1 if silent else 0
            if silent and not (ticks + 1) % SILENCE_TICKS:
                await self._ask_again(attempt)
        self._looks = looks

    async def _commit(self) -> None:
        """Tell the group how far we are, and every tail where it may begin: the position is the offset's metadata."""
        positions = {p: (a.position.src + 1, a.position.encode()) for p, a in self._attempts.items()}
        changed = {p: position for p, position in positions.items() if self._committed.get(p) != position}
        if changed and await _consumer().commit_positions(
            {TP(message_topic(), p): position for p, position in changed.items()}
        ):
            self._committed.update(changed)

    async def _tick(self) -> None:
        for partition, attempt in list(self._attempts.items()):
            if attempt.clock.tick_due():
                await self._log.append_commands(partition, [Record(None, encode(Tick(v=VERSION)), [])])

    async def _look_again(self) -> None:
        """A partition that stood still over a loss has been mended: a new process reads its rows and goes on."""
        lost = [stopped for stopped in self._stopped.values() if isinstance(stopped, Lost)]
        if not lost or time.monotonic() - self._looked_s < LOOK_AGAIN_S:
            return
        try:
            newest = await newest_checkpoints(self._log, [stopped.partition for stopped in lost])
        except (KafkaError, OSError, UnknownVersion) as error:
            log.warning("look_again_postponed", reason=repr(error))
            return
        for stopped in lost:
            if newest.get(stopped.partition) != stopped.known:
                leave(Mended(f"partition {stopped.partition} has a new checkpoint: its rows are read again"))
        self._looked_s = time.monotonic()


class Mended(Exception):
    """Somebody has mended a partition that stood still."""


def leave(error: BaseException) -> NoReturn:
    """End this process now: what it holds can no longer be trusted, and the log can."""
    log.error("sequencer_leaves", error=type(error).__name__, reason=str(error))
    sys.stderr.flush()
    os._exit(EXIT_BROKEN)


def message_topic() -> str:
    """Kafka's name of the command topic."""
    return str(commands_topic.get_topic_name())


def _consumer() -> Consumer:
    return cast("Consumer", app.consumer)


def _tables() -> Tables:
    return {"rooms": rooms.data, "members": members.data, "senders": senders.data, "checkpoints": checkpoints.data}


failpoints.arm(settings.failpoint)
readiness.expect(READY, "recovering")
sequencer = Sequencer()


app.checkpoints_changelog = checkpoints.changelog_topic.get_topic_name()
app.row_check = sequencer.is_row


@app.agent(commands_topic)
async def sequence_room_commands(stream: Any) -> None:
    """The one agent: hands each command to the writer of its partition. Nothing may raise into the stream."""
    async for event in stream.noack().events():
        try:
            await sequencer.take(event.message.partition, event.value)
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
