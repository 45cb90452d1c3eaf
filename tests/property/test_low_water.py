"""Whatever order batches are written in, no position is committed before everything up to it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.reading import Batch, Pipeline, Reading
from chat.log.positions import Checkpoint
from chat.log.taking import START


@given(
    st.lists(st.tuples(st.sampled_from(["read", "cut", "land"]), st.integers(0, 2)), max_size=60),
)
def test_a_committed_position_is_never_ahead_of_what_is_written(steps: list[tuple[str, int]]) -> None:
    pipeline = Pipeline()
    readings = [Reading(partition, Checkpoint(START, START), again_s=0.0, now=0.0) for partition in range(3)]
    records: dict[Batch, set[tuple[int, int]]] = {}
    waiting: list[Batch] = []
    unwritten: set[tuple[int, int]] = set()
    open_records: set[tuple[int, int]] = set()
    for step, number in steps:
        if step == "read":
            reading = readings[number]
            offset = reading.taker.offset + 1
            reading.taker.take(offset, (("kind", b"writer"),))
            pipeline.open.readings.add(reading)
            open_records.add((number, offset))
            unwritten.add((number, offset))
        elif step == "cut":
            batch = pipeline.close()
            records[batch], open_records = open_records, set()
            waiting.append(batch)
        elif waiting:
            batch = waiting.pop(number % len(waiting))
            pipeline.finished(batch)
            unwritten -= records[batch]
        for partition, reading in enumerate(readings):
            newest = reading.checkpoint(1.0).newest.offset
            assert all(offset > newest for p, offset in unwritten if p == partition)
    for batch in waiting:
        pipeline.finished(batch)
    pipeline.finished(pipeline.close())
    assert all(reading.written == reading.taker.position for reading in readings)
