"""The sequencer's newest checkpoints, read from their changelog by somebody who has no table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from agents.sequencing.log import Log, follow
from agents.sequencing.rows import TABLES, Checkpoint, check_row, load_rows
from chat.errors import Refused


async def newest_checkpoints(log: Log, partitions: Iterable[int]) -> dict[int, Checkpoint]:
    """The checkpoint that a recovery of each partition would begin at now; partitions without one are left out.

    Raises:
        UnknownVersion: a newer sequencer wrote one.
    """
    tps = [log.changelog_partition("checkpoints", partition) for partition in partitions]
    data: dict[bytes, bytes] = {}
    async with log.reader() as consumer:
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        async for tp, records in follow(consumer, starts, ends):
            for record in records:
                if record.value is None:
                    data.pop(record.key, None)
                    continue
                with contextlib.suppress(Refused):  # what is no row is parked by the recovery that reads it
                    check_row(tp.partition, record.key or b"", record.value)
                    data[record.key] = record.value
    rows = load_rows([tp.partition for tp in tps], {**{table: {} for table in TABLES}, "checkpoints": data})
    return {partition: known for partition, found in rows.items() if (known := found.checkpoint) is not None}
