"""The least that any projector does: a bare aiokafka consumer, and the same values into Redis by plain pipelines. No
position, no rebuild, nothing that compares seqs.

    python -m tests.bench.bare.projector COUNT     reads COUNT events or a few more from the beginning, writes them under
                                                   a namespace of its own, prints CPU seconds, seconds, and how many
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from dataclasses import replace
from typing import Any, Final

import redis.asyncio
from aiokafka import TopicPartition

from agents.engine import GARBAGE_THRESHOLDS
from chat.log.consumer import reader
from chat.log.topics import EVENTS
from chat.records import Event, decode_event
from chat.settings import Settings, load
from chat.stores.redis.client import Keys
from chat.stores.redis.writing import TAIL_EVENTS, TAIL_TTL_S

READ_AT_ONCE: Final = 2_000


def apart(settings: Settings) -> Settings:
    """Where the bare loop writes."""
    return replace(settings, namespace=f"{settings.namespace}-bare")


async def write(client: redis.asyncio.Redis, keys: Keys, events: list[tuple[Event, bytes]]) -> None:
    heads: dict[str, Event] = {}
    tails: dict[str, list[tuple[bytes, int]]] = {}
    for event, value in events:
        heads[event.room] = event
        tails.setdefault(event.room, []).append((value, event.seq))
    pipe = client.pipeline(transaction=False)
    for room, event in heads.items():
        head = {"seq": event.seq, "msg_no": event.msg_no, "members": event.members, "at": event.at}
        pipe.hset(keys.room(room), mapping=head)
        pipe.zadd(keys.rooms, {room: event.at})
        tail: dict[Any, Any] = dict(tails[room][-TAIL_EVENTS:])
        pipe.zadd(keys.tail(room), tail)
        pipe.zremrangebyrank(keys.tail(room), 0, -TAIL_EVENTS - 1)
        pipe.expire(keys.tail(room), TAIL_TTL_S)
    await pipe.execute()


async def main(count: int) -> None:
    settings = load()
    host, port = settings.redis_address
    client, keys = redis.asyncio.Redis(host=host, port=port), Keys(apart(settings))
    topic, done = settings.topic(EVENTS), 0
    last: dict[str, int] = {}
    async with reader(settings, [topic]) as consumer:
        tps = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        # As in a worker: the collector's share is no difference of the loops.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        started, before = time.monotonic(), time.process_time()
        while done < count:
            read = await consumer.getmany(timeout_ms=500, max_records=READ_AT_ONCE)
            events = [
                (decode_event(record.value), record.value)
                for records in read.values()
                for record in records
                if record.key is not None  # a fence has none
            ]
            await write(client, keys, events)
            last.update((event.room, event.seq) for event, _ in events)
            done += len(events)
        cpu_s, took_s = time.process_time() - before, time.monotonic() - started
    for room, seq in last.items():
        ((_, score),) = await client.zrevrange(keys.tail(room), 0, 0, withscores=True)
        assert score == seq, f"{room}: the tail ends at {score}, not at {seq}"
    print(cpu_s, took_s, done)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
