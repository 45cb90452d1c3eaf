"""The least that anybody does who reads the event log to its end: a bare consumer that looks at nothing.

    python -m tests.bench.bare.skim COUNT              reads COUNT events, prints its CPU seconds and how many it read
    python -m tests.bench.bare.skim COUNT gateway      the same with a gateway's tail and hub; nobody watches any room

Both are measured in a process of their own that has done nothing else before.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from agents.engine import GARBAGE_THRESHOLDS
from chat import metrics
from chat.log.consumer import reader
from chat.log.tail import FETCH_WAIT_MS, RECORDS_MAX, Tail
from chat.log.taking import Position, Take
from chat.log.topics import EVENTS
from chat.settings import Settings, load
from web.hub import Hub


async def only_read(settings: Settings, count: int) -> int:
    topic, done = settings.topic(EVENTS), 0
    # In the tail's portions, so that only what it does with them differs.
    async with reader(settings, [topic], records_max=RECORDS_MAX, wait_ms=FETCH_WAIT_MS) as consumer:
        tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while done < count:
            for records in (await consumer.getmany(timeout_ms=FETCH_WAIT_MS)).values():
                done += sum(record.key is not None for record in records)  # a fence has no key
    return done


async def as_a_gateway(settings: Settings) -> int:
    async def positions() -> dict[int, Position]:
        return {}

    nobody: Any = SimpleNamespace(gateway_id=b"\xff" * 8)
    hub = Hub(nobody, None, creates_on_first_use=True)  # type: ignore[arg-type]  # nobody watches: no backlog is asked
    tail = Tail(settings, hub, positions=positions, on_health=lambda *_: None)
    task = asyncio.create_task(tail.run())
    await tail.caught_up.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return int(metrics.log_records.labels(Take.EVENT.name.lower())._value.get())


async def main(count: int, *, gateway: bool) -> None:
    settings = load()
    # As in a worker: the collector's share is no difference of the loops.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    before = time.process_time()
    done = await (as_a_gateway(settings) if gateway else only_read(settings, count))
    print(time.process_time() - before, done)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), gateway=sys.argv[2:] == ["gateway"]))
