"""The least that any sequencer does: a bare aiokafka consumer, the same rules and rows, `send_batch`. No fence, no
recovery, no snapshots, no Faust.

    python -m tests.bench.bare.sequencer COUNT     reads COUNT commands or a few more from the beginning, writes their
                                                   answers, prints its CPU seconds and how many commands it read
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.engine import GARBAGE_THRESHOLDS
from agents.sequencing.intake import read_command
from agents.sequencing.rows import TABLES, Rows
from chat.log.producer import Record, append, make_producer
from chat.log.topics import COMMANDS, DEAD_LETTERS, record_bytes_max
from chat.records import Event, Tick, encode, record_headers
from chat.rooms.decide import decide, log_time
from chat.settings import load


async def main(count: int) -> None:
    settings = load()
    producer = make_producer(settings)
    await producer.start()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    consumer.assign([TopicPartition(settings.topic(COMMANDS), p) for p in range(settings.partitions)])
    rows = {p: Rows(p, {table: {} for table in TABLES}) for p in range(settings.partitions)}
    at = dict.fromkeys(rows, 0)
    limit = record_bytes_max(settings)
    # As in a worker: the collector's share is no difference of the loops.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    before = resource.getrusage(resource.RUSAGE_SELF)
    done = 0
    while done < count:
        for tp, records in (await consumer.getmany(timeout_ms=1000, max_records=5000)).items():
            p = tp.partition
            answers = []
            for record in records:
                at[p] = log_time(record.timestamp, at[p])
                command, command_id = read_command(
                    record.key,
                    record.value,
                    record.headers,
                    partition=p,
                    partitions=settings.partitions,
                    value_bytes_max=limit,
                )
                if isinstance(command, Tick):  # the sequencer's own, once a minute: nobody waits for it
                    continue
                answer = decide(rows[p].of(command.room), command, at[p])
                assert isinstance(answer, Event)
                rows[p].fold(answer)
                headers = record_headers(record.offset, 0, answer.kind, command_id)
                answers.append(Record(record.key, encode(answer), headers))
            await append(producer, settings.topic(DEAD_LETTERS), p, answers)
            done += len(answers)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done)
    await consumer.stop()
    await producer.stop()


asyncio.run(main(int(sys.argv[1])))
