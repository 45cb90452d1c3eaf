"""The faults: each has a name, is injected, and healed. What it does not undo by itself, `heal` undoes.

`inject` returns when the fault is there (a killed process has been started again by its supervisor by then), and says
what it did. `hold_s` is the time from there to `heal`. All chance comes from the `Random` that it is given.
"""

from __future__ import annotations

import asyncio
import math
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chat.log.consumer import reader
from chat.log.topics import COMMANDS
from tests.faults.system import System

FAKETIME = "libfaketimeMT.so.1"
FAKETIME_FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")
FAILPOINT_S = 40.0
"""A failpoint under load is reached long before; one that was not is said in the report."""

LONG_S = 30.0
"""A pause of this length and more is a kind of its own in the report: clients and drivers give up on the way."""

FAILPOINTS = {
    "sequencer": (
        "before-produce",
        "after-produce",
        "snapshot-first-row",
        "recovery-before-fence",
        "recovery-after-fence",
    ),
    "archiver": ("archiver-mid-batch", "archiver-before-commit"),
    "projector": ("projector-mid-batch", "projector-before-commit"),
}
"""Where chat.failpoints may end each role's process under load."""


class Fault(ABC):
    """One way to hurt a system."""

    def __init__(self, name: str, disturbs: str, hold_s: float = 0.0) -> None:
        self.name = name
        self.disturbs = disturbs
        """For people: whose work it is that suffers."""
        self.hold_s = hold_s
        self.stops_receipts = False
        """While it holds nothing may be receipted: what would be, too few have."""
        self.receipts_within_s = math.inf
        """While it holds, somebody gets a RECEIPT at least so often."""

    @abstractmethod
    async def inject(self, system: System, chance: Random) -> str:
        """Do it; returns what was done."""

    async def heal(self, system: System) -> None:
        """Undo it. Harmless when it was never injected."""
        del system


# ---------------------------------------------------------------- processes


class Kill(Fault):
    """SIGKILL (or another signal) to one process of a role, or to an engine."""

    def __init__(self, target: str, *, number: signal.Signals = signal.SIGKILL) -> None:
        how = "kill -9" if number is signal.SIGKILL else "restart"
        super().__init__(f"{how} {target}", target)
        self._target = target
        self._number = number

    async def inject(self, system: System, chance: Random) -> str:
        name = _one_of(system, self._target, chance)
        before = system.send(name, self._number)
        await system.until_restarted(name, before, 90.0)
        return f"{name} (process {before})"


class Failpoint(Fault):
    """One process ends itself at a named place."""

    def __init__(self, role: str, point: str) -> None:
        super().__init__(f"die at {point}", role)
        self._role = role
        self._point = point

    async def inject(self, system: System, chance: Random) -> str:
        name = _one_of(system, self._role, chance)
        # A recovery comes once in a life of the process; everything else comes again and again.
        passes = 1 if self._point.startswith("recovery") else chance.randint(1, 4)
        system.override(name, ROOMLOG_FAILPOINT=f"{self._point}:{passes}")
        try:
            before = system.send(name, signal.SIGTERM)
            await system.until_restarted(name, before)
            armed = system.pid(name)
        finally:
            system.plain(name)
        try:
            await system.until_restarted(name, armed, FAILPOINT_S)
        except TimeoutError:
            before = system.send(name, signal.SIGKILL)
            await system.until_restarted(name, before)
            return f"{name}: pass {passes} of {self._point} did not come; killed"
        return f"{name} at pass {passes} of {self._point}"


class Pause(Fault):
    """SIGSTOP, and SIGCONT later: a process that wakes with everything that it had in mind."""

    def __init__(self, target: str, hold_s: float) -> None:
        long = " for long" if hold_s >= LONG_S else ""
        super().__init__(f"pause {target}{long}", target, hold_s)
        self._target = target
        self._paused: list[str] = []

    async def inject(self, system: System, chance: Random) -> str:
        name = _one_of(system, self._target, chance)
        self._paused.append(name)
        system.send(name, signal.SIGSTOP)
        return f"{name} for {self.hold_s:.0f} s"

    async def heal(self, system: System) -> None:
        while self._paused:
            system.send(self._paused.pop(), signal.SIGCONT)


class KillWaiting(Fault):
    """A worker is killed while its engine stands still: with everything in hand that it could not write yet."""

    def __init__(self, role: str, engine: str, hold_s: float = 1.0) -> None:
        super().__init__(f"kill -9 {role} while {engine} stands still", role, hold_s)
        self._role = role
        self._engine = engine

    async def inject(self, system: System, chance: Random) -> str:
        name = _one_of(system, self._role, chance)
        system.send(self._engine, signal.SIGSTOP)
        # The worker commits what it may once a second: long enough for two of them.
        await asyncio.sleep(chance.uniform(2.2, 3.5))
        before = system.send(name, signal.SIGKILL)
        await system.until_restarted(name, before)
        return f"{name} (process {before})"

    async def heal(self, system: System) -> None:
        system.send(self._engine, signal.SIGCONT)


class ZombieAndHeir(Fault):
    """A sequencer is paused for longer than its session; its heir takes over and is killed as the zombie wakes."""

    def __init__(self, hold_s: float) -> None:
        super().__init__("zombie wakes, heir dies", "sequencer", hold_s)
        self._zombie = ""

    async def inject(self, system: System, chance: Random) -> str:
        self._zombie = _one_of(system, "sequencer", chance)
        system.send(self._zombie, signal.SIGSTOP)
        return f"{self._zombie} for {self.hold_s:.0f} s, then kill -9 of the others"

    async def heal(self, system: System) -> None:
        zombie, self._zombie = self._zombie, ""
        if not zombie:
            return
        system.send(zombie, signal.SIGCONT)
        for name in system.workers("sequencer"):
            if name != zombie:
                system.send(name, signal.SIGKILL)


class Rolling(Fault):
    """SIGTERM to every worker, one after the other, each ready again before the next."""

    def __init__(self, *roles: str) -> None:
        super().__init__("rolling restart" + (f" of {roles[0]}s" if roles else ""), ", ".join(roles) or "all")
        self._roles = roles

    async def inject(self, system: System, chance: Random) -> str:
        names = [name for role in self._roles or (None,) for name in system.workers(role)]
        chance.shuffle(names)
        for name in names:
            await system.restart(name)
            await system.until_ready([name])
        return ", ".join(names)


class Scale(Fault):
    """Another worker or two of a role join and leave again."""

    def __init__(self, role: str, more: int, hold_s: float = 4.0) -> None:
        super().__init__(f"{role}s join and leave", role, hold_s)
        self._role = role
        self._more = more
        self._before: int | None = None

    async def inject(self, system: System, chance: Random) -> str:
        del chance
        self._before = system.counts[self._role]
        await system.scale(**{self._role: self._before + self._more})
        return f"{self._before} to {self._before + self._more} and back"

    async def heal(self, system: System) -> None:
        if self._before is not None:
            await system.scale(**{self._role: self._before})
            self._before = None


# ---------------------------------------------------------------- engines


class Flush(Fault):
    """Redis forgets everything."""

    def __init__(self) -> None:
        super().__init__("FLUSHALL of Redis", "redis", 2.0)

    async def inject(self, system: System, chance: Random) -> str:
        del chance
        await system.redis("FLUSHALL")
        return ""


class ShortRetention(Fault):
    """Commands are kept for a moment only: what was answered long ago goes, what was not must not be needed.

    Workers refuse to start while a topic keeps too little, so nothing else is broken meanwhile.
    """

    def __init__(self, hold_s: float = 90.0) -> None:
        super().__init__("retention of a minute", "kafka", hold_s)

    async def inject(self, system: System, chance: Random) -> str:
        del chance
        await self._configure(system, {"retention.ms": "60000", "segment.ms": "10000"})
        return ""

    async def heal(self, system: System) -> None:
        settings = system.settings
        topic = settings.topic(COMMANDS)
        try:
            async with reader(settings, [topic]) as consumer:
                partitions = [TopicPartition(topic, p) for p in range(settings.partitions)]
                begins = await consumer.beginning_offsets(partitions)
        finally:
            await self._configure(system, {})
        if not any(begins.values()):
            raise RuntimeError("no command has been deleted: nothing was tried")

    async def _configure(self, system: System, changed: dict[str, str]) -> None:
        settings = system.settings
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_servers)
        await admin.start()
        try:
            name = settings.topic(COMMANDS)
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            # 1 is a topic's own value (source of a setting, Kafka's protocol): what stands here replaces all of them.
            own = {entry[0]: entry[1] for entry in answer.resources[0][4] if entry[3] == 1}
            self._kept = getattr(self, "_kept", own)
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {**self._kept, **changed})])
        finally:
            await admin.close()


# ---------------------------------------------------------------- links


class Link(Fault):
    """The way of the linked workers to one engine.

    `cut`: refused; `broken`: once; `frozen`: half open, nothing passes; `slow`: 200 ms more, each way.
    """

    def __init__(self, engine: str, how: str, hold_s: float) -> None:
        super().__init__(f"link to {engine} {how}", f"workers linked to {engine}", hold_s)
        self._engine = engine
        self._how = how

    async def inject(self, system: System, chance: Random) -> str:
        del chance
        link = system.links[self._engine]
        match self._how:
            case "cut":
                await link.off()
            case "broken":
                link.cut()
            case "frozen":
                link.freeze()
            case _:
                link.delay_s = 0.2
        return f"for {self.hold_s:.0f} s"

    async def heal(self, system: System) -> None:
        link = system.links[self._engine]
        link.delay_s = 0.0
        link.thaw()
        if self._how == "cut":
            await link.off()
            await link.on()


# ---------------------------------------------------------------- clocks


class Clock(Fault):
    """The wall clock of one process is off by an hour, or jumps between an hour behind and an hour ahead."""

    def __init__(self, target: str, how: str, hold_s: float = 6.0) -> None:
        super().__init__(f"clock of {target} {how}", target, hold_s)
        self._target = target
        self._how = how
        self._name = ""
        self._jumping: asyncio.Task[None] | None = None

    async def inject(self, system: System, chance: Random) -> str:
        library = faketime_library()
        assert library, "asked for before the run began"
        self._name = _one_of(system, self._target, chance)
        file = system.data / "run" / f"{self._name}.clock"
        file.write_text("-1h\n" if self._how == "behind" else "+1h\n")
        system.override(
            self._name,
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(file),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
        await system.restart(self._name)
        if self._how == "jumping":
            self._jumping = asyncio.create_task(_jump(file.write_text))
        return self._name

    async def heal(self, system: System) -> None:
        if self._jumping is not None:
            self._jumping.cancel()
            self._jumping = None
        if self._name:
            system.plain(self._name)
            await system.restart(self._name)
            self._name = ""


async def _jump(write: Callable[[str], object]) -> None:
    while True:
        for offset in ("-1h", "+1h"):
            await asyncio.sleep(2.0)
            write(f"{offset}\n")


def faketime_library() -> Path | None:
    """Debian's `faketime`, where it is installed."""
    return next((path for folder in FAKETIME_FOLDERS if (path := Path(folder) / FAKETIME).exists()), None)


# ---------------------------------------------------------------- several


class Together(Fault):
    """Several at once, each a moment after the one before."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        names = " + ".join(fault.name for fault in faults)
        super().__init__(f"together: {names}", "several", max(fault.hold_s for fault in faults))
        self._faults = faults

    async def inject(self, system: System, chance: Random) -> str:
        done = []
        for fault in self._faults:
            done.append(f"{fault.name}: {await fault.inject(system, chance)}")
            await asyncio.sleep(chance.uniform(0.0, 1.5))  # the distance of two faults
        return "; ".join(done)

    async def heal(self, system: System) -> None:
        for fault in reversed(self._faults):
            await fault.heal(system)


def _one_of(system: System, target: str, chance: Random) -> str:
    """A process: one of the engine of that name, or any worker of that role."""
    return chance.choice(system.workers(target) or system.nodes(target))
