"""CPU of the sequencer per command, beside a bare loop of the same rules; latency from command to event. `make bench`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chat.log.consumer import stop_consumer
from chat.log.producer import Record, append
from chat.log.taking import command_id
from chat.records import PostMessage, encode
from tests.bench.measure import Figure, cpu_s, report
from tests.engines import ROOT, Worker, Workers, clean_environment
from tests.integration.sequencing import Log

COMMANDS = 20_000
ROOMS = 100
BODY = "x" * 100
REPETITIONS = 2
PRELOAD_MAX_S = 4.0
"""The sequencer stands still while commands are laid up: less than its session."""

pytestmark = pytest.mark.bench


def post(n: int) -> tuple[str, PostMessage]:
    room = f"room-{n % ROOMS}"
    command = PostMessage(
        v=1, room=room, sender=f"user-{n % 7}", nonce="n" * 22, client_id=f"id-{n}", body=BODY, create=True
    )
    return room, command


async def lay_up(log: Log, first: int, count: int) -> None:
    """Append commands, as fast as they go."""
    by_partition: dict[int, list[Record]] = {}
    for n in range(first, first + count):
        room, command = post(n)
        record = Record(room.encode(), encode(command), [("cmd", b"%016d" % n)])
        by_partition.setdefault(log.partition(room), []).append(record)
    await asyncio.gather(*(append(log.producer, log.commands, p, records) for p, records in by_partition.items()))


async def sequenced_us(log: Log, sequencer: Worker, first: int) -> float:
    """Microseconds of CPU per command that was waiting."""
    sequencer.pause()
    started = time.monotonic()
    await lay_up(log, first, COMMANDS)
    assert time.monotonic() - started < PRELOAD_MAX_S, "the sequencer stood still for too long to keep its session"
    ends = sum((await log.ends(log.events)).values())
    before = cpu_s(sequencer.pid)
    sequencer.resume()
    while sum((await log.ends(log.events)).values()) < ends + COMMANDS:
        await asyncio.sleep(0.05)
    return (cpu_s(sequencer.pid) - before) / COMMANDS * 1e6


async def bare_us(log: Log, environment: dict[str, str]) -> float:
    """The same of the bare loop."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("bare_sequencer.py")),
        str(COMMANDS),
        env={**clean_environment(), **environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out) / COMMANDS * 1e6


async def latencies_ms(log: Log, first: int, count: int, per_s: float) -> list[float]:
    """From sending a command to reading its event, sorted."""
    consumer = AIOKafkaConsumer(bootstrap_servers=log.settings.kafka_servers, enable_auto_commit=False)
    await consumer.start()
    sent: dict[bytes, float] = {}
    found: list[float] = []
    try:
        consumer.assign([TopicPartition(log.events, p) for p in range(log.settings.partitions)])
        await consumer.seek_to_end()

        async def read() -> None:
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    now = time.perf_counter()
                    found.extend(
                        (now - sent[key]) * 1e3 for record in records if (key := command_id(record.headers)) in sent
                    )

        reading = asyncio.create_task(read())
        started = time.perf_counter()
        for n in range(count):
            room, command = post(first + n)
            key = b"%016d" % (first + n)
            sent[key] = time.perf_counter()
            await log.producer.send(
                log.commands,
                key=room.encode(),
                value=encode(command),
                headers=[("cmd", key)],
                partition=log.partition(room),
            )
            await asyncio.sleep(max(0.0, started + (n + 1) / per_s - time.perf_counter()))
        await asyncio.wait_for(reading, 60)
    finally:
        await stop_consumer(consumer)
    return sorted(found)


async def test_sequencer_beside_a_bare_loop(worker: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    sequencer = await worker("sequencer")
    ours: list[float] = []
    bare: list[float] = []
    async with Log(worker.namespace.settings()) as log:
        for i in range(REPETITIONS):
            ours.append(await sequenced_us(log, sequencer, i * COMMANDS))
            bare.append(await bare_us(log, worker.namespace.environment()))
        latency = {}
        for per_s in (100, 1000):
            found = await latencies_ms(log, 10_000_000 * per_s, 5 * per_s, per_s)
            latency[f"command_to_event_ms_at_{per_s}"] = {
                f"p{q}": round(found[min(len(found) - 1, len(found) * q // 100)], 2) for q in (50, 90, 99)
            }
    figure = Figure("sequencer, preloaded", "us of CPU per command", ours, bare)
    with capsys.disabled():
        print(
            report(
                [figure], commands=COMMANDS, rooms=ROOMS, partitions=log.settings.partitions, pid=os.getpid(), **latency
            )
        )
    assert figure.ratio < 6
