"""What should run: which engines are ours to start, how many workers of each role, on which ports.

Pure: from the settings and the environment to values. Names are what a person sees in run/, log/ and `make status`:
`gateway`, `gateway-2`, `kafka`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from chat.settings import (
    CASSANDRA_JMX_PORT,
    CASSANDRA_PORT,
    CASSANDRA_STORAGE_PORT,
    KAFKA_CONTROLLER_PORT,
    KAFKA_PORT,
    REDIS_PORT,
    ROLE_PORT,
    Settings,
)
from stack.errors import StackError

WORKERS_MAX = 20
"""Workers of one role: their ports must not run into the next role's (`ROLE_PORT`)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many workers of each role."""

    gateway: int = 1
    sequencer: int = 1
    archiver: int = 1
    projector: int = 1

    @classmethod
    def none(cls) -> Counts:
        """Engines only."""
        return cls(0, 0, 0, 0)

    def changed(self, environ: Mapping[str, str]) -> Counts:
        """These counts, with those that the environment names: GATEWAYS, SEQUENCERS, ARCHIVERS, PROJECTORS."""
        return replace(self, **counts_named(environ))

    def of(self, role: str) -> int:
        """Workers of `role`."""
        count: int = getattr(self, role)
        return count

    def as_dict(self) -> dict[str, int]:
        """Role to number, for JSON."""
        return asdict(self)


def counts_named(environ: Mapping[str, str]) -> dict[str, int]:
    """The numbers of workers that the environment names, by role."""
    named = {}
    for role in ROLE_PORT:
        variable = f"{role.upper()}S"
        raw = environ.get(variable, "").strip()
        low = 1 if role == "gateway" else 0
        if raw:
            if not raw.isdigit() or not low <= int(raw) <= WORKERS_MAX:
                raise StackError(f"{variable}={raw}: must be a number from {low} to {WORKERS_MAX}")
            named[role] = int(raw)
    return named


def counts_from(value: Mapping[str, Any]) -> Counts:
    """Counts from JSON that `Counts.as_dict` wrote."""
    return Counts(**{role: int(value[role]) for role in ROLE_PORT})


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: its name, role and the port of its web side."""

    name: str
    role: str
    port: int


def workers(settings: Settings, counts: Counts) -> Iterator[Worker]:
    """The workers of `counts`, in order."""
    for role, offset in ROLE_PORT.items():
        for index in range(counts.of(role)):
            name = role if index == 0 else f"{role}-{index + 1}"
            yield Worker(name, role, settings.web_port + offset + index)


def local_engines(settings: Settings) -> tuple[str, ...]:
    """The engines that this stack starts: those whose address nobody gave."""
    given = {"kafka": settings.kafka, "cassandra": settings.cassandra, "redis": settings.redis}
    return tuple(name for name, address in given.items() if not address)


def ports(settings: Settings, counts: Counts) -> dict[int, tuple[str, str]]:
    """Every port that this stack binds: whose it is, and the variable that moves it."""
    base = settings.engine_port_base
    of_engine = {
        "kafka": (KAFKA_PORT, KAFKA_CONTROLLER_PORT),
        "cassandra": (CASSANDRA_PORT, CASSANDRA_STORAGE_PORT, CASSANDRA_JMX_PORT),
        "redis": (REDIS_PORT,),
    }
    found: dict[int, tuple[str, str]] = {}
    wanted = [
        (base + offset, engine, "ROOMLOG_ENGINE_PORT_BASE")
        for engine in local_engines(settings)
        for offset in of_engine[engine]
    ]
    wanted += [(worker.port, worker.name, "ROOMLOG_WEB_PORT") for worker in workers(settings, counts)]
    for port, name, variable in wanted:
        if port in found:
            raise StackError(f"port {port} is both {found[port][0]}'s and {name}'s; move one with {variable}")
        if port > 65535:
            raise StackError(f"{name} would need port {port}; lower {variable}")
        found[port] = (name, variable)
    return found
