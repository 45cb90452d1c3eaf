"""The rows of the benchmark, in the order in which they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.bench.bench import Bench
from tests.bench.rows import connections, curves, fanout, inbound, log, readers, rooms, soak, stores


@dataclass(frozen=True)
class Row:
    """One row: a name to ask for it by, what it measures, and how."""

    name: str
    measure: Callable[[Bench], Awaitable[None]]
    in_quick: bool = False
    is_long: bool = False

    @property
    def about(self) -> str:
        """First line of its docstring."""
        return (self.measure.__doc__ or "").strip().split("\n")[0]


ROWS: list[Row] = [
    Row("fan-out", fanout.paced, in_quick=True),
    Row("fan-out-saturated", fanout.saturated),
    Row("inbound", inbound.inbound, in_quick=True),
    Row("latency", rooms.latency),
    Row("sequencer", log.sequencer, in_quick=True),
    Row("sequencer-trickle", log.trickle),
    Row("skim", log.skim, in_quick=True),
    Row("archiver", stores.archiver, in_quick=True),
    Row("archiver-lag", stores.archiver_lag),
    Row("archiver-catch-up", readers.archiver),
    Row("projector", readers.projector),
    Row("history", stores.history_, in_quick=True),
    Row("connects", connections.connects),
    Row("memory", connections.memory),
    Row("idle", connections.idle),
    Row("restart", connections.restart),
    Row("slow-readers", connections.slow_readers),
    Row("catch-up", connections.catch_up),
    Row("rooms-of-ten", rooms.rooms_of_ten),
    Row("direct", rooms.direct),
    Row("verify", log.verify, is_long=True),
    Row("curve-rooms", curves.rooms, is_long=True),
    Row("curve-subscribers", curves.subscribers, is_long=True),
    Row("curve-members", curves.members, is_long=True),
    Row("curve-joins", curves.joins, is_long=True),
    Row("curve-sizes", curves.sizes, is_long=True),
    Row("curve-partitions", curves.partitions, is_long=True),
    Row("curve-workers", curves.workers, is_long=True),
    Row("curve-depth", curves.depth, is_long=True),
    Row("soak", soak.soak, is_long=True),
    Row("soak-idle", soak.soak_idle, is_long=True),
]
