"""The sequencer's rows, read from their changelogs by somebody who has no table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agents.sequencing.log import Log
from agents.sequencing.rows import TABLES, Checkpoint, Rows, Tables, check_row, load_rows
from chat.errors import Refused
from chat.log.following import follow_compacted

LAST_FIRST: Final = tuple(reversed(TABLES))
"""Checkpoints are read to their end before the end of the rows that they vouch for is looked up (decision 0003)."""


async def newest_checkpoints(log: Log, partitions: Iterable[int]) -> dict[int, Checkpoint]:
    """The checkpoint that a recovery of each partition would begin at now; partitions without one are left out.

    Raises:
        UnknownVersion: a newer sequencer wrote one.
    """
    rows = await read_rows(log, list(partitions), ("checkpoints",))
    return {partition: known for partition, found in rows.items() if (known := found.checkpoint) is not None}


async def read_rows(log: Log, partitions: Sequence[int], tables: Iterable[str] = LAST_FIRST) -> dict[int, Rows]:
    """The rows that a recovery of each partition would begin with now.

    Raises:
        UnknownVersion: a newer sequencer wrote one of them.
    """
    data: Tables = {table: {} for table in TABLES}
    async with log.reader() as consumer:
        for table in tables:
            await _read_table(log, consumer, table, partitions, data)
    return load_rows(partitions, data)


async def _read_table(log: Log, consumer: Any, table: str, partitions: Iterable[int], data: Tables) -> None:
    tps = [log.changelog_partition(table, partition) for partition in partitions]
    rows = data[table]
    async for tp, records in follow_compacted(consumer, tps):
        for record in records:
            if record.value is None:
                rows.pop(record.key, None)
                continue
            with contextlib.suppress(Refused):  # what is no row is parked by the recovery that reads it
                check_row(tp.partition, record.key or b"", record.value)
                rows[record.key] = record.value
