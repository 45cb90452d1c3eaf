"""How an attempt begins: rows, fence, fold, checks. The order is the point (docs/architecture.md, "recovery").

The rows have been read before this is called. Then the fence goes into the log, and everything from the checkpoint to
the fence is folded: from the fence on no other writer's record counts, so nothing can be missed. The first record with
this attempt's id is its fence, wherever it lands; its offset is the term.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from agents.sequencing.attempt import Attempt, Limits
from agents.sequencing.checkpoints import newest_checkpoints
from agents.sequencing.clock import Clock
from agents.sequencing.log import Log
from agents.sequencing.pace import Pace
from agents.sequencing.rows import Checkpoint, Rows
from chat.errors import BrokenInvariant, Refused, UnknownVersion
from chat.failpoints import failpoint
from chat.log.taking import START, Take, Taker
from chat.records import (
    EVENT_KINDS,
    H_KIND,
    decode_event,
    decode_verdict,
    decode_writer,
    header,
)

FENCE_ID_BYTES: Final = 16


class StaleRows(BrokenInvariant):
    """The rows that were read are older than the log's beginning, newer ones are in the changelog: read them again."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A partition that cannot be written by this process. `reason` is one line."""

    partition: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost(Stopped):
    """Somebody has to decide about a loss. An operation that mends it writes a newer checkpoint than `known`."""

    known: Checkpoint | None


@dataclass(frozen=True, slots=True)
class LostCommands(Lost):
    """The commands that follow are gone. `attempt` holds the partition's state and its newest fence; it is not started.

    The command topic holds offsets `first` up to, not including, `end`.
    """

    attempt: Attempt
    first: int
    end: int


class Restoring:
    """The fold of one partition, on its way from the checkpoint to this attempt's fence."""

    def __init__(self, partition: int, rows: Rows, fence_id: str) -> None:
        checkpoint = rows.checkpoint
        self.partition = partition
        self.rows = rows
        self.taker = Taker(START if checkpoint is None else checkpoint.position)
        self.clock = Clock(0 if checkpoint is None else checkpoint.at)
        self.unsnapshotted = False
        self.done = False
        self.fence_id = fence_id

    def feed_all(self, records: Iterable[Any]) -> None:
        """The next records of the log, as far as this attempt's fence. Raises like `feed`."""
        for record in records:
            self.feed(record)
            if self.done:
                return

    def feed(self, record: Any) -> None:
        """The next record of the log. `done` once it was this attempt's fence.

        Raises:
            LogHole: a record is missing.
            UnknownVersion: a newer sequencer wrote it.
            BrokenInvariant: a record that counts does not decode.
        """
        taken = self.taker.take(record.offset, record.headers)
        try:
            match taken:
                case Take.EVENT:
                    kind = (header(record.headers, H_KIND) or b"").decode("ascii", "replace")
                    if kind not in EVENT_KINDS:
                        raise UnknownVersion(f"event kind {kind!r} is not known here: upgrade this worker")
                    event = decode_event(record.value)
                    self.rows.fold(event)
                    self.clock.passed(event.at, event.at, record.timestamp)
                    self.unsnapshotted = True
                case Take.VERDICT:
                    verdict = decode_verdict(record.value)
                    self.clock.passed(verdict.at, -1, record.timestamp)
                    if verdict.outcome != "tick":
                        self.unsnapshotted = True
                case Take.FENCE:
                    writer = decode_writer(record.value)
                    if writer is not None and writer.id == self.fence_id:
                        self.clock.stamped(record.timestamp)
                        self.done = True
        except Refused as refusal:
            raise BrokenInvariant(
                f"partition {self.partition}: the record at offset {record.offset} counts and does not decode: "
                f"{refusal.message}"
            ) from None


async def begin_attempts(
    log: Log, all_rows: Mapping[int, Rows], limits: Limits, pace: Pace, worker: str
) -> list[Attempt | Stopped]:
    """Fence and fold each partition of `all_rows`; an attempt that may write, or why none may.

    Raises:
        StaleRows: the rows have to be read again, by a new process.
        BrokenInvariant: the log is not what it has to be.
    """
    results: list[Attempt | Stopped] = []
    async with log.reader() as consumer:
        beginnings = await consumer.beginning_offsets([log.event_partition(p) for p in all_rows])
        restoring: dict[TopicPartition, Restoring] = {}
        for partition, rows in all_rows.items():
            tp = log.event_partition(partition)
            beginning = beginnings[tp]
            known = rows.checkpoint
            if (-1 if known is None else known.offset) + 1 < beginning:
                newest = (await newest_checkpoints(log, [partition])).get(partition)
                if newest is not None and newest.offset + 1 >= beginning:
                    raise StaleRows(f"partition {partition}: rows are older than the log's beginning {beginning}")
                results.append(Lost(partition, _lost_events(partition, newest, beginning), newest))
                continue
            if known is not None and rows.count < known.rows:
                results.append(Lost(partition, _lost_rows(partition, rows.count, known), known))
                continue
            restoring[tp] = Restoring(partition, rows, secrets.token_hex(FENCE_ID_BYTES))
        failpoint("recovery-before-fence")
        await asyncio.gather(*(log.append_fence(each.partition, each.fence_id, worker) for each in restoring.values()))
        failpoint("recovery-after-fence")
        results += await _fold(consumer, restoring)
        commands = [log.command_partition(each.partition) for each in restoring.values()]
        first = await consumer.beginning_offsets(commands)
        end = await consumer.end_offsets(commands)
    for each in restoring.values():
        if not each.done:
            continue
        tp = log.command_partition(each.partition)
        known = each.rows.checkpoint
        attempt = Attempt(each.partition, log, each.rows, each.taker, each.clock, limits, pace)
        attempt.unsnapshotted = each.unsnapshotted
        if first[tp] <= attempt.next <= end[tp]:
            results.append(attempt)
        else:
            reason = _lost_commands(each.partition, attempt.next, first[tp], end[tp])
            results.append(LostCommands(each.partition, reason, known, attempt, first[tp], end[tp]))
    return results


async def _fold(consumer: Any, restoring: Mapping[TopicPartition, Restoring]) -> list[Stopped]:
    """Feed each partition up to its fence. Returns those that hold what only a newer sequencer can read."""
    stopped: list[Stopped] = []
    consumer.assign(list(restoring))
    for tp, each in restoring.items():
        consumer.seek(tp, each.taker.offset + 1)
    left = dict(restoring)
    while left:
        try:
            fetched = await consumer.getmany(*left, timeout_ms=1000)
        except OffsetOutOfRangeError as error:
            raise StaleRows(f"the event log was trimmed past a checkpoint while it was read: {error}") from None
        for tp, records in fetched.items():
            each = left[tp]
            try:
                each.feed_all(records)
            except UnknownVersion as error:
                stopped.append(too_new(each.partition, f"event log, offset {each.taker.offset}: {error}"))
            else:
                if not each.done:
                    continue
            del left[tp]
            consumer.pause(tp)
    return stopped


def too_new(partition: int, why: str) -> Stopped:
    """A partition that only a newer sequencer can go on with."""
    return Stopped(partition, f"partition {partition} stands still: {why}")


def _lost_events(partition: int, newest: Checkpoint | None, beginning: int) -> str:
    known = "no checkpoint" if newest is None else f"a checkpoint at {newest.offset}"
    return (
        f"partition {partition} stands still: its events begin at {beginning}, its rows end at {known}; "
        f"run `faust -A app rebuild-tables --partition {partition}` (docs/operations.md, lost events)"
    )


def _lost_rows(partition: int, held: int, checkpoint: Checkpoint) -> str:
    return (
        f"partition {partition} stands still: its changelogs hold {held} of the {checkpoint.rows} rows that its "
        f"checkpoint at {checkpoint.offset} vouches for; run `faust -A app rebuild-tables --partition {partition}` "
        "(docs/operations.md, lost events)"
    )


def _lost_commands(partition: int, wanted: int, first: int, end: int) -> str:
    return (
        f"partition {partition} stands still: command {wanted} is wanted, room.commands holds {first} to {end - 1}; "
        f"commands were lost before they were answered: run `faust -A app accept-loss --partition {partition}` "
        "(docs/operations.md, lost commands)"
    )
