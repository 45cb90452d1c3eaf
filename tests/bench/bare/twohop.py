"""The bare loop beside the whole way of a message: produce, consume, produce, consume, with aiokafka and nothing else.

    python -m tests.bench.bare.twohop KAFKA COMMANDS EVENTS PARTITIONS

Three processes do this in Roomlog (gateway, sequencer, gateway), so two do it here: this one starts the second. The
first produces, and reads the second topic; the second copies from the first topic to the second, record by record. One
JSON object a line on stdin: {"messages", "per_s"}; one on stdout with the quantiles of the delay in milliseconds. An end
of stdin ends both.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from chat.log.consumer import stop_consumer

POLL_MS = 500


def producer(servers: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=0)


async def reading(servers: str, topic: str, partitions: int) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, fetch_max_wait_ms=POLL_MS)
    await consumer.start()
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(tps)
    await consumer.seek_to_end(*tps)
    for tp in tps:
        await consumer.position(tp)
    return consumer


async def copy(servers: str, commands: str, events: str, partitions: int) -> None:
    """The second process: what a sequencer cannot do without."""
    out = producer(servers)
    await out.start()
    consumer = await reading(servers, commands, partitions)
    print("ready", flush=True)
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            for record in records:
                await out.send(events, key=record.key, value=record.value, partition=tp.partition)


async def measure(servers: str, commands: str, events: str, partitions: int) -> None:
    """The first process: what a gateway cannot do without."""
    out = producer(servers)
    await out.start()
    consumer = await reading(servers, events, partitions)
    took: list[float] = []
    wanted = 0
    done = asyncio.Event()

    async def read() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                now = time.perf_counter_ns()
                took.extend((now - int(record.value[:20])) / 1e6 for record in records)
            if len(took) >= wanted:
                done.set()

    reader = asyncio.create_task(read())
    loop = asyncio.get_running_loop()
    print(json.dumps({"pid": os.getpid()}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        took.clear()
        done.clear()
        wanted, per_s = asked["messages"], asked["per_s"]
        started = time.perf_counter()
        for n in range(wanted):
            due = started + n / per_s
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            value = b"%020d" % time.perf_counter_ns() + b"x" * 280
            await out.send(commands, key=b"room", value=value, partition=n % partitions)
        await asyncio.wait_for(done.wait(), 60)
        ordered = sorted(took)
        print(
            json.dumps({f"deliver_p{q}_ms": ordered[min(wanted - 1, wanted * q // 100)] for q in (50, 90, 99)}),
            flush=True,
        )
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await stop_consumer(consumer)
    await out.stop()


def main() -> None:
    servers, commands, events, partitions, *rest = sys.argv[1:]
    if rest == ["copy"]:
        asyncio.run(copy(servers, commands, events, int(partitions)))
        return
    second = subprocess.Popen([sys.executable, "-m", __spec__.name, *sys.argv[1:], "copy"], stdout=subprocess.PIPE)
    assert second.stdout
    try:
        assert second.stdout.readline(), "the second process died"
        print(json.dumps({"copier": second.pid}), flush=True)
        asyncio.run(measure(servers, commands, events, int(partitions)))
    finally:
        second.send_signal(signal.SIGKILL)
        second.wait()


if __name__ == "__main__":
    main()
