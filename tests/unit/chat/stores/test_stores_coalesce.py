"""Identical reads in flight are made once."""

from __future__ import annotations

import asyncio

import pytest

from chat.errors import Unavailable
from chat.stores.coalesce import Coalescer


class Reads:
    def __init__(self) -> None:
        self.made = 0
        self.gate = asyncio.Event()

    async def read(self) -> int:
        self.made += 1
        made = self.made
        await self.gate.wait()
        return made

    async def fail(self) -> int:
        self.made += 1
        await self.gate.wait()
        raise Unavailable("away")


async def test_equal_reads_share_one_answer_and_later_ones_read_again() -> None:
    coalescer, reads = Coalescer(), Reads()
    callers = [asyncio.create_task(coalescer.run("key", reads.read)) for _ in range(10)]
    other = asyncio.create_task(coalescer.run("other", reads.read))
    await asyncio.sleep(0)
    reads.gate.set()
    assert await asyncio.gather(*callers) == [1] * 10
    assert await other == 2
    assert await coalescer.run("key", reads.read) == 3


async def test_a_caller_that_leaves_takes_the_read_from_nobody() -> None:
    coalescer, reads = Coalescer(), Reads()
    first, second = (asyncio.create_task(coalescer.run("key", reads.read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    reads.gate.set()
    assert await second == 1
    assert first.cancelled()


async def test_a_failure_reaches_every_caller_and_is_not_kept() -> None:
    coalescer, reads = Coalescer(), Reads()
    callers = [asyncio.create_task(coalescer.run("key", reads.fail)) for _ in range(3)]
    await asyncio.sleep(0)
    reads.gate.set()
    failures = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(failure) for failure in failures] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await coalescer.run("key", reads.fail)
    assert reads.made == 2
