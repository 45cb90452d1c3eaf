"""What a run cost: CPU and memory of each process from /proc, and whether somebody else used the machine meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
CORES: Final = os.cpu_count() or 1

FOREIGN_MAX: Final = 0.10
"""A run during which others used more than this share of one core is marked as disturbed."""
STOLEN_MAX: Final = 0.05
"""And one during which the hypervisor gave more than this share of one core to other machines."""


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, in seconds (its dead children are not in it)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that lies in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _machine_s() -> tuple[float, float]:
    """Seconds of CPU that the machine spent so far, and those that were stolen from it."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / _TICKS, steal / _TICKS


@dataclass(frozen=True)
class Run:
    """One repetition: how much was done, in what time, at whose cost."""

    done: int
    """Units of work: deliveries, commands, rows."""
    wall_s: float
    cpu_s: dict[str, float]
    """By process, in seconds."""
    resident_bytes: dict[str, int]
    """By process, at the end."""
    disturbed: str = ""
    """Who else used the machine; empty when nobody did."""
    values: dict[str, float] = field(default_factory=dict)
    """What else was measured: `p50_ms` and the like."""

    def us(self, *processes: str) -> float:
        """Microseconds of CPU per unit of work: of these processes, or of all but the load generator."""
        named = processes or tuple(
            name for name in self.cpu_s if name not in GENERATORS and not name.startswith("idle-")
        )
        return sum(self.cpu_s[name] for name in named) / max(1, self.done) * 1e6

    @property
    def per_s(self) -> float:
        """Units of work per second of wall time."""
        return self.done / self.wall_s

    def core(self, process: str) -> float:
        """Share of one core that a process used."""
        return self.cpu_s[process] / self.wall_s


GENERATORS: Final = ("generator", "bench")


class Meter:
    """Measures from its making to `stop`."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        """`processes`: name -> pid. The process that measures is added as `bench`."""
        self._processes = {**processes, "bench": os.getpid()}
        self._before = {name: cpu_s(pid) for name, pid in self._processes.items()}
        self._machine = _machine_s()
        self._ended_s = 0.0
        self._started = time.perf_counter()

    def ended(self, cpu_s: float) -> None:
        """A process of ours began and ended since this meter was made: its CPU is nobody else's disturbance."""
        self._ended_s += cpu_s

    def stop(self, done: int, **values: float) -> Run:
        """The run, of which `done` units came."""
        wall_s = time.perf_counter() - self._started
        used = {name: cpu_s(pid) - self._before[name] for name, pid in self._processes.items()}
        busy, stolen = (now - before for now, before in zip(_machine_s(), self._machine, strict=True))
        foreign = (busy - sum(used.values()) - self._ended_s) / wall_s
        resident = {name: resident_bytes(pid) for name, pid in self._processes.items()}
        disturbed = ""
        if stolen / wall_s > STOLEN_MAX:
            disturbed = f"{stolen / wall_s:.0%} of a core was stolen"
        elif foreign > FOREIGN_MAX:
            disturbed = f"others used {foreign:.0%} of a core"
        return Run(done, wall_s, used, resident, disturbed, values)
