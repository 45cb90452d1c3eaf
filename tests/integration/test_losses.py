"""Losses that an operator accepts: rooms go on, no number is given twice, and everybody is told."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from agents.dead_letters import DeadLetters
from agents.sequencing.rows import TABLES
from chat.errors import Code
from chat.log.topics import changelog, create_topics
from chat.records import Event, PostMessage, RenumberRoom, Verdict, encode
from chat.settings import Settings
from chat.stores.cassandra.history import HistoryStore
from chat.stores.redis import Directory, RecentTail
from tests.engines import Namespace, Worker, Workers, eventually
from tests.integration.sequencing import Log, until
from tests.integration.test_chat import close_code, everything, get
from tests.integration.test_operations_commands import faust
from tests.integration.test_sequencer_log import delete_records, snapshotted
from tests.people import Line, Reader, Writer, audit, dial

pytestmark = pytest.mark.timeout(300)

ROOM = "lobby"


async def operation(namespace: Namespace, *arguments: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(faust, namespace, *arguments, failpoint=failpoint)


async def accept_loss(log: Log, namespace: Namespace, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    partition = str(log.partition(ROOM))
    return await operation(namespace, "accept-loss", "--partition", partition, "--yes", failpoint=failpoint)


async def subscribe(line: Line, **headers: str) -> dict[str, str]:
    """Subscribe to the room; the RECEIPT's headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await line.write(line.stomp.subscribe(f"/room/{ROOM}", "0", headers=named, receipt="s"))
    return dict((await line.until("RECEIPT", receipt_id="s")).headers)


async def messages(line: Line, count: int) -> list[dict[str, str]]:
    return [dict((await line.until("MESSAGE")).headers) for _ in range(count)]


def seqs(frames: Iterable[dict[str, str]]) -> list[int]:
    return [int(headers["x-seq"]) for headers in frames]


async def stands_still(sequencer: Worker, words: str) -> None:
    await until(lambda: "partition_stopped" in sequencer.log(), "the partition stands still")
    assert words in sequencer.log()
    assert not sequencer.is_ready()


async def goes_on(sequencer: Worker) -> None:
    """It notices by itself that it was mended; the supervisor would start it again."""
    await until(lambda: not sequencer.alive, "the sequencer notices")
    assert "Mended" in sequencer.log()
    await sequencer.start()


# ---------------------------------------------------------------- new epochs


async def test_a_room_that_is_numbered_anew_goes_on_for_everybody(worker: Workers) -> None:
    workers = await everything(worker)
    gateway, settings = workers["gateway"], worker.namespace.settings()
    address = lambda: gateway.ws  # noqa: E731
    await Writer(address, "ann", ROOM, 5).run()
    live = await dial(address, "live")
    await subscribe(live, x_after_seq="0")
    before = await messages(live, 5)
    assert seqs(before) == [1, 2, 3, 4, 5]
    old = before[-1]["x-epoch"]

    async with Log(settings) as log:
        command = RenumberRoom(v=1, room=ROOM, sender="~roomlog", epoch=old, above=1000)
        for _ in range(2):  # an operation that was killed repeats itself
            await log.append(log.commands, log.partition(ROOM), encode(command), ROOM.encode())
        writer = Writer(address, "bob", ROOM, 2)
        await writer.run()
        assert sorted(writer.receipts.values()) == [1002, 1003]
        (renumbered, *rest) = await messages(live, 3)
        assert seqs([renumbered, *rest]) == [1001, 1002, 1003]
        assert (renumbered["x-kind"], renumbered["x-recovered"], renumbered["x-first-seq"]) == (
            "room.renumbered", "false", "1001",
        )  # fmt: skip
        new = renumbered["x-epoch"]
        assert new != old
        assert {headers["x-epoch"] for headers in rest} == {new}

        stale = await dial(address, "stale")
        await stale.write(
            stale.stomp.subscribe(f"/room/{ROOM}", "0", headers={"x-after-seq": "3", "x-epoch": old}, receipt="s")
        )
        assert (await stale.until("ERROR")).headers["error-code"] == "epoch_changed"
        assert await close_code(stale) == 1002
        late = await dial(address, "late")
        receipt = await subscribe(late, x_after_seq="3")
        assert (receipt["x-recovered"], receipt["x-first-seq"], receipt["x-epoch"]) == ("false", "1001", new)
        assert seqs(await messages(late, 3)) == [1001, 1002, 1003]

        # A retry from before is still answered with the number that it got.
        again = Writer(address, "ann", ROOM, 5)
        await again.run()
        assert (sorted(again.receipts.values()), again.duplicates) == ([1, 2, 3, 4, 5], 5)

        await workers["sequencer"].restart()
        more = Writer(address, "cat", ROOM, 1)
        await more.run()
        assert list(more.receipts.values()) == [1004]

    await stores_follow(worker, new)
    _, older = await get(gateway, f"/api/v1/rooms/{ROOM}/messages?before_seq=1001&limit=3")
    assert [(event["seq"], event["epoch"]) for event in older["events"]] == [(3, old), (4, old), (5, old)]
    _, page = await get(gateway, f"/api/v1/rooms/{ROOM}/messages")
    assert (page["first_seq"], [event["seq"] for event in page["events"]]) == (1001, [1001, 1002, 1003, 1004])


async def stores_follow(worker: Workers, epoch: str) -> None:
    """Directory, tail and archive know the new epoch."""
    settings = worker.namespace.settings()
    history, directory, tail = HistoryStore.open(settings), Directory(settings), RecentTail(settings)
    try:
        for store in (history, directory):

            async def follows(store: HistoryStore | Directory = store) -> bool:
                info = await store.get_room(ROOM)
                return info is not None and (info.epoch, info.first_seq, info.seq) == (epoch, 1001, 1004)

            await eventually(follows, f"{type(store).__name__} follows")

        async def tail_is_there() -> bool:
            return [event.seq for event in await tail.read_events(ROOM, 1001, 10)] == [1001, 1002, 1003, 1004]

        await eventually(tail_is_there, "the tail of the new epoch")
        assert await tail.read_events(ROOM, 5, 1) == []
        assert [event.seq for event in await history.read_events(ROOM, 1, 10)] == [1, 2, 3, 4, 5]
    finally:
        await asyncio.gather(history.stop(), directory.stop(), tail.stop())


# ---------------------------------------------------------------- lost commands


async def test_lost_commands_are_answered_as_lost_and_the_rooms_go_on(worker: Workers) -> None:
    sequencer, gateway = await worker.together("sequencer", "gateway")
    address = lambda: gateway.ws  # noqa: E731
    reader, writer = Reader(address, "rea", ROOM), Writer(address, "ann", ROOM, 3)
    reading = asyncio.create_task(reader.run())
    await writer.run()
    async with Log(worker.namespace.settings()) as log:
        sequencer.kill9()
        partition = log.partition(ROOM)
        lost = range((await log.ends(log.commands))[partition], (await log.ends(log.commands))[partition] + 700)
        await asyncio.gather(*[await log.post_soon(ROOM, "gone", sender="bob", client_id=f"{n}") for n in lost])
        await delete_records(log, log.commands, {partition: lost.stop})
        sequencer.spawn()
        await stands_still(sequencer, f"accept-loss --partition {partition}")

        asked = await operation(worker.namespace, "accept-loss", "--partition", str(partition))
        assert (asked.returncode, asked.stderr.count("roomlog: ")) == (1, 1)
        assert f"700 commands (offsets {lost.start} to {lost.stop - 1})" in " ".join(asked.stdout.split())
        killed = await accept_loss(log, worker.namespace, failpoint="accept-loss-mid-verdicts")
        assert killed.returncode == -9
        done = await accept_loss(log, worker.namespace)
        assert done.returncode == 0, done.stderr
        assert "200 of 200 commands answered as lost" in done.stdout
        await goes_on(sequencer)
        nothing = await accept_loss(log, worker.namespace)
        assert (nothing.returncode, nothing.stdout) == (0, f"partition {partition}: nothing is lost\n")

        more = Writer(address, "cat", ROOM, 2)
        await more.run()
        await reader.until(5)
        audit([writer, more], [reader])
        answers = (await log.taken()).answers[partition]
        outcomes = [answer.outcome for _, answer in answers if isinstance(answer, Verdict)]
        assert outcomes.count("lost") == 700
        assert [event.seq for _, event in answers if isinstance(event, Event)] == [1, 2, 3, 4, 5]
        times = [answer.at for _, answer in answers]
        assert times == sorted(set(times))
    reading.cancel()


async def test_a_command_topic_that_was_made_anew_is_filled_up_and_the_rooms_go_on(worker: Workers) -> None:
    sequencer = await worker("sequencer")
    settings = worker.namespace.settings()
    async with Log(settings) as log:
        for n in range(20):
            await log.post(ROOM, f"{n}", client_id=f"{n}")
        await log.answered()
        assert await sequencer.sigterm() == 0
        await made_anew(log, log.commands)
    async with Log(settings) as log:
        await log.post(ROOM, "never answered")
        sequencer.spawn()
        await stands_still(sequencer, "command 20 is wanted, room.commands holds 0 to 0")
        killed = await accept_loss(log, worker.namespace, failpoint="accept-loss-before-snapshot")
        assert killed.returncode == -9
        # All ticks are there: nothing is left to accept.
        assert (await accept_loss(log, worker.namespace)).stdout.endswith("nothing is lost\n")
        await sequencer.restart()
        await log.post(ROOM, "next")
        await log.post(ROOM, "again", client_id="7")

        async def answers() -> list[Event | Verdict]:
            """Without those to the sequencer's own ticks, which come when a minute passes."""
            found = [answer for _, answer in (await log.taken()).answers[log.partition(ROOM)]]
            return [answer for answer in found if not (isinstance(answer, Verdict) and answer.outcome == "tick")]

        async def answered() -> bool:
            return len(await answers()) >= 22

        await until(answered, "what came after it is answered")
        *before, event, repeat = await answers()
        assert [answer.seq for answer in before] == list(range(1, 21))
        assert isinstance(event, Event)
        assert (event.seq, event.body) == (21, "next")
        assert isinstance(repeat, Verdict)
        assert (repeat.outcome, repeat.seq) == ("duplicate", 8)


async def made_anew(log: Log, topic: str) -> None:
    """Delete a topic and create it again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=log.settings.kafka_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await until(gone, "the topic is gone")
    finally:
        await admin.close()
    assert await create_topics(log.settings) == [topic]


# ---------------------------------------------------------------- dead letters


async def replay(namespace: Namespace, key: str, *options: str) -> subprocess.CompletedProcess[str]:
    return await operation(namespace, "replay-dead-letter", key, *options)


async def test_a_parked_command_is_replayed_once_and_again_only_when_somebody_insists(worker: Workers) -> None:
    await worker("sequencer")
    async with Log(worker.namespace.settings()) as log:
        command = PostMessage(v=1, room=ROOM, sender="ann", nonce="n", client_id="a", body="astray", create=True)
        wrong = (log.partition(ROOM) + 1) % log.settings.partitions
        offset = await log.append(log.commands, wrong, encode(command), ROOM.encode())
        nonsense = await log.append(log.commands, wrong, b"\xff", ROOM.encode())
        assert [answer.outcome for _, answer in (await log.answered()).answers[wrong]] == ["refused", "refused"]
        key = f"{log.commands}-{wrong}-{offset}"

        done = await replay(worker.namespace, key)
        assert done.returncode == 0, done.stderr
        (event,) = (await log.answered()).events()
        assert (event.room, event.seq, event.body) == (ROOM, 1, "astray")
        twice = await replay(worker.namespace, key)
        assert twice.returncode == 1
        assert "was replayed already" in twice.stderr
        assert (await replay(worker.namespace, key, "--again")).returncode == 0
        # What has a client id is decided once, however often it is sent.
        assert len((await log.answered()).events()) == 1
        listed = await operation(worker.namespace, "dead-letters")
        first, second, count = listed.stdout.splitlines()
        assert key in first
        assert f"(replayed as {log.commands}-{log.partition(ROOM)}-1)" in first
        assert "replayed" not in second
        assert count == "2 of 2 dead letters"

        parked_again = await replay(worker.namespace, f"{log.commands}-{wrong}-{nonsense}")
        assert parked_again.returncode == 1
        assert parked_again.stderr.startswith("roomlog: it would be parked again: undecodable")


async def test_what_is_no_command_is_not_replayed(topics: Namespace) -> None:
    settings = topics.settings()
    letters = DeadLetters(settings)
    found = [("t.room.events", 1), (settings.topic("room.events"), 2)]
    await letters.park(
        [
            letters.letter(topic, 0, offset, code=Code.UNDECODABLE, detail="d", key=b"k", value=b"v", headers=())
            for topic, offset in found
        ]
    )
    await letters.stop()
    refused = [await replay(topics, f"{topic}-0-{offset}") for topic, offset in found]
    assert [one.returncode for one in refused] == [1, 1]
    assert "an event is only ever written by the sequencer" in refused[1].stderr


# ---------------------------------------------------------------- lost events


async def test_lost_events_are_accepted_and_no_number_is_given_twice(worker: Workers) -> None:
    """The changelogs are gone, the archiver was away, and somebody deleted what neither of them had."""
    workers = await everything(worker)
    gateway, sequencer, archiver = workers["gateway"], workers["sequencer"], workers["archiver"]
    settings, address = worker.namespace.settings(), lambda: gateway.ws
    async with Log(settings) as log:
        partition = log.partition(ROOM)
        silent = next(f"room-{n}" for n in range(99) if log.partition(f"room-{n}") == partition)
        for room in (ROOM, silent):
            await Writer(address, "ann", room, 5).run()
        live = await dial(address, "live")
        await subscribe(live, x_after_seq="0")
        await eventually(lambda: archived_up_to(settings, {ROOM: 5, silent: 5}), "both rooms are archived", 60)
        assert await archiver.sigterm() == 0
        await Writer(address, "bob", ROOM, 10).run()
        seen = await messages(live, 15)
        assert seqs(seen) == list(range(1, 16))
        sequencer.kill9()

        kept = next(r.offset for r, answer in (await log.taken()).answers[partition] if answer.seq == 14)
        await delete_records(log, log.events, {partition: kept})
        for table in TABLES:
            await made_anew(log, settings.topic(changelog(table)))
        await log.post(ROOM, "waits", sender="eve", client_id="eve-1")
        sequencer.spawn()
        await stands_still(sequencer, "lost events")

        for failpoint in ("after-produce", "accept-loss-before-snapshot"):
            killed = await accept_loss(log, worker.namespace, failpoint=failpoint)
            assert killed.returncode == -9, killed.stderr
        done = await accept_loss(log, worker.namespace)
        assert done.returncode == 0, done.stderr
        assert "begin-at-base archiver" in done.stdout
        await goes_on(sequencer)
        assert "0 rooms are numbered anew" in (await accept_loss(log, worker.namespace)).stdout

        cat = Writer(address, "cat", ROOM, 2)
        await cat.run()
        after = await messages(live, 3)
        assert [headers["x-kind"] for headers in after] == ["room.renumbered", "message", "message"]
        new = after[0]["x-epoch"]
        assert new != seen[0]["x-epoch"]
        first = int(after[0]["x-seq"])
        assert first > 15
        assert after[0]["x-first-seq"] == str(first)
        assert seqs(after) == [first, first + 1, first + 2]
        assert sorted(cat.receipts.values()) == [first + 1, first + 2]
        # The room that said nothing since may have lost its last words, too.
        dan = Writer(address, "dan", silent, 1)
        await dan.run()
        assert dan.receipts[0] > 5 + 8  # eight events were lost, and nobody can say whose they were
        # What waited was refused, not lost in silence: sent again, it is there.
        await log.post(ROOM, "waits", sender="eve", client_id="eve-1")
        assert (await messages(live, 1))[0]["x-client-id"] == "eve-1"

        moved = await operation(worker.namespace, "begin-at-base", "archiver")
        assert moved.returncode == 0, moved.stderr
        await archiver.start()
        assert (await accept_loss(log, worker.namespace)).stdout == f"partition {partition}: nothing is lost\n"
    history = HistoryStore.open(settings)
    try:

        async def all_that_is_left() -> bool:
            events = await history.read_older(ROOM, first + 4, 100)
            return [event.seq for event in events] == [1, 2, 3, 4, 5, 14, 15, first, first + 1, first + 2, first + 3]

        await eventually(all_that_is_left, "Cassandra has all that is left", 60)
    finally:
        await history.stop()


async def test_a_room_that_has_a_hole_in_cassandra_alone_goes_on_in_a_new_epoch_while_all_runs(worker: Workers) -> None:
    workers = await everything(worker)
    gateway, archiver = workers["gateway"], workers["archiver"]
    settings, address = worker.namespace.settings(), lambda: gateway.ws
    async with Log(settings) as log:
        partition = log.partition(ROOM)
        whole = next(f"room-{n}" for n in range(99) if log.partition(f"room-{n}") == partition)
        for room in (ROOM, whole):
            await Writer(address, "ann", room, 5).run()
        await eventually(lambda: archived_up_to(settings, {ROOM: 5, whole: 5}), "both rooms are archived", 60)
        assert await archiver.sigterm() == 0
        await Writer(address, "bob", ROOM, 5).run()
        live = await dial(address, "live")
        await subscribe(live, x_last="1")
        assert seqs(await messages(live, 1)) == [10]
        checkpoints = await snapshotted(log)
        kept = next(r.offset for r, answer in (await log.taken()).answers[partition] if answer.seq == 9)
        assert kept <= checkpoints[partition]["offset"]
        await delete_records(log, log.events, {partition: kept})

        done = await accept_loss(log, worker.namespace)
        assert done.returncode == 0, done.stderr
        assert "1 rooms are numbered anew" in done.stdout
        (renumbered,) = await messages(live, 1)
        assert (renumbered["x-kind"], renumbered["x-seq"]) == ("room.renumbered", "11")
        again = Writer(address, "cat", whole, 1)
        await again.run()
        assert again.receipts == {0: 6}
        # From the beginning, for somebody who comes now: nobody waits for what nobody has.
        late = await dial(address, "late")
        assert (await subscribe(late, x_from_seq="1"))["x-recovered"] == "false"
        assert seqs(await messages(late, 1)) == [11]
        moved = await operation(worker.namespace, "begin-at-base", "archiver")
        assert moved.returncode == 0, moved.stderr
        await archiver.start()
        assert (await accept_loss(log, worker.namespace)).stdout == f"partition {partition}: nothing is lost\n"
    history = HistoryStore.open(settings)
    try:

        async def all_that_is_left() -> bool:
            return [event.seq for event in await history.read_older(ROOM, 12, 100)] == [1, 2, 3, 4, 5, 9, 10, 11]

        await eventually(all_that_is_left, "Cassandra has all that is left", 60)
    finally:
        await history.stop()


async def archived_up_to(settings: Settings, rooms: dict[str, int]) -> bool:
    history = HistoryStore.open(settings)
    try:
        return all([len(await history.read_events(room, 1, 100)) == seq for room, seq in rooms.items()])
    finally:
        await history.stop()


async def test_what_cassandra_still_has_is_no_loss(worker: Workers) -> None:
    workers = await everything(worker)
    settings, address = worker.namespace.settings(), lambda: workers["gateway"].ws
    await Writer(address, "ann", ROOM, 5).run()
    await eventually(lambda: archived_up_to(settings, {ROOM: 5}), "it is archived", 60)
    assert await workers["archiver"].sigterm() == 0
    workers["sequencer"].kill9()
    async with Log(settings) as log:
        partition = log.partition(ROOM)
        await delete_records(log, log.events, {partition: 3})
        for table in TABLES:
            await made_anew(log, settings.topic(changelog(table)))
        refused = await accept_loss(log, worker.namespace)
        assert refused.returncode == 1
        assert "nothing is lost, Cassandra has what is missing: run `faust -A app rebuild-tables" in refused.stderr
        rebuilt = await operation(worker.namespace, "rebuild-tables", "--partition", str(partition))
        assert rebuilt.returncode == 0, rebuilt.stderr
        await workers["sequencer"].start()
        more = Writer(address, "bob", ROOM, 1)
        await more.run()
        assert more.receipts == {0: 6}
