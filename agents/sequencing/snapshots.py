"""Snapshots: the rows that changed, then a checkpoint that says so (docs/decisions/0003-snapshots.md).

Of each partition only what the log has acknowledged is written, as rows of the writer's own term. Order and waiting
carry the promise: all rows of a snapshot are acknowledged before its checkpoint is sent, and an older term's row is
deleted only after the row that replaces it is acknowledged. A process that dies in between leaves rows that are newer
than the checkpoint; folding over them changes nothing.

What has been captured counts as clean. So one snapshot is taken at a time, and after one that did not come to its end
none is taken any more: its rows would be missing under the next checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from agents.sequencing.attempt import Attempt
from agents.sequencing.log import Log
from agents.sequencing.rows import Change
from chat import metrics
from chat.failpoints import failpoint
from chat.log.producer import Record
from chat.log.topics import changelog
from chat.settings import Settings


class Snapshots:
    """Writes the snapshots of this process's partitions."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._torn = False

    async def take(self, attempts: Iterable[Attempt]) -> int:
        """One snapshot of every partition that has something new, after the one that is under way.

        Returns when all of it is acknowledged: how many bytes were written. Whatever ends it before (a cancellation,
        too) makes it the last one of this process: from then on nothing is written.
        """
        async with self._one_at_a_time:
            if self._torn:
                return 0
            self._torn = True
            written = await self._take(attempts)
            self._torn = False
            return written

    async def _take(self, attempts: Iterable[Attempt]) -> int:
        started = time.perf_counter()
        captured = []
        for attempt in list(attempts):
            if (changes := await attempt.capture()) is not None:
                captured.append((attempt.partition, *changes))
                await asyncio.sleep(0)
        if not captured:
            return 0
        await asyncio.gather(*(self._write(*each) for each in captured))
        metrics.sequencer_snapshot_rows.inc(sum(len(changes) + 1 for _, changes, _ in captured))
        metrics.sequencer_snapshot_seconds.observe(time.perf_counter() - started)
        written = sum(len(change.value) for _, changes, _ in captured for change in changes)
        metrics.sequencer_snapshot_bytes.inc(written)
        return written

    async def _write(self, partition: int, changes: list[Change], checkpoint: Change) -> None:
        by_table: dict[str, list[Change]] = {}
        for change in changes:
            by_table.setdefault(change.table, []).append(change)
        for table, rows in by_table.items():
            await self._append(table, partition, [Record(row.key, row.value, []) for row in rows])
            failpoint("snapshot-first-row")
        await self._append("checkpoints", partition, [Record(checkpoint.key, checkpoint.value, [])])
        by_table.setdefault("checkpoints", []).append(checkpoint)
        for table, rows in by_table.items():
            deletions = [Record(key, None, []) for row in rows for key in row.obsolete]
            await self._append(table, partition, deletions)

    async def _append(self, table: str, partition: int, records: list[Record]) -> None:
        if records:
            await self._log.append_rows(self._settings.topic(changelog(table)), partition, records)
