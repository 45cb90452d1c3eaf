"""Roomlog as an operator has it: the local stack with its supervisor, and the means to hurt it.

What restarts here restarts as it does for users: by the product's supervisor, in the product's time. The harness only
sends signals, asks `make scale`'s code for other numbers of workers, changes the environment of single processes
(run/NAME.env, read at each of their starts), and stands between chosen workers and the engines with TCP proxies.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import orjson

from chat import settings as roomlog_settings
from chat.settings import CASSANDRA_PORT, KAFKA_PORT, REDIS_PORT, ROLE_PORT, Settings
from stack import probes
from tests.engines import ENGINES, ROOT, Stack, free_ports
from tests.faults.disks import Disk
from tests.forwarder import Forwarder

READY_S = 240.0
"""A killed Cassandra replays its commit log before it answers."""
SCALE_S = 150.0
POLL_S = 0.05

_REBALANCE = re.compile(r"Preparing to rebalance group")


class System:
    """One running stack. Use as `async with`."""

    def __init__(
        self,
        data: Path,
        counts: dict[str, int],
        *,
        namespace: str = "faults",
        partitions: int = 8,
        linked: Iterable[str] = (),
        disks: Mapping[str, int] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`counts` workers by role; those named in `linked` reach the engines through `links`.

        `disks` gives engines disks of their own, of so many bytes; `environ` is what else the stack is told.
        """
        self.counts = dict(counts)
        self._linked = set(linked)
        told = {
            "ROOMLOG_PARTITIONS": str(partitions),
            # So that clients notice a gateway that stands still within seconds.
            "ROOMLOG_HEART_BEAT_MS": "2000",
            **{f"{role.upper()}S": str(count) for role, count in counts.items()},
            **(environ or {}),
        }
        self.stack = Stack(data, free_ports(6), free_ports(80), namespace, told)
        self.disks = {engine: Disk(data / engine, size) for engine, size in (disks or {}).items()}
        self.links = {
            engine: Forwarder(f"127.0.0.1:{self.stack.engine_port_base + port}")
            for engine, port in (("cassandra", CASSANDRA_PORT), ("redis", REDIS_PORT))
        }
        # A Kafka client goes where the broker says that it is: the link has a listener of its own, which says "here".
        listener = free_ports()
        self.links["kafka"] = Forwarder(f"127.0.0.1:{listener}")
        self._kafka_listener = listener

    @property
    def data(self) -> Path:
        """The stack's folder."""
        return self.stack.data

    @property
    def settings(self) -> Settings:
        """As a worker of this stack has them."""
        return roomlog_settings.load(self.stack.environment)

    async def __aenter__(self) -> Self:
        await self.prepare()
        for link in self.links.values():
            await link.on()
        (self.data / "run").mkdir(parents=True, exist_ok=True)
        for name in self._linked:
            self.plain(name)
        await asyncio.to_thread(self.stack.up)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in self.names():
            self.send(name, signal.SIGCONT)
        await asyncio.to_thread(self.stack.command, "down")
        for link in self.links.values():
            await link.off()
        await self.clear_away()

    async def prepare(self) -> None:
        """What has to be there before the stack is started."""
        for disk in self.disks.values():
            disk.mount()
        self._write_kafka_listener()

    async def clear_away(self) -> None:
        """Undo `prepare`, once the stack is down."""
        for disk in self.disks.values():
            disk.unmount()

    def _write_kafka_listener(self) -> None:
        base = self.stack.engine_port_base
        kafka, controller = base + KAFKA_PORT, base + KAFKA_PORT + 1
        home = self.data / "kafka"
        home.mkdir(parents=True, exist_ok=True)
        (home / "extra.properties").write_text(
            f"listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller},"
            f"LINK://127.0.0.1:{self._kafka_listener}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{kafka},LINK://{self.links['kafka'].address}\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT\n"
            "inter.broker.listener.name=PLAINTEXT\n"
            "log.retention.check.interval.ms=5000\n"
        )

    # ------------------------------------------------------------ who is there

    def workers(self, role: str | None = None) -> list[str]:
        """Names of the workers that should run, of one role or of all."""
        return [
            each if index == 0 else f"{each}-{index + 1}"
            for each in ROLE_PORT
            if role in (None, each)
            for index in range(self.counts.get(each, 1))
        ]

    def names(self) -> list[str]:
        """Names of all processes that should run."""
        return [*(name for engine in ENGINES for name in self.nodes(engine)), *self.workers()]

    def nodes(self, engine: str) -> list[str]:
        """Names of an engine's processes: here there is one, of the engine's name."""
        return [engine]

    def gateways(self) -> list[str]:
        """WebSocket addresses of the gateways."""
        return [f"ws://127.0.0.1:{self.port(name)}/ws" for name in self.workers("gateway")]

    def port(self, worker: str) -> int:
        """Port of a worker's web side."""
        role, _, number = worker.partition("-")
        return self.stack.web_port + ROLE_PORT[role] + (int(number) - 1 if number else 0)

    def pid(self, name: str) -> int | None:
        """Process id, or None while there is no process."""
        try:
            return self.stack.pid(name)
        except (FileNotFoundError, ValueError):
            return None

    # ------------------------------------------------------------ what can be done to it

    def send(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to a process of the stack; the process id that got it."""
        pid = self.pid(name)
        if pid is None:
            return None
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    async def until_restarted(self, name: str, before: int | None, within_s: float = 60.0) -> None:
        """Wait until `name` is another process than `before`."""
        await self._until(lambda: self.pid(name) not in (before, None), f"{name} has a new process", within_s)

    async def until_ready(self, names: Iterable[str] | None = None, within_s: float = READY_S) -> None:
        """Wait until each of these (default: all engines and workers) says that it is ready."""
        deadline = time.monotonic() + within_s
        waiting = list(self.names() if names is None else names)
        while waiting:
            states = await asyncio.gather(*(self._is_ready(name) for name in waiting))
            waiting = [name for name, ready in zip(waiting, states, strict=True) if not ready]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {within_s:.0f} s: {', '.join(waiting)}")
            await asyncio.sleep(POLL_S)

    async def _is_ready(self, name: str) -> bool:
        base = self.stack.engine_port_base
        match name:
            case "kafka":
                return await probes.kafka("127.0.0.1", base + KAFKA_PORT)
            case "cassandra":
                return await probes.cassandra("127.0.0.1", base + CASSANDRA_PORT)
            case "redis":
                return await probes.redis("127.0.0.1", base + REDIS_PORT)
            case worker:
                return await probes.worker("127.0.0.1", self.port(worker))

    async def scale(self, **counts: int) -> None:
        """Other numbers of workers, as `make scale` does it; returns when they are there."""
        # Clients leave for the gateways that stay; new ones are named when they answer.
        self.counts |= {role: min(count, self.counts[role]) for role, count in counts.items()}
        environ = {f"{role.upper()}S": str(count) for role, count in counts.items()}
        failed = await self._command("scale", environ)
        # It counts those that are not ready as a failure; whoever waits for them asks `until_ready`.
        if failed and "NOT READY" not in failed:
            raise RuntimeError(f"scale {counts}: {failed}")
        self.counts |= counts

    async def _command(self, name: str, environ: dict[str, str]) -> str:
        """Run a command of the stack; what it printed if it failed."""
        plain = {k: v for k, v in self.stack.environment.items() if k not in {f"{r.upper()}S" for r in ROLE_PORT}}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "docker" / "stack"),
            name,
            env={**plain, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SCALE_S):
            output, _ = await process.communicate()
        return output.decode() if process.returncode else ""

    def override(self, name: str, **environ: str) -> None:
        """Environment that `name` gets from its next start on, until `plain`."""
        path = self.data / "run" / f"{name}.env"
        links = {f"ROOMLOG_{engine.upper()}": link.address for engine, link in self.links.items()}
        values = {**(links if name in self._linked else {}), **environ}
        path.write_text("".join(f"{variable}={value}\n" for variable, value in values.items()))

    def plain(self, name: str) -> None:
        """From its next start on `name` is as it was at first."""
        self.override(name)

    async def restart(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a process; returns when the supervisor has started it again."""
        await self.until_restarted(name, self.send(name, number))

    async def redis(self, *command: str) -> None:
        """One command to Redis."""
        host, port = self.settings.redis_address
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(" ".join(command).encode() + b"\r\n")
        await reader.readline()
        writer.close()

    # ------------------------------------------------------------ what it says about itself

    def rebalances(self) -> int:
        """How often a consumer group has begun to rebalance, by the broker's log."""
        return count_rebalances(self.data / "log", "kafka.log*")

    def restarts(self) -> dict[str, int]:
        """How often the supervisor has started each process again."""
        try:
            state = orjson.loads((self.data / "run" / "state.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return {name: service["restarts"] for name, service in state.get("services", {}).items()}

    def remove(self) -> None:
        """Delete engines' data and the like; logs stay."""
        for part in ("kafka", "cassandra", "redis", "faust", "run"):
            shutil.rmtree(self.data / part, ignore_errors=True)

    async def _until(self, check: Callable[[], bool], what: str, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not check():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within_s:.0f} s: {what}")
            await asyncio.sleep(0.01)


def count_rebalances(folder: Path, pattern: str) -> int:
    """How often brokers with these logs have begun to rebalance a group."""
    return sum(len(_REBALANCE.findall(path.read_text(errors="replace"))) for path in folder.glob(pattern))
