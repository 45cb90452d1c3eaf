"""More than there is room for: three times the capacity for a while, and a Kafka that is away.

`python -m tests.faults overload` finds the capacity of a stack of its own, offers three times that for a minute, then a
quarter of it again; then it stops Kafka for a minute under a quarter of the capacity. tests/faults/test_overload.py runs
both for seconds. What is judged: every SEND is receipted, refused with a code, or its connection was closed with one;
what was receipted is in the log, once, with that number; memory stays within a bound; and soon after, all is as before.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chat.settings import Settings
from tests.faults.auditor import Findings, audit_clients
from tests.faults.bystander import Memory
from tests.faults.history import History, Outcome
from tests.faults.offering import Offering
from tests.faults.stores import read_log
from tests.faults.system import System

TIMES = 3.0
LIGHT = 0.25
"""Of the capacity: before and after."""
RAMP = 1.6
RAMP_FROM_PER_S = 1_000.0
ENOUGH = 0.8
"""Fewer RECEIPTs than this part of what is offered, and they stay behind."""
BEFORE_S = 4.0
"""Of the light load, the second half of which is measured."""
BACK_S = 10.0
"""After the end, and p50 has to be what it was."""
CALM_S = 4
"""Seconds with such a p50, one after the other, and there is no need to look on."""
WORSE = 2.0
"""Times the p50 of before, and it counts as back."""
FLOOR_S = 0.01
"""A p50 below this counts as back whatever it was before: this much is noise."""
ANSWERED_S = 10.0
"""Above the time limit of a command: by then every SEND is answered, or its connection is closed."""
GROWTH_MIB = 400.0
"""Bound of what any worker may grow by: see "Overload" in docs/operations.md."""

_IN_FLIGHT = re.compile(r"^roomlog_gateway_commands_in_flight (\S+)$", re.MULTILINE)


@dataclass
class Stretch:
    """What became of an overload, or of a time without Kafka."""

    what: str
    asked_per_s: float
    seconds: float
    memory: Memory
    floor_s: float = FLOOR_S
    back_within_s: float = BACK_S
    sent: int = 0
    held_back: int = 0
    receipted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    unexplained: int = 0
    unanswered: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    """Commands of the gateway that waited, at most."""
    before_s: float = 0.0
    """p50 of SEND to RECEIPT."""
    during_s: float = 0.0
    after_s: list[float] = field(default_factory=list)
    """p50 of each second after the end."""
    findings: Findings = field(default_factory=Findings)

    @property
    def back_s(self) -> float:
        """Seconds after the end from which on p50 stayed at what it was; infinite when it did not come back.

        A single late second between others is something else on this machine.
        """
        late = self._late()
        lasting = [n for n, is_late in enumerate(late) if is_late and (n == 0 or late[n - 1])]
        if not lasting:
            return 0.0
        return lasting[-1] + 1.0 if lasting[-1] + 1 < len(late) else float("inf")

    @property
    def calm(self) -> bool:
        """Whether p50 has been what it was for `CALM_S`."""
        return len(self.after_s) >= CALM_S and not any(self._late()[-CALM_S:])

    def _late(self) -> list[bool]:
        enough_s = max(self.floor_s, WORSE * self.before_s)
        return [p50_s > enough_s for p50_s in self.after_s]

    def faults(self) -> list[str]:
        """What did not hold, a line each."""
        found = [str(finding) for finding in self.findings.listed]
        if self.unexplained:
            found.append(f"{self.unexplained} SENDs were on connections that ended without a code")
        if self.unanswered:
            found.append(f"{self.unanswered} SENDs got no answer, and their connections are open")
        if self.closes[0]:
            found.append(f"connections ended without a code: {dict(self.closes)}")
        if self.back_s > self.back_within_s:
            found.append(f"p50 was {self.before_s * 1000:.1f} ms, and afterwards {_ms(self.after_s)}")
        found += [
            f"{name} grew by {grown:.0f} MiB"
            for name in self.memory.pids
            if (grown := self.memory.grown(name)) > GROWTH_MIB
        ]
        return found

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self.refused.items())) or "none"
        closes = ", ".join(f"{count} with {code}" for code, count in sorted(self.closes.items())) or "none"
        return (
            f"{self.what}: {self.asked_per_s:.0f}/s due for {self.seconds:.0f} s; {self.sent} sent, {self.held_back} "
            f"not (no connection, or TCP took no more); {self.receipted} receipted, refused: {refused}; {self.unknown} unknown at a coded close; "
            f"closes: {closes}; at most {self.in_flight} in flight\n"
            f"  p50 before {self.before_s * 1000:.1f} ms, during {self.during_s * 1000:.1f} ms, by second after "
            f"{_ms(self.after_s)}: back after {self.back_s:.0f} s\n"
            f"  memory: {self.memory}"
        )


def _ms(values_s: Sequence[float]) -> str:
    return " ".join(f"{value_s * 1000:.0f}" for value_s in values_s) + " ms"


class Rig:
    """A gateway, its senders, and the means to measure both."""

    def __init__(
        self,
        settings: Settings,
        port: int,
        pids: dict[str, int],
        *,
        senders: int = 48,
        rooms: int = 16,
        floor_s: float = FLOOR_S,
        back_within_s: float = BACK_S,
    ) -> None:
        """A p50 below `floor_s` is as good as before, whatever it was before; it has `back_within_s` to get there."""
        self.settings = settings
        self._floor_s = floor_s
        self._back_within_s = back_within_s
        self.pids = pids
        self.history = History()
        self.offering = Offering(self.history, port, senders, rooms)
        self._metrics = f"http://127.0.0.1:{port}/metrics"

    async def capacity(self, step_s: float) -> float:
        """RECEIPTs a second, at most: more and more is offered until they stay behind, twice in a row."""
        rate, best, late = RAMP_FROM_PER_S, 0.0, 0
        while late < 2:  # once may be a JVM that is still cold
            began_s = self.history.now_s()
            self.offering.per_s = rate
            await asyncio.sleep(step_s)
            ended_s = self.history.now_s()
            got = len(self.offering.receipts(began_s, ended_s)) / (ended_s - began_s)
            best = max(best, got)
            late = late + 1 if got < ENOUGH * rate else 0
            rate *= RAMP
        await self.rest()
        return best

    async def rest(self) -> None:
        """Nothing is offered until everything is answered."""
        self.offering.per_s = 0.0
        deadline = time.monotonic() + self.settings.command_timeout_s + ANSWERED_S
        while self.offering.open and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def stretch(
        self,
        what: str,
        per_s: float,
        seconds: float,
        *,
        light_per_s: float,
        light_s: float,
        during: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> Stretch:
        """A light load, then `per_s` for `seconds` (inside `during`), then the light load until all is as before.

        For `light_s` at most.
        """
        offering, history = self.offering, self.history
        offering.per_s = light_per_s
        await asyncio.sleep(BEFORE_S)
        before_from_s, before_to_s = history.now_s() - BEFORE_S / 2, history.now_s()
        calls, held_back = len(history.calls), offering.held_back
        unknown, unexplained = offering.unknown, offering.unexplained
        refusals, closes = offering.refusals.copy(), offering.closes.copy()
        found = Stretch(what, per_s, seconds, Memory(self.pids), self._floor_s, self._back_within_s)
        found.before_s = offering.p50_s(before_from_s, before_to_s)
        watching = asyncio.create_task(found.memory.watch())
        counting = asyncio.create_task(self._count(found))
        began_s = history.now_s()
        offering.per_s = per_s
        if during is None:
            await asyncio.sleep(seconds)
        else:
            with during():
                await asyncio.sleep(seconds)
        offering.per_s = light_per_s
        ended_s = history.now_s()
        found.during_s = offering.p50_s(began_s, ended_s)
        for second in range(int(light_s)):
            await asyncio.sleep(ended_s + second + 1 - history.now_s())
            found.after_s.append(offering.p50_s(ended_s + second, ended_s + second + 1))
            if found.calm:
                break
        await self.rest()
        for task in (watching, counting):
            task.cancel()
        await asyncio.gather(watching, counting, return_exceptions=True)
        found.held_back = offering.held_back - held_back
        found.unknown, found.unexplained = offering.unknown - unknown, offering.unexplained - unexplained
        found.refused, found.closes = offering.refusals - refusals, offering.closes - closes
        found.unanswered = offering.open
        found.sent = len(history.calls) - calls
        found.receipted = sum(
            outcome in (Outcome.NUMBERED, Outcome.REPEATED) for outcome in history.calls.outcome[calls:]
        )
        return found

    async def audit(self) -> Findings:
        """Everything that was receipted, beside the log."""
        findings = Findings()
        log = await read_log(self.settings, findings)
        audit_clients(self.history, log.rooms, findings)
        return findings

    async def _count(self, found: Stretch) -> None:
        while True:
            text = await asyncio.to_thread(self._read_metrics)
            if (match := _IN_FLIGHT.search(text)) is not None:
                found.in_flight = max(found.in_flight, int(float(match[1])))
            await asyncio.sleep(0.5)

    def _read_metrics(self) -> str:
        try:
            with urllib.request.urlopen(self._metrics, timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""


# ---------------------------------------------------------------- the long version


def main(arguments: Sequence[str]) -> int:
    """The long version; the exit status tells whether all of it held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults overload")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload, and of Kafka's absence")
    parser.add_argument("--senders", type=int, default=48)
    parser.add_argument("--rooms", type=int, default=16)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args(arguments)
    folder = (chosen.data or Path("build/faults") / f"overload-{random.randrange(1_000_000)}").resolve()
    return asyncio.run(_long(chosen, folder))


async def _long(chosen: argparse.Namespace, folder: Path) -> int:
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    failed = False
    async with System(folder / "stack", {"gateway": 1, "sequencer": 1, "archiver": 1, "projector": 1}) as system:

        @contextmanager
        def without_kafka() -> Iterator[None]:
            system.send("kafka", signal.SIGSTOP)
            try:
                yield
            finally:
                system.send("kafka", signal.SIGCONT)

        pids = {name: system.stack.pid(name) for name in system.workers()}
        rig = Rig(system.settings, system.port("gateway"), pids, senders=chosen.senders, rooms=chosen.rooms)
        async with rig.offering:
            while rig.offering.connected < chosen.senders:
                await asyncio.sleep(0.1)
            capacity = await rig.capacity(2.0)
            say(f"capacity: {capacity:.0f} RECEIPTs a second ({chosen.senders} senders, {chosen.rooms} rooms)")
            light = LIGHT * capacity
            first = await rig.stretch("overload", TIMES * capacity, chosen.seconds, light_per_s=light, light_s=15.0)
            say(str(first))
            second = await rig.stretch(
                "without Kafka", light, chosen.seconds, light_per_s=light, light_s=25.0, during=without_kafka
            )
            say(str(second))
        second.findings = await rig.audit()
        wrong = second.findings.counts.total()
        say(f"{len(rig.history.calls)} SENDs in all, held against the log: {wrong} findings")
        for fault in (*first.faults(), *second.faults()):
            failed = True
            say(f"FAILED: {fault}")
    (folder / "overload.txt").write_text("\n".join(lines) + "\n")
    system.remove()
    return 1 if failed else 0
