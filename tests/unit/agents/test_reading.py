"""The low-water mark of a durable reader."""

from __future__ import annotations

import pytest

from agents.reading import Pipeline, Presence, Reading
from chat.log.positions import Checkpoint
from chat.log.taking import START, Position
from chat.records import record_headers

NOTHING = Checkpoint(START, START)


def fresh(start: Checkpoint = NOTHING, again_s: float = 0.0) -> Reading:
    return Reading(0, start, again_s=again_s, now=0.0)


def read(reading: Reading, pipeline: Pipeline, count: int) -> None:
    """`count` more records: the fence first, if there is none yet."""
    taker = reading.taker
    for _ in range(count):
        if taker.term < 0:
            taker.take(taker.offset + 1, (("kind", b"writer"),))
        else:
            taker.take(taker.offset + 1, tuple(record_headers(taker.src + 1, taker.term, "message")))
        pipeline.open.readings.add(reading)


def test_a_position_moves_when_everything_before_it_is_written() -> None:
    reading, pipeline = fresh(), Pipeline()
    batches = []
    for _ in range(3):
        read(reading, pipeline, 10)
        batches.append(pipeline.close())
    pipeline.finished(batches[1])
    assert reading.checkpoint(1.0).newest == START
    pipeline.finished(batches[0])
    assert reading.checkpoint(1.0).newest.offset == 19
    pipeline.finished(batches[2])
    assert reading.checkpoint(1.0).newest.offset == 29


def test_a_batch_of_a_partition_that_was_given_up_moves_nothing_of_its_new_reading() -> None:
    old, new, pipeline = fresh(), fresh(), Pipeline()
    read(old, pipeline, 10)
    batch = pipeline.close()
    pipeline.finished(batch)
    assert new.checkpoint(1.0).newest == START


def test_while_it_repeats_its_checkpoint_does_not_go_back() -> None:
    known = Position(40, 39, 0)
    start = Position(10, 9, 0)
    reading, pipeline = fresh(Checkpoint(known, start)), Pipeline()
    assert reading.again
    read(reading, pipeline, 5)
    pipeline.finished(pipeline.close())
    assert reading.checkpoint(1.0) == Checkpoint(known, Position(15, 14, 0))
    read(reading, pipeline, 30)
    pipeline.finished(pipeline.close())
    assert not reading.again
    assert reading.checkpoint(2.0).newest == Position(45, 44, 0)


def test_what_is_younger_than_its_limit_is_written_again_after_a_restart() -> None:
    reading, pipeline = fresh(again_s=60.0), Pipeline()
    for second in range(1, 200):
        read(reading, pipeline, 10)
        pipeline.finished(pipeline.close())
        checkpoint = reading.checkpoint(float(second))
        assert checkpoint.newest.offset == second * 10 - 1
        assert checkpoint.again.offset == max(-1, (second - 60) * 10 - 1)


def test_in_silence_a_checkpoint_comes_to_repeat_nothing() -> None:
    reading, pipeline = fresh(again_s=60.0), Pipeline()
    read(reading, pipeline, 10)
    pipeline.finished(pipeline.close())
    assert reading.checkpoint(1.0).again == START
    assert reading.checkpoint(30.0).again == START
    assert reading.checkpoint(61.0) == Checkpoint(reading.written, reading.written)


def test_what_cannot_be_read_here_holds_the_position_right_before_it() -> None:
    reading, pipeline = fresh(), Pipeline()
    read(reading, pipeline, 10)
    before = reading.taker.position
    read(reading, pipeline, 1)
    reading.hold("too new")
    assert reading.held == "too new"
    pipeline.finished(pipeline.close())
    assert reading.checkpoint(1.0).newest == before


def test_what_is_written_does_not_grow_old_while_its_store_is_away() -> None:
    presence = Presence()
    looks = [(False, 0.0), (True, 5.0), (True, 6.0), (False, 7.0), (False, 5_000.0), (True, 6_000.0), (True, 6_002.0)]
    back = [presence.look(there, now) for there, now in looks]
    assert presence.seconds == pytest.approx(3.0)
    assert back == [False, False, False, False, False, True, False], "its first coming is no return"
