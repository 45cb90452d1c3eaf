"""How cost grows: with rooms, subscribers, members, bytes, partitions, workers, and with the length of a history.

Each row gives curves, not figures: what a bare loop would cost is the business of the other rows. Each says in its
docstring what shape is expected, and `Bench.curve` says so when the last step leaves it. One repetition tells little at
the small end, where a run costs some ticks of the kernel's clock: read the spread in the JSON with the median.

Commands of the sequencer's curves are appended to Kafka as a gateway does; clients are not what they measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from chat.log.consumer import stop_consumer
from chat.log.producer import Record, append
from chat.records import Event, JoinRoom, LeaveRoom, PostMessage, RoomCommand, encode
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.cassandra.history import HistoryStore
from chat.stores.model import Stored
from tests.bench.bench import PARTITIONS, Bench, System
from tests.bench.curve import Shape
from tests.bench.load import Generator, Refused, check_generator
from tests.bench.measure import Run, resident_bytes
from tests.bench.rows.rooms import ROLES
from tests.integration.sequencing import Log

BODY: Final = "x" * 100
COMMANDS: Final = 20_000
"""Of one run: so many are laid up in less than the sequencer's session of six seconds."""
CHUNK: Final = 20_000
LAID_UP_MAX_S: Final = 4.0
ANSWERED_WITHIN_S: Final = 120.0
SNAPSHOTS: Final = "roomlog_sequencer_snapshot_seconds_count"
SNAPSHOT_WITHIN_S: Final = 15.0
"""After a large snapshot the next one comes ten seconds later: what a run leaves to it is counted with that run."""
IDLE_S: Final = 4.0
"""What a process uses when nothing comes is measured for so long, and taken off: most of a run is waiting for a snapshot."""

ROOMS: Final = (100, 1_000, 10_000, 100_000)

SUBSCRIBERS: Final = (1, 10, 100, 1_000, 10_000)
DELIVERIES_PER_S: Final = 100_000
MESSAGES_PER_S_MAX: Final = 200
SUBSCRIBERS_S: Final = 5

MEMBERS: Final = (10, 1_000, 10_000, 100_000)
SPEAKERS: Final = 10
LARGE: Final = "large"
JOINS: Final = 5_000
"""People who join and leave again in one run."""

SIZES: Final = (100, 1_024, 4_096, 16_384, 49_152)
SIZES_ROOMS: Final = 20
SIZES_WINDOW: Final = 4
SIZES_FULL_S: Final = 4
SIZES_PER_S: Final = 100
SIZES_S: Final = 3

PARTITION_COUNTS: Final = (1, 4, 16, 64)
PARTITIONS_ROOMS: Final = 200
PARTITIONS_PER_S: Final = 500
PARTITIONS_S: Final = 5

WORKERS: Final = (1, 2)
WORKERS_ROOMS: Final = 500
WORKERS_WINDOW: Final = 2
WORKERS_S: Final = 8

DEPTHS: Final = (0, 10_000, 100_000)
PAGE: Final = 50
PAGES: Final = 200
"""Of one run, each somewhere else around its depth, so that nothing is read twice."""


# ---------------------------------------------------------------- commands straight into the log


class Commands:
    """Appends commands and waits for their answers, beside one sequencer."""

    def __init__(self, bench: Bench, system: System) -> None:
        self._bench = bench
        self._sequencer = system.workers["sequencer"]
        settings = system.namespace.settings()
        self._log = Log(settings)
        self._answers = [TopicPartition(self._log.events, p) for p in range(settings.partitions)]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_servers, enable_auto_commit=False)
        self._ids = itertools.count()
        self._idle: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        await self._log.__aenter__()
        await self._consumer.start()
        return self

    async def rest(self) -> None:
        """Measure what everybody uses while nothing comes."""
        meter = self._bench.meter()
        await asyncio.sleep(IDLE_S)
        run = meter.stop(1)
        self._idle = {name: run.core(name) for name in run.cpu_s}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_consumer(self._consumer)
        await self._log.__aexit__(kind, error, trace)

    @property
    def memory_mb(self) -> float:
        """Of the sequencer, now."""
        return resident_bytes(self._sequencer.pid) / 1e6

    async def do(self, commands: Iterable[RoomCommand]) -> None:
        """Append `commands`, and return when all are answered and their rows are in a snapshot."""
        waiting = iter(commands)
        while chunk := list(itertools.islice(waiting, CHUNK)):
            ends = await self._ends()
            await self._append(chunk)
            await self._answered(ends + len(chunk))
        await self._snapshotted()

    async def measured(self, commands: Sequence[RoomCommand]) -> Run:
        """The cost of `commands`, which wait for the sequencer all at once, with that of the snapshot they cause and
        without what is used when nothing comes."""
        self._sequencer.pause()
        try:
            started = time.monotonic()
            ends = await self._ends()
            await self._append(commands)
            if time.monotonic() - started > LAID_UP_MAX_S:
                raise Refused("the sequencer stood still for too long to keep its session")
            meter = self._bench.meter()
        finally:
            self._sequencer.resume()
        await self._answered(ends + len(commands))
        await self._snapshotted()
        run = meter.stop(len(commands))
        return replace(
            run, cpu_s={name: max(0.0, s - self._idle.get(name, 0.0) * run.wall_s) for name, s in run.cpu_s.items()}
        )

    async def _snapshotted(self) -> None:
        """Return when one more snapshot has been taken, or fifteen seconds have passed without one.

        One that is under way at this moment counts, and may not hold the last rows: those are then the next run's, as
        what a run before left is this one's. The spread shows it, the median does not.
        """
        taken = await self._snapshots()
        deadline = time.monotonic() + SNAPSHOT_WITHIN_S
        while await self._snapshots() == taken and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        await self._bench.settled({"sequencer": self._sequencer.pid})

    async def _snapshots(self) -> float:
        """How many there have been."""

        def get() -> str:
            with urllib.request.urlopen(f"{self._sequencer.url}/metrics", timeout=5) as answer:
                text: str = answer.read().decode()
                return text

        counts = [line.rpartition(" ")[2] for line in (await asyncio.to_thread(get)).splitlines() if SNAPSHOTS in line]
        return float(counts[0])

    async def _append(self, commands: Iterable[RoomCommand]) -> None:
        log = self._log
        by_partition: dict[int, list[Record]] = {}
        for command in commands:
            record = Record(command.room.encode(), encode(command), [("cmd", b"%016d" % next(self._ids))])
            by_partition.setdefault(log.partition(command.room), []).append(record)
        await asyncio.gather(*(append(log.producer, log.commands, p, records) for p, records in by_partition.items()))

    async def _ends(self) -> int:
        return sum((await self._consumer.end_offsets(self._answers)).values())

    async def _answered(self, ends: int) -> None:
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        while await self._ends() < ends:
            if time.monotonic() > deadline:
                raise Refused(f"the sequencer did not answer everything within {ANSWERED_WITHIN_S:.0f} s")
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _commands(bench: Bench, **changed: int) -> AsyncIterator[Commands]:
    async with bench.system("sequencer", **changed) as system, Commands(bench, system) as commands:
        # The first records through a new process, and those of Kafka's compilers, are not what the next ones cost.
        await commands.do(_posts(COMMANDS // 2, lambda n: f"warm-{n % 50}", lambda n: f"w{n % 7}"))
        await commands.rest()
        yield commands


_nonces = itertools.count()


def _posts(count: int, room: Callable[[int], str], sender: Callable[[int], str]) -> list[RoomCommand]:
    """Messages whose client ids were never used."""
    return [
        PostMessage(
            v=1,
            room=room(n),
            sender=sender(n),
            nonce="n" * 22,
            client_id=f"id-{next(_nonces)}",
            body=BODY,
            create=True,
        )
        for n in range(count)
    ]


async def rooms(bench: Bench) -> None:
    """Active rooms, 100 to 100,000: CPU of the sequencer per command, and its memory

    Expected: memory straight. CPU rises until every command changes rows of its own, and is flat from there on: a
    snapshot writes each changed row once, and in 100 rooms a row changes 200 times for one write. With 20,000 commands
    a snapshot that is the case from 10,000 rooms on, nearly.
    """
    points: dict[float, list[Run]] = {}
    memory: dict[float, list[Run]] = {}
    for count in ROOMS:
        async with _commands(bench) as commands:
            before = commands.memory_mb
            await commands.do(_open_rooms(count))
            memory[count] = [Run(1, 1, {}, {}, values={"mb": commands.memory_mb, "grown": commands.memory_mb - before})]
            # All of them take part, over the repetitions: a step that shares no factor with the counts.
            places = itertools.count(step=7_919)

            def room(_n: int, count: int = count, places: Iterator[int] = places) -> str:
                return f"room-{next(places) % count}"

            side = f"{count} rooms"
            runs = await bench.interleave(
                {side: lambda commands=commands, room=room: commands.measured(_posts(COMMANDS, room, lambda n: "ann"))}
            )
            points[count] = runs[side]
    bench.conditions = {"commands": COMMANDS, "partitions": PARTITIONS, "people_a_room": 1}
    bench.curve(
        "rooms: CPU of the sequencer",
        "active rooms",
        "us of CPU per command",
        points,
        {"sequencer": lambda run: run.us("sequencer"), "kafka": lambda run: run.us("kafka")},
        shape="straight",
    )
    bench.curve(
        "rooms: memory of the sequencer",
        "active rooms",
        "MB resident",
        memory,
        {"sequencer": lambda run: run.values["mb"]},
        shape="straight",
    )


def _open_rooms(count: int) -> Iterator[RoomCommand]:
    for start in range(0, count, CHUNK):
        yield from _posts(
            min(CHUNK, count - start), lambda n, start=start: f"room-{start + n}", lambda n: "ann"
        )  # fmt: skip


@contextlib.asynccontextmanager
async def _large_room(bench: Bench, count: int) -> AsyncIterator[Commands]:
    """A room of so many members."""
    async with _commands(bench) as commands:
        await commands.do(JoinRoom(v=1, room=LARGE, sender=f"m{n}", create=True) for n in range(count))
        yield commands


async def members(bench: Bench) -> None:
    """Members of a room, 10 to 100,000: CPU of the sequencer per message, and its memory

    Expected: flat while ten of them speak, since a command looks at its sender's rows only. When all of them speak by
    turns, CPU rises until every command changes a row of its own, since a snapshot writes each changed row once; it is
    flat from there on. Memory straight.
    """
    few: dict[float, list[Run]] = {}
    every: dict[float, list[Run]] = {}
    memory: dict[float, list[Run]] = {}
    for count in MEMBERS:
        async with _large_room(bench, count) as commands:
            memory[count] = [Run(1, 1, {}, {}, values={"mb": commands.memory_mb})]
            places = itertools.count(step=7_919)

            async def ten(commands: Commands = commands) -> Run:
                return await commands.measured(_posts(COMMANDS, lambda _n: LARGE, lambda k: f"m{k % SPEAKERS}"))

            async def all_of_them(
                commands: Commands = commands, count: int = count, places: Iterator[int] = places
            ) -> Run:
                made = _posts(COMMANDS, lambda _n: LARGE, lambda _n: f"m{next(places) % count}")
                return await commands.measured(made)

            # One after the other: a snapshot of ten rows is followed by one a second later, one of thousands is not.
            (few[count],) = (await bench.interleave({f"{count} members, ten speak": ten})).values()
            (every[count],) = (await bench.interleave({f"{count} members, all speak": all_of_them})).values()
    bench.conditions = {"commands": COMMANDS, "rooms": 1, "partitions": PARTITIONS}
    asked: tuple[tuple[str, dict[float, list[Run]], Shape], ...] = (
        ("of ten people", few, "flat"),
        ("of all people", every, "straight"),
    )
    for who, points, shape in asked:
        bench.curve(
            f"members: CPU of the sequencer per message {who}",
            "members of the room",
            "us of CPU per message",
            points,
            {"sequencer": lambda run: run.us("sequencer")},
            shape=shape,
        )
    bench.curve(
        "members: memory of the sequencer",
        "members of the room",
        "MB resident",
        memory,
        {"sequencer": lambda run: run.values["mb"]},
        shape="straight",
    )


async def joins(bench: Bench) -> None:
    """Joins and leaves in a room of 10 to 100,000 members: CPU of the sequencer for each

    Expected: flat.
    """
    points: dict[float, list[Run]] = {}
    for count in MEMBERS:
        async with _large_room(bench, count) as commands:
            guests = itertools.count()

            async def join(commands: Commands = commands, guests: Iterator[int] = guests) -> Run:
                made: list[RoomCommand] = []
                for _ in range(JOINS):
                    guest = f"guest{next(guests)}"
                    made += [JoinRoom(v=1, room=LARGE, sender=guest), LeaveRoom(v=1, room=LARGE, sender=guest)]
                return await commands.measured(made)

            (points[count],) = (await bench.interleave({f"{count} members": join})).values()
    bench.conditions = {"joins_and_leaves": 2 * JOINS, "rooms": 1, "partitions": PARTITIONS}
    bench.curve(
        "members: CPU of the sequencer per join or leave",
        "members of the room",
        "us of CPU per command",
        points,
        {"sequencer": lambda run: run.us("sequencer")},
        shape="flat",
    )


# ---------------------------------------------------------------- through the gateway


async def _paced(bench: Bench, load: Generator, names: list[str], per_s: int, seconds: int, body: int = 100) -> Run:
    meter = bench.meter(load)
    result = await load.do("publish", rooms=names, messages=per_s * seconds, per_s=per_s, body=body)
    run = meter.stop(
        result["messages"],
        late_share=result["late_share"],
        deliveries=result["deliveries"],
        **{key: value for key, value in result.items() if key.endswith("_ms")},
    )
    check_generator(run, paced=True)
    return run


async def subscribers(bench: Bench) -> None:
    """Subscribers of a room, 1 to 10,000: CPU of the gateway per message and per delivery, at a rate that it can hold

    Expected: per message straight (a part that is always there, and one for each subscriber); so per delivery it falls
    towards the price of a write, and stays there.
    """
    points: dict[float, list[Run]] = {}
    async with bench.system("gateway", "sequencer") as system, bench.generator() as load:
        for count in SUBSCRIBERS:
            per_s = min(MESSAGES_PER_S_MAX, DELIVERIES_PER_S // count)
            names = [f"audience-{count}"]
            await load.do("connect", port=system.port, rooms=names, each=count)
            await load.do("connect", port=system.port, rooms=names, each=1, writers=True)
            await load.do("publish", rooms=names, messages=per_s, per_s=per_s)
            await bench.settled(system.processes)
            side = f"{count} subscribers"
            runs = await bench.interleave(
                {side: lambda names=names, per_s=per_s: _paced(bench, load, names, per_s, SUBSCRIBERS_S)}
            )
            points[count] = runs[side]
            await load.do("drop")
            await bench.settled(system.processes)
    bench.conditions = {"deliveries_per_s_most": DELIVERIES_PER_S, "messages_per_s_most": MESSAGES_PER_S_MAX}
    bench.curve(
        "subscribers: CPU of the gateway per message",
        "subscribers of the room",
        "us of CPU per message",
        points,
        {"gateway": lambda run: run.us("gateway")},
        shape="straight",
    )
    bench.curve(
        "subscribers: CPU of the gateway per delivery",
        "subscribers of the room",
        "us of CPU per delivery",
        points,
        {"gateway": lambda run: run.us("gateway") * run.done / run.values["deliveries"]},
        shape="flat",
    )


async def sizes(bench: Bench) -> None:
    """Size of a message, 100 B to 48 KiB: CPU per message of gateway, sequencer and Kafka, in rooms of two

    Expected: straight, a part that is always there and one for each byte. CPU is measured as fast as it goes: at a
    hundred messages a second each costs a millisecond and more of waking up, in which 48 KiB do not show.
    """
    full: dict[float, list[Run]] = {}
    paced: dict[float, list[Run]] = {}
    names = [f"size-{n}" for n in range(SIZES_ROOMS)]
    async with bench.system("gateway", "sequencer") as system, bench.generator() as load:
        await load.do("connect", port=system.port, rooms=names, each=2)

        async def as_fast_as_it_goes(size: int, seconds: int = SIZES_FULL_S) -> Run:
            await bench.settled(system.processes)
            meter = bench.meter(load)
            result = await load.do(
                "publish", rooms=names, messages=10_000_000, window=SIZES_WINDOW, seconds=seconds, body=size
            )
            return meter.stop(result["messages"])

        async def at_a_rate(size: int) -> Run:
            await bench.settled(system.processes)
            return await _paced(bench, load, names, SIZES_PER_S, SIZES_S, size)

        for size in SIZES:
            await as_fast_as_it_goes(size, 1)
            sides = {
                f"{size} bytes, full": lambda size=size: as_fast_as_it_goes(size),
                f"{size} bytes, paced": lambda size=size: at_a_rate(size),
            }
            full[size], paced[size] = (await bench.interleave(sides)).values()
    bench.conditions = {
        "rooms": SIZES_ROOMS,
        "people_a_room": 2,
        "window_a_sender": SIZES_WINDOW,
        "messages_per_s_of_delays": SIZES_PER_S,
    }
    bench.curve(
        "size of a message: CPU",
        "bytes of the body",
        "us of CPU per message",
        full,
        {name: lambda run, name=name: run.us(name) for name in ("gateway", "sequencer", "kafka")},
        shape="straight",
    )
    bench.curve(
        "size of a message: send to deliver",
        "bytes of the body",
        "ms",
        paced,
        {f"p{q}": lambda run, q=q: run.values[f"deliver_p{q}_ms"] for q in (50, 99)},
        shape="straight",
    )


async def partitions(bench: Bench) -> None:
    """Partitions, 1 to 64: CPU of the sequencer with paced and with waiting commands, and how long a message takes

    Expected: straight. Each partition has batches, rows and snapshots of its own, the same messages in more partitions
    are less in each batch, and a fetch names, and its answer holds, every partition of the reader, whether something
    came or not (seen in profiles: `Fetcher._get_actions_per_node`, `Array.decode`). A message waits for two of these,
    so its delay is straight, too. Where commands wait, a fetch brings many: flat.
    """
    paced: dict[float, list[Run]] = {}
    waiting: dict[float, list[Run]] = {}
    names = [f"part-{n}" for n in range(PARTITIONS_ROOMS)]
    for count in PARTITION_COUNTS:
        async with (
            bench.system("gateway", "sequencer", partitions=count) as system,
            bench.generator() as load,
            Commands(bench, system) as commands,
        ):
            await load.do("connect", port=system.port, rooms=names, each=2)
            await load.do("publish", rooms=names, messages=2 * PARTITIONS_PER_S, per_s=PARTITIONS_PER_S)
            await commands.do(_posts(COMMANDS // 2, lambda n: f"warm-{n % 50}", lambda n: f"w{n % 7}"))
            await bench.settled(system.processes)
            await commands.rest()

            async def laid_up(commands: Commands = commands) -> Run:
                return await commands.measured(_posts(COMMANDS, lambda n: f"room-{n % 1_000}", lambda _n: "ann"))

            sides = {
                f"{count} partitions, paced": lambda load=load: _paced(
                    bench, load, names, PARTITIONS_PER_S, PARTITIONS_S
                ),
                f"{count} partitions, waiting": laid_up,
            }
            paced[count], waiting[count] = (await bench.interleave(sides)).values()
    bench.conditions = {"rooms": PARTITIONS_ROOMS, "people_a_room": 2, "messages_per_s": PARTITIONS_PER_S}
    bench.curve(
        "partitions: CPU at 500 messages a second",
        "partitions",
        "us of CPU per message",
        paced,
        {name: lambda run, name=name: run.us(name) for name in ("sequencer", "gateway", "kafka")},
        shape="straight",
    )
    bench.curve(
        "partitions: CPU of the sequencer with waiting commands",
        "partitions",
        "us of CPU per command",
        waiting,
        {"sequencer": lambda run: run.us("sequencer")},
        shape="flat",
    )
    bench.curve(
        "partitions: send to deliver",
        "partitions",
        "ms",
        paced,
        {f"p{q}": lambda run, q=q: run.values[f"deliver_p{q}_ms"] for q in (50, 99)},
        shape="straight",
    )


async def workers(bench: Bench) -> None:
    """One and two workers of each role: messages a second of the whole, and CPU per message

    On a machine of two cores, which engines and load generator share, the second worker has no core of its own: this
    cannot show that throughput doubles, and it is expected to stay where it is. What it can show is what a second
    worker adds to the CPU of a message (each gateway reads every record), which has to stay below one and a half.
    """
    points: dict[float, list[Run]] = {}
    names = [f"pair-{n}" for n in range(WORKERS_ROOMS)]
    for count in WORKERS:
        async with bench.system(*ROLES, count=dict.fromkeys(ROLES, count)) as system, bench.generator() as load:
            ports = [worker.port for worker in system.workers.values() if worker.role == "gateway"]
            for port in (ports[0], ports[-1]):  # the two people of a room, on both gateways if there are two
                await load.do("connect", port=port, rooms=names, each=1, checked_all=True)

            async def once(system: System = system, load: Generator = load, seconds: float = WORKERS_S) -> Run:
                await bench.settled(system.processes)
                meter = bench.meter(load)
                result = await load.do(
                    "publish", rooms=names, messages=10_000_000, window=WORKERS_WINDOW, seconds=seconds
                )
                return meter.stop(result["messages"], receipt_p50_ms=result["receipt_p50_ms"])

            await once(seconds=2)
            side = f"{count} of each role"
            points[count] = (await bench.interleave({side: once}))[side]
    bench.conditions = {"rooms": WORKERS_ROOMS, "people_a_room": 2, "window_a_sender": WORKERS_WINDOW}
    bench.curve(
        "workers of each role: messages",
        "workers of each role",
        "messages a second",
        points,
        {"all": lambda run: run.per_s},
        shape="",
    )
    bench.curve(
        "workers of each role: CPU",
        "workers of each role",
        "us of CPU per message",
        points,
        {
            **{role: lambda run, role=role: _us_of(run, role) for role in ROLES},
            "engines": lambda run: run.us("kafka", "cassandra", "redis"),
        },
        shape="flat",
    )


def _us_of(run: Run, role: str) -> float:
    """Of all workers of a role."""
    return run.us(*(name for name in run.cpu_s if name == role or name.startswith(f"{role}-")))


# ---------------------------------------------------------------- history


async def depth(bench: Bench) -> None:
    """Depth of a history: time of a page of 50 at its end, 10,000 and 100,000 events before it, from Cassandra

    Expected: flat: a page is one range of one of Cassandra's partitions, wherever it lies.
    """
    points: dict[float, list[Run]] = {}
    total = max(DEPTHS) + 20_000
    async with bench.system() as system:
        await asyncio.to_thread(system.namespace.make_keyspace)
        bench.started |= system.engines
        settings = system.namespace.settings()
        archive = ArchiveStore(settings)
        history = HistoryStore(settings)
        try:
            await archive.write_events([])
            for start in range(1, total + 1, CHUNK):
                await archive.write_events([_stored(seq) for seq in range(start, min(start + CHUNK, total + 1))])
            for place in (total, total // 2):
                await _pages(history, place)
            await bench.settled(system.engines)
            turns = itertools.count()

            async def once(at: int) -> Run:
                # Never where a run before was: what a node keeps in memory is its own business, not the depth's.
                end = total + 1 - at - (next(turns) % 20) * 13
                meter = bench.meter()
                took = sorted(await _pages(history, end))
                return meter.stop(PAGES, p50_ms=took[len(took) // 2], p99_ms=took[len(took) * 99 // 100])

            runs = await bench.interleave({f"depth {at}": lambda at=at: once(at) for at in DEPTHS})
            points = dict(zip(map(float, DEPTHS), runs.values(), strict=True))
        finally:
            await asyncio.gather(archive.stop(), history.stop())
    bench.conditions = {"events": total, "page": PAGE, "pages_a_run": PAGES, "body_bytes": len(BODY)}
    bench.curve(
        "depth of a history: time of a page",
        "events after the page",
        "ms",
        points,
        {f"p{q}": lambda run, q=q: run.values[f"p{q}_ms"] for q in (50, 99)},
        shape="flat",
    )
    bench.curve(
        "depth of a history: CPU of a page",
        "events after the page",
        "us of CPU per page",
        points,
        {"reader": lambda run: run.us("bench"), "cassandra": lambda run: run.us("cassandra")},
        shape="flat",
    )


async def _pages(history: HistoryStore, end: int) -> list[float]:
    """Milliseconds of each of `PAGES` pages, one after the other, up to some thousand events before `end`."""
    took = []
    for n in range(PAGES):
        before = end - (n * 37) % 5_000
        started = time.perf_counter()
        page = await history.read_before("deep", before, PAGE)
        took.append((time.perf_counter() - started) * 1e3)
        if [event.seq for event in page] != list(range(before - PAGE, before)):
            raise Refused(f"a page of {PAGE} before {before} is not whole")
    return took


def _stored(seq: int) -> Stored:
    event = Event(
        v=1,
        room="deep",
        seq=seq,
        epoch="60a24181e400e",
        kind="message",
        at=1_700_000_000_000_000 + seq,
        sender="alice",
        msg_no=seq,
        members=12,
        chain="0" * 64,
        nonce="n" * 22,
        client_id=f"{seq}",
        content_type="text/plain",
        body=BODY,
    )
    return Stored(event, encode(event))
