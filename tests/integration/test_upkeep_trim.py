"""Trimming the event log on real engines: what goes, where the log begins afterwards, and who begins there."""

from __future__ import annotations

import asyncio

import pytest

from agents.sequencing.checkpoints import newest_checkpoints
from agents.sequencing.log import Log as SequencerLog
from agents.sequencing.rows import Checkpoint
from chat.log.bases import Base, read_bases, write_base
from chat.log.positions import commit, committed
from chat.log.producer import running_producer
from chat.log.taking import Position, Take, Taker
from chat.log.topics import BASES
from chat.log.walking import extents
from chat.settings import Settings
from tests.engines import Namespace, Worker, Workers, eventually
from tests.eventlog import EventLog, post
from tests.integration.sequencing import Load, Log
from tests.integration.test_archiver_keeps_everything import archived, ended, whole_room
from tests.integration.test_operations_commands import faust
from tests.integration.test_sequencer_log import delete_records

pytestmark = pytest.mark.timeout(300)


async def trimmed(namespace: Namespace, *arguments: str, **changed: object) -> str:
    """What a trim says that ends well."""
    done = await asyncio.to_thread(faust, namespace, "trim", *arguments, **changed)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def read_by_all(settings: Settings, positions: dict[int, Position]) -> None:
    """The stores' readers stand at `positions`."""
    for role in ("archiver", "projector"):
        await commit(settings, role, positions)


async def checkpointed(log: Log) -> dict[int, Checkpoint]:
    """The checkpoints once everything that was asked is answered and snapshotted (ticks, which change nothing, aside)."""
    wanted = {
        partition: src
        for partition, answers in (await log.answered()).answers.items()
        for src, (_, answer) in enumerate(answers)
        if getattr(answer, "outcome", "") != "tick"
    }

    async def all_there() -> dict[int, Checkpoint] | None:
        found = await newest_checkpoints(SequencerLog(log.settings), wanted)
        return found if all(p in found and found[p].src >= src for p, src in wanted.items()) else None

    found: dict[int, Checkpoint] = await eventually(all_there, "a snapshot of everything", 60)
    return found


async def everywhere(log: Log) -> dict[int, Position]:
    """The position at the end of each partition, by the rule of taking."""
    positions = {}
    for partition, records in (await log.read(log.events)).items():
        taker = Taker()
        for record in records:
            taker.take(record.offset, record.headers)
        positions[partition] = taker.position
    return positions


async def test_what_everybody_has_goes_and_everything_else_goes_on(worker: Workers) -> None:
    namespace = worker.namespace
    settings = namespace.settings()
    sequencer = await worker("sequencer")
    async with Log(settings) as log:
        async with Load(log, least=300, rate_s=1000, rooms=6):
            pass
        checkpoints = await checkpointed(log)
        before = (await log.taken()).rooms()
        await read_by_all(settings, await everywhere(log))

        said = await trimmed(namespace, "--keep-days", "0", "--dry-run")
        held = await extents(settings, log.events)
        assert all(extent.beginning == 0 for extent in held.values())
        assert "records would be deleted" in said
        assert await read_bases(settings) == {}

        await trimmed(namespace, "--keep-days", "0")
        bases = await read_bases(settings)
        held = await extents(settings, log.events)
        # Where nothing was ever said there is no checkpoint, and the fence stays.
        assert {p: (base.position, base.at) for p, base in bases.items()} == {
            p: (checkpoint.position, checkpoint.at) for p, checkpoint in checkpoints.items()
        }
        assert {p: extent.beginning for p, extent in held.items()} == {
            p: checkpoints[p].offset + 1 if p in checkpoints else 0 for p in held
        }

        again = await trimmed(namespace, "--keep-days", "0")
        assert again.endswith("0 records deleted\n")
        await sequencer.restart()
        await log.post("room-0", "after", sender="user-0")
        await log.post("room-0", "message 0", sender="user-0", client_id="id-0")
        partition = log.partition("room-0")
        seq = before["room-0"][-1].seq

        async def both_answered() -> bool:
            taker = Taker(bases[partition].position)
            records = (await log.read(log.events))[partition]
            values = [r.value for r in records if taker.take(r.offset, r.headers) <= Take.VERDICT]
            said = [value for value in values if b'"outcome":"tick"' not in value]  # a minute may end meanwhile
            return len(said) == 2 and f'"seq":{seq + 1},'.encode() in said[0] and b'"outcome":"duplicate"' in said[1]

        await eventually(both_answered, "the next number, and a repeat that is known", 60)


async def test_a_trim_that_is_killed_after_its_base_leaves_a_whole_log_and_is_repeated(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("sequencer")
    async with Log(settings) as log:
        async with Load(log, least=100, rate_s=1000, rooms=4):
            pass
        checkpoints = await checkpointed(log)
        await read_by_all(settings, await everywhere(log))
        killed = await asyncio.to_thread(
            faust, worker.namespace, "trim", "--keep-days", "0", failpoint="trim-after-base:2"
        )
        assert killed.returncode == -9
        bases, held = await read_bases(settings), await extents(settings, log.events)
        assert len(bases) == 2
        assert sorted(held[p].beginning == bases[p].offset + 1 for p in bases) == [False, True]
        await trimmed(worker.namespace, "--keep-days", "0")
        bases, held = await read_bases(settings), await extents(settings, log.events)
        assert bases.keys() == checkpoints.keys()
        assert {p: held[p].beginning for p in bases} == {p: found.offset + 1 for p, found in checkpoints.items()}


async def test_what_is_younger_than_the_setting_stays(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("sequencer")
    async with Log(settings) as log:
        async with Load(log, least=50, rate_s=1000, rooms=4):
            pass
        await checkpointed(log)
        await read_by_all(settings, await everywhere(log))
        for said in (
            await trimmed(worker.namespace),
            await trimmed(worker.namespace, events_retention_days=0.5),
            await trimmed(worker.namespace, "--keep-days", "1", events_retention_days=0),
        ):
            assert said.endswith("0 records deleted\n")
            assert "held by the retention setting" in said
        assert all(extent.beginning == 0 for extent in (await extents(settings, log.events)).values())


async def test_a_reader_that_is_behind_or_was_never_there_holds_the_log(worker: Workers) -> None:
    settings = worker.namespace.settings()
    await worker("sequencer")
    async with Log(settings) as log:
        async with Load(log, least=50, rate_s=1000, rooms=4):
            pass
        await checkpointed(log)
        ends = await everywhere(log)
        await commit(settings, "archiver", ends)
        assert "held by the projector's position" in await trimmed(worker.namespace, "--keep-days", "0")
        await commit(settings, "projector", {p: Position(0, -1, 0) for p in ends})
        await trimmed(worker.namespace, "--keep-days", "0")
        held = await extents(settings, log.events)
        assert all(extent.beginning <= 1 for extent in held.values())


# ---------------------------------------------------------------- who begins where


async def cut_by_hand(settings: Settings, partition: int, position: Position, *, with_base: bool) -> None:
    """The records up to `position` are gone."""
    if with_base:
        async with running_producer(settings, "test") as producer:
            await write_base(producer, settings, partition, Base(1, *position, 1_700_000_000_000_000))
    async with Log(settings) as log:
        await delete_records(log, log.events, {partition: position.offset + 1})


async def posted(log: EventLog, count: int) -> Position:
    """`count` messages in room `r`; the position behind them."""
    await log.commands([post("r", body=f"message {n}") for n in range(count)])
    partition = log.partition("r")
    return Position(
        (await extents(log.settings, log.topic))[partition].end - 1, log.srcs[partition], log.terms[partition]
    )


async def test_an_archiver_and_a_gateway_without_a_position_begin_at_the_base(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        position = await posted(log, 20)
        await posted(log, 5)
        await cut_by_hand(settings, log.partition("r"), position, with_base=True)
        await worker.together("archiver", "gateway")
        await posted(log, 3)
        async with archived(settings) as history:

            async def all_there() -> bool:
                return len(await history.read_events("r", 21, 100)) == 8

            await eventually(all_there, "the rest is archived")
            assert await whole_room(history, "r") == []

    async def is_committed() -> bool:
        return (await committed(settings, "archiver"))[log.partition("r")].newest.src == 27

    await eventually(is_committed, "its position")


async def test_without_a_base_a_reader_stops_and_a_gateway_is_not_ready_with_one_line(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        position = await posted(log, 20)
        await cut_by_hand(settings, log.partition("r"), position, with_base=False)
        archiver = await worker("archiver", start=False)
        gateway = await worker("gateway", start=False)
        archiver.spawn()
        gateway.spawn()
        assert await ended(archiver) == 70
        line = f"partition {log.partition('r')} begins at {position.offset + 1} and no position in it is known"
        assert line in archiver.log()
        assert "`faust -A app trim`" in archiver.log()
        await eventually(lambda: line in gateway.log(), "the gateway says so, too")
        assert not gateway.is_ready()


async def until_it_leaves(worker: Worker) -> None:
    worker.spawn()
    assert await ended(worker) == 70


async def test_a_reader_whose_position_was_trimmed_away_stops_until_somebody_accepts_it(worker: Workers) -> None:
    settings = worker.namespace.settings()
    async with EventLog(settings) as log:
        partition = log.partition("r")
        first = await posted(log, 5)
        await commit(settings, "archiver", {partition: first})
        position = await posted(log, 20)
        await posted(log, 5)
        await cut_by_hand(settings, partition, position, with_base=True)
        archiver = await worker("archiver", start=False)
        await until_it_leaves(archiver)
        assert "`faust -A app begin-at-base archiver`" in archiver.log()
        done = await asyncio.to_thread(faust, worker.namespace, "begin-at-base", "archiver")
        assert done.returncode == 0, done.stderr
        assert f"offsets {first.offset + 1} to {position.offset} were never read" in done.stdout
        await archiver.start()
        refused = await asyncio.to_thread(faust, worker.namespace, "begin-at-base", "archiver")
        assert refused.returncode == 1
        assert "are running: stop all of them first" in refused.stderr
        async with archived(settings) as history:

            async def all_there() -> bool:
                return len(await history.read_events("r", 26, 100)) == 5

            await eventually(all_there, "it goes on")
        assert await archiver.sigterm() == 0
        again = await asyncio.to_thread(faust, worker.namespace, "begin-at-base", "archiver")
        assert again.stdout == "0 positions of role archiver moved\n"


async def test_a_base_that_a_slower_trim_wrote_later_does_not_count(topics: Namespace) -> None:
    settings = topics.settings()
    async with running_producer(settings, "test") as producer:
        await write_base(producer, settings, 1, Base(1, 90, 80, 0, 5))
        await write_base(producer, settings, 1, Base(1, 40, 30, 0, 4))
    assert await read_bases(settings) == {1: Base(1, 90, 80, 0, 5)}
    async with Log(settings) as log:
        last = (await log.read(settings.topic(BASES)))[1][-1]
    assert b'"offset":90' in last.value  # what compaction would leave
