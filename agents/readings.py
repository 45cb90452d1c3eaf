"""The partitions of a durable reader: taken over at an assignment, committed once a second, given up at a rebalance.

What is committed is the position as metadata; the offset beside it is for people who watch lag, and for one moment, at
an assignment, where Faust seeks to.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NoReturn, cast

from aiokafka.errors import KafkaError
from faust.types import TP

from agents.consuming import Consumer
from agents.engine import RoomlogApp
from agents.reading import Reading
from chat import logs
from chat.failpoints import failpoint
from chat.log.bases import begin_at, no_beginning, read_bases
from chat.log.positions import Checkpoint, committed
from chat.log.taking import START, Position
from chat.settings import Settings

log = logs.get(__name__)

EXIT_BROKEN: Final = 70
"""The supervisor starts the process again, which recovers from the committed positions (sysexits: EX_SOFTWARE)."""
SEEK_PERIOD_S: Final = 0.5
COMMIT_TIMEOUT_S: Final = 30.0


def leave(line: str) -> NoReturn:
    """Leave the process: going on could lose or repeat something. The supervisor starts it again."""
    log.critical("leaving", reason=line)
    os._exit(EXIT_BROKEN)


class Readings:
    """Assigned partitions of one topic, by number."""

    def __init__(
        self, app: RoomlogApp, settings: Settings, topic: str, *, again_s: float, clock: Callable[[], float]
    ) -> None:
        """What was written less than `again_s` of `clock` before a start is written again."""
        self._app = app
        self._settings = settings
        self._topic = topic
        self._again_s = again_s
        self._clock = clock
        self._readings: dict[int, Reading] = {}

    def __iter__(self) -> Iterator[Reading]:
        """The assigned partitions."""
        return iter(list(self._readings.values()))

    def get(self, partition: int) -> Reading | None:
        """One partition; None when it is not ours."""
        return self._readings.get(partition)

    # ------------------------------------------------------------ assignment

    def assigned(self) -> set[int]:
        """Partitions that the group has given to this process."""
        return {tp.partition for tp in self._consumer.assignment() if tp.topic == self._topic}

    async def take_over(self, mine: set[int]) -> None:
        """Begin or go on with the partitions `mine`, and with no others. Call it while no record flows.

        A partition that stayed goes on where it is, unless somebody else has been further on it meanwhile. One that
        nobody of this role has read begins with the log, or at its base where the log was trimmed. Leaves the process
        when the log does not hold what comes next.
        """
        for partition in self._readings.keys() - mine:
            del self._readings[partition]
        if not mine:
            return
        tps = {partition: TP(self._topic, partition) for partition in mine}
        checkpoints = await committed(self._settings, self._settings.role)
        begins = await self._consumer.earliest_offsets(*tps.values())
        ends = await self._consumer.highwaters(*tps.values())
        bases = await read_bases(self._settings) if any(begins[tps[p]] for p in mine - checkpoints.keys()) else {}
        seeks: dict[int, tuple[Position, Checkpoint]] = {}
        for partition, tp in tps.items():
            kept = self._readings.get(partition)
            start = checkpoints.get(partition)
            if kept is not None and (start is None or kept.taker.offset >= start.newest.offset):
                continue
            if start is None:
                position = begin_at(begins[tp], bases.get(partition))
                if position is None:
                    leave(no_beginning(self._topic, partition, begins[tp]))
                start = Checkpoint(position, position)
            if start.again.offset + 1 < begins[tp] <= start.newest.offset + 1:
                start = Checkpoint(start.newest, start.newest)
            if not begins[tp] <= start.again.offset + 1 <= ends[tp]:
                leave(
                    f"{self._topic} partition {partition} holds offsets {begins[tp]} to {ends[tp]}, but this reader "
                    f"goes on at {start.again.offset + 1}: the log was trimmed or made anew under it; "
                    f"`faust -A app begin-at-base {self._settings.role}` has it begin where the log begins"
                )
            self._begin(partition, start)
            if start.again != START or partition in checkpoints:
                seeks[partition] = (start.again, start)
        # The metadata stays what it was; the offset is where Faust seeks to next.
        await self._commit(seeks)

    def _begin(self, partition: int, start: Checkpoint) -> None:
        self._readings[partition] = Reading(partition, start, again_s=self._again_s, now=self._clock())

    # ------------------------------------------------------------ commits

    async def commit_written(self) -> None:
        """Commit how far partitions are written, where that has changed; what fails is committed by a later call."""
        now = self._clock()
        changed = {
            reading: checkpoint for reading in self if (checkpoint := reading.checkpoint(now)) != reading.committed
        }
        if not changed:
            return
        failpoint(f"{self._settings.role}-before-commit")
        try:
            done = await asyncio.wait_for(
                self._commit({reading.partition: (c.newest, c) for reading, c in changed.items()}), COMMIT_TIMEOUT_S
            )
        except (KafkaError, TimeoutError) as error:
            log.warning("commit_postponed", reason=repr(error))
            return
        if done:
            for reading, checkpoint in changed.items():
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

    # ------------------------------------------------------------ where the consumer is

    async def seek(self, reading: Reading) -> None:
        """Have what comes next of `reading` fetched again: at most every `SEEK_PERIOD_S`."""
        now = time.monotonic()
        if now - reading.sought_at < SEEK_PERIOD_S:
            return
        reading.sought_at = now
        await self._consumer.read_again(TP(self._topic, reading.partition), reading.taker.offset + 1)

    async def rewind(self, starts: Iterable[tuple[int, Position]]) -> None:
        """Read partitions again from an older position on, where they are ours and further."""
        for partition, start in starts:
            reading = self._readings.get(partition)
            if reading is not None and start.offset < reading.taker.offset:
                self._begin(partition, Checkpoint(reading.checkpoint(self._clock()).newest, start))
                await self.seek(self._readings[partition])

    async def begin_again(self) -> None:
        """Have every partition go on from where it would if this process were started now."""
        now = self._clock()
        await self.rewind([(reading.partition, reading.checkpoint(now).again) for reading in self])

    def end(self, reading: Reading) -> int:
        """Offset after the last record of the partition, as of the last fetch; 0 when it is not known."""
        return self._consumer.end(TP(self._topic, reading.partition))

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self._app.consumer)
