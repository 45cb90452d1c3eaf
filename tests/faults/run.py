"""One run: start everything, load it, hurt it, heal it, let it come to rest, read everything once, compare, report."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from random import Random

from tests.engines import ENGINES
from tests.faults.auditor import Findings, Kind, RoomLog, audit_clients, audit_reader
from tests.faults.clusters import ClusterSystem
from tests.faults.faults import Fault
from tests.faults.history import Disturbance, History, longest_gap_s, write_history
from tests.faults.load import Crowd
from tests.faults.plan import needs_disks, needs_links, plan
from tests.faults.report import Result, write_report
from tests.faults.silence import AFTER_S, measure
from tests.faults.stores import Log, audit_cassandra, audit_redis, read_log, until_written
from tests.faults.system import System

WARM_UP_S = 4.0
"""Without a fault, to compare with, at least; the first messages make the rooms."""
BETWEEN_S = (AFTER_S, AFTER_S + 1.5)
REST_S = 3.0
"""Load goes on for so long after the last fault: every room has events that came after it."""
CONNECTED_S = 30.0
ANSWERED_S = 90.0
"""All is well again: every writer has all of its RECEIPTs within this, and every reader everything."""
WRITTEN_S = 120.0
READ_PER_S = 2_000
"""Events that the last readers, all of them together, get at least."""
PROGRESS_S = 10.0
LATE_S = 2.0
"""After it was there, a fault that stops RECEIPTs has stopped them."""
DISK_BYTES = {"kafka": 192 * 2**20, "cassandra": 384 * 2**20}
"""Room for a run of minutes, and little enough to be taken from memory."""


@dataclass(frozen=True)
class Wish:
    """What a run shall be."""

    seed: int
    names: list[str]
    messages: int
    rate: float
    rooms: int = 16
    writers: int = 48
    counts: dict[str, int] = field(
        default_factory=lambda: {"gateway": 2, "sequencer": 2, "archiver": 1, "projector": 1}
    )
    forever: bool = False
    """Go on with faults until all messages are sent, instead of once through the plan."""
    wanted: dict[str, int] = field(default_factory=dict)
    keep: bool = False
    cluster: bool = False
    """Three brokers and three nodes of Cassandra instead of one each."""
    warm_up_s: float = WARM_UP_S
    """Without a fault. Engines compile for most of their first minute, on the cores that a restarted worker needs."""
    minutes: float = math.inf
    """After so many no fault begins, and no more is sent."""
    command: str = ""


class Run:
    """One run with its folder."""

    def __init__(self, wish: Wish, folder: Path) -> None:
        self._wish = wish
        self._folder = folder
        self._chance = Random(wish.seed)
        self._history = History()
        self._findings = Findings()
        self._quiet: tuple[float, float] | None = None
        self._stopped = False
        linked = ("gateway-2", "sequencer-2", "archiver", "projector") if needs_links(wish.names) else ()
        disks = DISK_BYTES if needs_disks(wish.names) else {}
        self._system = (
            ClusterSystem(folder / "stack", wish.counts, disks=disks)
            if wish.cluster
            else System(folder / "stack", wish.counts, linked=linked, disks=disks)
        )

    async def run(self) -> Result:
        """All of it. What goes wrong in the system is in the findings; what goes wrong in the harness is raised."""
        wish, history = self._wish, self._history
        self._say(f"seed {wish.seed}, data in {self._folder}; starting engines and workers")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        async with self._system as system:
            history.began = time.monotonic()
            cpu_s = time.process_time()
            async with Crowd(history, system.gateways, wish.rooms, wish.writers) as crowd:
                await self._load(crowd, plan(wish.names, self._chance, forever=wish.forever))
                cpu_s, stall_s = time.process_time() - cpu_s, crowd.longest_stall_s
                seconds = history.now_s()
                log = await self._read_everything(crowd)
            result = await self._compare(log)
            result.seconds, result.harness_cpu_s, result.harness_stall_s = seconds, cpu_s, stall_s
            result.rebalances, result.restarts = system.rebalances(), system.restarts()
        self._say("writing the history")
        await asyncio.to_thread(write_history, history, self._folder / "history.ndjson.gz")
        write_report(result, self._folder / "report.md")
        if not wish.keep:
            system.remove()
        return result

    # ------------------------------------------------------------ load and faults

    async def _load(self, crowd: Crowd, faults: Iterator[Fault]) -> None:
        wish, history = self._wish, self._history
        crowd.per_s = wish.rate
        await self._until(crowd, lambda: all(c.connected for c in (*crowd.writers, *crowd.readers)), CONNECTED_S)
        began_s = history.now_s()
        await self._pass(crowd, wish.warm_up_s)
        # Of the warm-up only its second half: engines compile in the first.
        self._quiet = (began_s + wish.warm_up_s / 2, history.now_s())
        progress = asyncio.create_task(self._progress(crowd))
        try:
            for fault in faults:
                if self._over or (wish.forever and crowd.handed_out >= wish.messages):
                    break
                await self._hurt(crowd, fault)
            while crowd.handed_out < wish.messages and not self._over:
                await self._pass(crowd, 1.0)
            await self._pass(crowd, REST_S)
            self._say("the load ends; waiting until everybody has an answer")
            crowd.per_s = 0.0
            crowd.closing = True
            if not await self._until(crowd, lambda: crowd.outstanding == 0, ANSWERED_S):
                for writer in crowd.writers:
                    if writer.outstanding:
                        text = f"{writer.outstanding} messages of {writer.login} without a RECEIPT"
                        self._findings.add(Kind.UNANSWERED, "receipts", writer.author.room, 0, text)
        finally:
            progress.cancel()

    def _stop(self, number: signal.Signals) -> None:
        """Asked to end: the fault that is there is healed, and what has been sent so far is compared and reported."""
        self._say("ends early; once more to end at once, without a report")
        self._stopped = True
        asyncio.get_running_loop().remove_signal_handler(number)

    @property
    def _over(self) -> bool:
        return self._stopped or self._history.now_s() > 60 * self._wish.minutes

    async def _hurt(self, crowd: Crowd, fault: Fault) -> None:
        history, system = self._history, self._system
        disturbance = Disturbance(fault.name, "", history.now_s())
        history.disturbances.append(disturbance)
        try:
            try:
                disturbance.detail = await fault.inject(system, self._chance)
                there_s = history.now_s()
                await self._pass(crowd, fault.hold_s)
                judge(fault, history, there_s, self._findings)
            finally:
                await fault.heal(system)
            disturbance.healed_s = history.now_s()
            await system.until_ready()
        except (TimeoutError, RuntimeError) as error:
            self._findings.add(Kind.UNANSWERED, "system", "*", 0, f"after {fault.name}: {error}")
        disturbance.healed_s = disturbance.healed_s or history.now_s()
        disturbance.ready_s = history.now_s()
        await self._pass(crowd, self._chance.uniform(*BETWEEN_S))
        silence = measure(
            History(
                records=history.records,
                disturbances=[disturbance],
                outages=history.outages,
                receipts_s=history.receipts_s,
            )
        )[0]
        self._say(
            f"{fault.name}: {disturbance.detail or 'done'}; without a RECEIPT {silence.receipts_s:.2f} s "
            f"(worst room {silence.receipts_worst_room_s:.2f} s), {silence.lost_connections} connections lost, "
            f"back within {silence.back_s:.2f} s, ready after {disturbance.ready_s - disturbance.began_s:.1f} s"
        )

    async def _pass(self, crowd: Crowd, seconds: float) -> None:
        """Time passes under load."""
        await asyncio.sleep(seconds)
        if (error := crowd.failed()) is not None:
            raise error

    async def _until(self, crowd: Crowd, check: Callable[[], bool], within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not check():
            if time.monotonic() > deadline:
                return False
            await self._pass(crowd, 0.05)
        return True

    async def _progress(self, crowd: Crowd) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            deliveries = sum(len(record.seqs) for record in self._history.records)
            self._say(
                f"{crowd.handed_out:,} messages due, {crowd.receipted:,} receipted, {deliveries:,} deliveries, "
                f"{len(self._history.disturbances)} faults"
            )

    # ------------------------------------------------------------ the audit

    async def _read_everything(self, crowd: Crowd) -> Log:
        """Wait until the stores have all, read the log, and have everybody, newcomers too, read to its end."""
        settings, findings = self._system.settings, self._findings
        await until_written(settings, WRITTEN_S, findings)
        self._say("reading the log")
        log = await read_log(settings, findings)
        self._say("a new reader a room reads everything")
        for index, room in enumerate(crowd.rooms):
            crowd.join(f"late{index}", room)
        heads = {room: log.rooms[room].head for room in crowd.rooms if room in log.rooms}
        # Who has not come so far by then is a finding of `audit_reader`.
        await self._until(
            crowd,
            lambda: all(r.record.last_seq >= heads.get(r.record.room, 0) for r in crowd.readers),
            ANSWERED_S + sum(heads.values()) / READ_PER_S,
        )
        return log

    async def _compare(self, log: Log) -> Result:
        wish, history, findings, system = self._wish, self._history, self._findings, self._system
        self._say("comparing Cassandra, Redis and the clients' records with the log")
        await audit_cassandra(system.settings, log.rooms, findings)
        await audit_redis(system.settings, log.rooms, findings)
        for record in history.records:
            audit_reader(log.rooms.get(record.room) or RoomLog(record.room, findings), record, findings)
        audit_clients(history, log.rooms, findings)
        return Result(
            command=wish.command,
            seed=wish.seed,
            history=history,
            findings=findings,
            silences=measure(history, quiet=self._quiet),
            rate=wish.rate,
            counts=wish.counts,
            takes=log.takes,
            events=sum(len(room.seqs) for room in log.rooms.values()),
            rooms=wish.rooms,
            wanted=wish.wanted,
            engines={engine: len(system.nodes(engine)) for engine in ENGINES},
        )

    def _say(self, text: str) -> None:
        at_s = self._history.now_s()
        sys.stdout.write(f"[{at_s:7.1f} s] {text}\n")
        sys.stdout.flush()


def judge(fault: Fault, history: History, there_s: float, findings: Findings) -> None:
    """Were clients told, since the fault was there, what they may be told under it, and as soon as they must be?"""
    if not fault.stops_receipts and fault.receipts_within_s == math.inf:
        return
    receipts = array("d", merge(*history.receipts_s.values()))
    if fault.stops_receipts:
        # What enough replicas had before may still be on its way.
        told = len(receipts) - bisect_left(receipts, there_s + LATE_S)
        if told:
            findings.add(Kind.UNSAFE, "receipts", "*", 0, f"{told} RECEIPTs under {fault.name}")
    elif (gap_s := longest_gap_s(receipts, there_s, history.now_s())) > fault.receipts_within_s:
        findings.add(Kind.UNANSWERED, "receipts", "*", 0, f"none for {gap_s:.1f} s under {fault.name}")
