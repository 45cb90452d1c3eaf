"""What is read of compacted partitions while a cleaner works on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from chat.log.following import COMPACTION_LAG_S, follow_compacted

TP = TopicPartition("rows", 0)


class Row(NamedTuple):
    offset: int
    key: str
    value: int


class Broker:
    """One partition, a consumer of it that gets one record a poll, and what happens after each poll."""

    def __init__(self, rows: Sequence[tuple[str, int]]) -> None:
        self.rows = [Row(offset, key, value) for offset, (key, value) in enumerate(rows)]
        self.end = len(rows)
        self.looks = 0
        self.now_s = 0.0
        self.after_poll: Callable[[int], None] = lambda poll: None
        self._position = 0
        self._polls = 0

    def write(self, key: str, value: int) -> None:
        self.rows.append(Row(self.end, key, value))
        self.end += 1

    def compact(self) -> None:
        newest = {row.key: row.offset for row in self.rows}
        self.rows = [row for row in self.rows if newest[row.key] == row.offset]

    # what an AIOKafkaConsumer does

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        self.looks += 1
        return dict.fromkeys(tps, self.end)

    def assign(self, tps: Sequence[TopicPartition]) -> None:
        assert set(tps) <= {TP}

    def seek(self, _tp: TopicPartition, offset: int) -> None:
        self._position = offset

    def pause(self, *_: TopicPartition) -> None:
        pass

    async def position(self, _tp: TopicPartition) -> int:
        return self._position

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Row]]:
        found = [row for row in self.rows if row.offset >= self._position][:1]
        self._position = found[0].offset + 1 if found else self.end
        self._polls += 1
        self.after_poll(self._polls)
        return {TP: found} if found else {}


async def read(broker: Broker) -> dict[str, int]:
    table: dict[str, int] = {}
    async for _, rows in follow_compacted(broker, [TP], clock=lambda: broker.now_s):
        table.update((row.key, row.value) for row in rows)
    return table


async def test_a_quick_read_looks_up_the_end_once() -> None:
    broker = Broker([("a", 1), ("b", 1), ("a", 2)])
    assert await read(broker) == {"a": 2, "b": 1}
    assert broker.looks == 1


async def test_a_row_that_is_compacted_away_before_its_turn_is_read_in_its_newer_version() -> None:
    # The reader stands still after its first record. Meanwhile the owner writes "c" again, behind the end that the
    # reader knows, and the cleaner takes the "c" that it has not read yet.
    broker = Broker([("a", 1), ("b", 1), ("c", 1), ("d", 1)])

    def stand_still(poll: int) -> None:
        if poll == 1:
            broker.write("c", 2)
            broker.now_s += COMPACTION_LAG_S + 1
            broker.compact()

    broker.after_poll = stand_still
    assert await read(broker) == {"a": 1, "b": 1, "c": 2, "d": 1}


async def test_the_end_is_looked_up_until_a_read_was_quick() -> None:
    broker = Broker([("a", 1), ("b", 1)])

    def always_slow_for_a_while(poll: int) -> None:
        if poll < 6:
            broker.write("a", poll + 1)
            broker.now_s += COMPACTION_LAG_S
            broker.compact()

    broker.after_poll = always_slow_for_a_while
    assert await read(broker) == {"a": 6, "b": 1}
    assert broker.looks > 2


@pytest.mark.parametrize("rows", [[], [("a", 1)]])
async def test_a_partition_that_ends_in_nothing_ends(rows: list[tuple[str, int]]) -> None:
    broker = Broker([*rows, ("gone", 1)])
    broker.rows = broker.rows[:-1]
    assert await read(broker) == dict(rows)


async def test_no_partitions_no_look() -> None:
    broker = Broker([])
    assert [batch async for batch in follow_compacted(broker, [])] == []
    assert broker.looks == 0
