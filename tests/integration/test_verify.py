"""`verify` beside running workers: what they keep is clean, also while it is written."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines import Workers
from tests.eventlog import EventLog, join, leave, post
from tests.integration.verifying import audit, faust, found

pytestmark = pytest.mark.timeout(300)

ROUND_S = 0.05
"""Between two rounds of load: some 2,000 events/s."""


async def test_what_the_workers_keep_is_clean_also_while_it_is_written(worker: Workers) -> None:
    await worker.together("archiver", "projector")
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        await log.commands(post(f"room{n % 40}", sender=f"user{n % 7}", body=f"message {n}") for n in range(8_000))
        await log.commands([post("lobby", body="x" * 300) for _ in range(10_500)])
        await log.commands([join("lobby", f"user{n}") for n in range(1_500)] + [leave("lobby", "user7")])
        done = await asyncio.to_thread(faust, worker.namespace, "verify")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "20001 events of 41 rooms: log, Cassandra and Redis agree"
        one = await asyncio.to_thread(faust, worker.namespace, "verify", "--room", "lobby", "--json")
        assert (one.returncode, one.stdout) == (0, ""), one.stderr
        assert one.stderr == "12001 events of 1 rooms: log, Cassandra and Redis agree\n"

        stop = asyncio.Event()

        async def load() -> int:
            rounds = 0
            while not stop.is_set():
                rooms = [f"busy{n}" for n in range(10)]
                await log.commands([post(room, body=f"message {rounds}") for room in rooms for _ in range(10)])
                await log.commands([join(room, f"user{rounds}") for room in rooms] + [post(f"new{rounds}")])
                rounds += 1
                await asyncio.sleep(ROUND_S)
            return rounds

        loading = asyncio.create_task(load())
        try:
            for _ in range(3):
                assert found(await audit(settings)) == set()
        finally:
            stop.set()
        assert await loading > 1
        assert found(await audit(settings)) == set()
