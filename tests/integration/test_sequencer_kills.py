"""Sequencers die, hang, come and go: nothing that a reader takes shows it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.engines import Workers
from tests.integration.sequencing import Load, Log, until


async def test_commands_become_events_in_their_order_one_record_each(worker: Workers) -> None:
    await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        async with Load(log, least=300, rate_s=1000):
            pass
        await log.check(taken := await log.answered())
    assert len(taken.events()) == 300
    assert not taken.ignored


async def test_kill_9_again_and_again_changes_nothing_that_a_reader_takes(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        async with Load(log, least=2000) as load:
            for goal in (300, 700, 1000, 1300, 1600):
                await until(lambda goal=goal: load.sent > goal, f"{goal} messages sent")
                await sequencer.restart()
        await log.check(taken := await log.answered())
    assert len(taken.events()) == load.sent


async def test_a_planned_stop_under_load_changes_nothing_that_a_reader_takes(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        async with Load(log) as load:
            for goal in (300, 600):
                await until(lambda goal=goal: load.sent > goal, f"{goal} messages sent")
                assert await sequencer.sigterm() == 0
                await sequencer.start()
        await log.check(taken := await log.answered())
    assert len(taken.events()) == load.sent


async def test_a_second_sequencer_joins_and_leaves_under_load(worker: Workers) -> None:
    first = await worker("sequencer")
    second = await worker("sequencer", start=False)
    async with Log(worker.namespace.settings()) as log:
        async with Load(log) as load:
            await until(lambda: load.sent > 200, "messages sent")
            await second.start()
            await until(
                lambda: '"partitions_recovered"' in second.log() or "partitions_recovered" in second.log(), "taken over"
            )
            await until(lambda sent=load.sent: load.sent > sent + 200, "messages sent")
            await second.sigterm()
            await until(lambda sent=load.sent: load.sent > sent + 200, "messages sent")
            await second.start()
            await until(lambda sent=load.sent: load.sent > sent + 200, "messages sent")
            first.kill9()
            await until(lambda sent=load.sent: load.sent > sent + 200, "messages sent")
            await first.start()
        await log.check(taken := await log.answered())
    assert len(taken.events()) == load.sent


async def test_a_zombie_that_wakes_after_its_session_writes_nothing_that_a_reader_takes(worker: Workers) -> None:
    zombie = await worker("sequencer")
    heir = await worker("sequencer", start=False)
    async with Log(worker.namespace.settings()) as log:
        async with Load(log) as load:
            await heir.start()
            await until(lambda: load.sent > 500, "messages sent")
            zombie.pause()
            # The heir fences what the zombie had once the session is over.
            await until(lambda: heir.log().count("partitions_recovered") >= 2, "the heir has the zombie's partitions")
            await until(lambda sent=load.sent: load.sent > sent + 200, "messages sent")
            zombie.resume()
            await until(lambda sent=load.sent: load.sent > sent + 600, "messages sent")
        if not zombie.alive:
            await zombie.start()
        await log.check(taken := await log.answered())
    assert len(taken.events()) == load.sent


LOSES_COMMANDS = """
import sys
from agents.sequencer import Sequencer

take, lost = Sequencer.take, set()

async def lossy(self, partition, commands):
    for command in commands:
        if command.offset % 25 == 7 and (partition, command.offset) not in lost:
            lost.add((partition, command.offset))
        else:
            await take(self, partition, [command])

Sequencer.take = lossy
sys.argv = ["faust", "-A", "app", "worker", "-l", "info"]
from faust.cli.faust import cli
cli()
"""
"""A sequencer whose stream drops commands on their way to the writer, as Faust's flow control has been seen to do."""


async def test_a_command_that_is_lost_on_its_way_is_asked_for_again(worker: Workers) -> None:
    sequencer = await worker("sequencer", start=False)
    sequencer.program = [sys.executable, "-c", LOSES_COMMANDS]
    await sequencer.start()
    async with Log(worker.namespace.settings()) as log:
        async with Load(log, least=500, rate_s=200):
            pass
        await log.check(await log.answered())
    assert '"seek"' in sequencer.log() or " seek " in sequencer.log()


@pytest.mark.parametrize(
    "failpoint",
    [
        "before-produce:5",
        "after-produce:5",
        "snapshot-first-row",
        "snapshot-first-row:4",
        "recovery-before-fence",
        "recovery-after-fence",
    ],
)
async def test_a_process_that_dies_at_a_bad_moment_leaves_no_trace(worker: Workers, failpoint: str) -> None:
    async with Log(worker.namespace.settings()) as log:
        if failpoint.startswith("recovery"):
            healthy = await worker("sequencer")
            await log.post("room-1")
            await log.answered()
            healthy.kill9()
        doomed = await worker("sequencer", start=False, failpoint=failpoint)
        successor = await worker("sequencer", start=False)
        async with Load(log) as load:
            doomed.spawn()
            await until(lambda: not doomed.alive, "the failpoint is reached")
            await successor.start()
            await until(lambda sent=load.sent: load.sent > sent + 100, "messages sent")
        await log.check(await log.answered())
        await asyncio.to_thread(successor.kill9)
