"""Faults of engines that are several, and of their disks."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from random import Random
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from chat.errors import Unavailable
from chat.log.positions import committed
from chat.log.topics import COMMANDS, EVENTS
from chat.stores.cassandra.history import HistoryStore
from tests.faults.auditor import Findings
from tests.faults.clusters import NODES, ClusterSystem
from tests.faults.disks import MIB
from tests.faults.faults import Fault
from tests.faults.stores import until_written
from tests.faults.system import System

ELECTED_S: Final = 15.0
"""A broker's session (3 s), a new controller, leaders, a new coordinator of the groups, on a machine with much to do."""
UNTROUBLED_S: Final = 6.0
"""Cassandra is on nobody's way to a RECEIPT; the machine is busy, though."""
WRITTEN_S: Final = 45.0
SETTLED_S: Final = 3.0
"""Writes that were under way are done, and the archiver has committed what it had: it does so once a second."""
HURT_S: Final = 8.0
"""The load writes some hundred KiB in this time."""


class KillLeader(Fault):
    """SIGKILL to the broker that leads most partitions of commands and events."""

    def __init__(self) -> None:
        super().__init__("kill -9 leader", "kafka")

    async def inject(self, system: System, chance: Random) -> str:
        del chance
        cluster = _cluster(system).cluster
        wanted = [system.settings.topic(topic) for topic in (COMMANDS, EVENTS)]

        async def ask(admin: AIOKafkaAdminClient) -> Counter[int]:
            topics = await admin.describe_topics(wanted)
            return Counter(partition["leader"] for topic in topics for partition in topic["partitions"])

        led = await cluster.ask(ask)
        if not led:
            raise RuntimeError("Kafka does not say who leads")
        ((node, partitions),) = led.most_common(1)
        name = f"kafka-{node}"
        await system.restart(name, signal.SIGKILL)
        return f"{name}, leader of {partitions} of {led.total()} partitions"


class Down(Fault):
    """SIGKILL to some of an engine's three, which stay away until the fault is over."""

    def __init__(self, engine: str, count: int, hold_s: float) -> None:
        super().__init__(f"{count} of {NODES} {engine} gone", engine, hold_s)
        self._engine = engine
        self._count = count
        self._down: list[str] = []
        self._reached: dict[int, int] | None = None
        if engine == "cassandra":
            self.receipts_within_s = UNTROUBLED_S
        elif count == 1:
            self.receipts_within_s = ELECTED_S
        else:
            self.stops_receipts = True

    async def inject(self, system: System, chance: Random) -> str:
        self._down = chance.sample(system.nodes(self._engine), self._count)
        await asyncio.gather(*(_cluster(system).cluster.down(name) for name in self._down))
        if self._engine == "cassandra":
            if self._count == 1:
                await _archiving_and_history_go_on(system)
            else:
                await asyncio.sleep(SETTLED_S)
                self._reached = await _archived(system)
        return f"{', '.join(self._down)} for {self.hold_s:.0f} s"

    async def heal(self, system: System) -> None:
        down, self._down = self._down, []
        before, self._reached = self._reached, None
        try:
            if before is not None and await _archived(system) != before:
                raise RuntimeError("the archiver went on, and no quorum of Cassandra could have what it wrote")
        finally:
            for name in down:
                _cluster(system).cluster.up(name)


class FullDisk(Fault):
    """An engine's disk is full, at once or soon; later there is room again."""

    def __init__(self, engine: str, leave_bytes: int, hold_s: float) -> None:
        super().__init__(f"disk of {engine} full", engine, hold_s)
        self._engine = engine
        self._leave_bytes = leave_bytes
        self._name = ""

    async def inject(self, system: System, chance: Random) -> str:
        self._name = chance.choice([name for name in system.disks if name.startswith(self._engine)])
        disk, before = system.disks[self._name], system.pid(self._name)
        # What was left is gone at some point of the load's own; where the load is too small for that, after a while.
        for leave_bytes in dict.fromkeys((self._leave_bytes, 0)):
            await asyncio.to_thread(disk.fill, leave_bytes)
            try:
                await system.until_restarted(self._name, before, HURT_S)
            except TimeoutError:
                continue
            return f"{self._name}, all but {leave_bytes // 1024} KiB taken: it leaves, and is started again and again"
        return f"{self._name}, all of it taken: it stays"

    async def heal(self, system: System) -> None:
        name, self._name = self._name, ""
        if name:
            system.disks[name].clear()


def soon_full(engine: str, chance: Random) -> Fault:
    """A disk that is full at once, or when a little more has been written: wherever that strikes."""
    return FullDisk(engine, chance.choice((0, 64 * 1024, MIB // 2)), round(chance.uniform(4.0, 10.0), 1))


async def _archiving_and_history_go_on(system: System) -> None:
    findings = Findings()
    await until_written(system.settings, WRITTEN_S, findings)
    if findings:
        raise RuntimeError(f"archiving does not go on with {NODES - 1} of {NODES} nodes: {findings.listed[0]}")
    history = HistoryStore.open(system.settings)
    try:
        if not await history.read_events("room-0", 1, 100):
            raise RuntimeError("Cassandra has nothing of a room that has events")
    except Unavailable as error:
        raise RuntimeError(f"history cannot be read with {NODES - 1} of {NODES} nodes: {error}") from None
    finally:
        await history.stop()


async def _archived(system: System) -> dict[int, int]:
    """Where the archiver stands, by partition."""
    return {p: found.newest.offset for p, found in (await committed(system.settings, "archiver")).items()}


def _cluster(system: System) -> ClusterSystem:
    assert isinstance(system, ClusterSystem), "asked for before the run began"
    return system
