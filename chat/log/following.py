"""Reading partitions up to an end: a stretch of them, or all that counts of compacted ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition

from chat.log.consumer import FETCH_WAIT_MS

COMPACTION_LAG_S: Final = 60.0
"""What is younger is not compacted (`min.compaction.lag.ms` of every changelog). The longer, the more superseded rows a
recovery has to read; the shorter, the more often it looks up the ends again."""

Batches = AsyncIterator[tuple[TopicPartition, Sequence[Any]]]


def boot_time_s() -> float:
    """Seconds of a clock that goes on while this process, or the whole machine, stands still."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def follow(consumer: Any, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> Batches:
    """Batches of records from `starts` until each partition has reached its end (which may be passed by some)."""
    left = {tp: end for tp, end in ends.items() if starts[tp] < end}
    consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    while left:
        for tp, records in (await consumer.getmany(timeout_ms=FETCH_WAIT_MS)).items():
            yield tp, records
        for tp in list(left):
            # The position, not the last record seen: a compacted topic may end in nothing.
            if await consumer.position(tp) >= left[tp]:
                del left[tp]
                consumer.pause(tp)


async def follow_compacted(
    consumer: Any, tps: Iterable[TopicPartition], *, clock: Callable[[], float] = boot_time_s
) -> Batches:
    """Batches of records such that of every key the newest is among them, and comes after the key's older ones.

    Compaction may remove a record between the look at the end and its turn to be read, because a newer one of its key
    stands behind that end. It does so no sooner than the lag after the newer one was written. So when reading took
    longer than half of the lag the ends are looked up once more, and what has come since is read too.
    """
    asked = list(tps)
    starts = await consumer.beginning_offsets(asked) if asked else {}
    while asked:
        looked_up_s = clock()
        ends = await consumer.end_offsets(asked)
        async for tp, records in follow(consumer, starts, ends):
            yield tp, records
        if clock() - looked_up_s <= COMPACTION_LAG_S / 2:
            return
        starts = ends
