"""Real engines and real workers for tests.

Engines are those whose addresses the environment gives (ROOMLOG_KAFKA, ROOMLOG_CASSANDRA, ROOMLOG_REDIS); those that it
does not give are started on free ports by the same code as `make run` (docker/stack), and stopped at the end, also when
the test run is killed. Workers are processes of `faust -A app worker`, as in production.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chat import settings as roomlog_settings
from chat.log.topics import admin_client, create_topics
from chat.settings import CASSANDRA_PORT, KAFKA_PORT, REDIS_PORT, Settings
from chat.stores.cassandra import migrations

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("kafka", "cassandra", "redis")
PARTITIONS = 4
READY_S = 60.0
STOP_S = 30.0

# Below the range from which the kernel takes ports for outgoing connections: what is free now is free in a second. Each
# process of a run (pytest-xdist: gw0, gw1 ...) has a range of its own; two runs at once begin at different places of it.
_PORTS = 4_000
_FIRST_PORT = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 3 * _PORTS
_LAST_PORT = _FIRST_PORT + _PORTS
_next_port = itertools.count(_FIRST_PORT + os.getpid() * 131 % (_PORTS // 4))


# ---------------------------------------------------------------- waiting


async def eventually(
    check: Callable[[], Any | Awaitable[Any]], what: str, within_s: float = 15.0, every_s: float = 0.02
) -> Any:
    """The first true result of `check()`; fails with `what` after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        result = check()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        await asyncio.sleep(every_s)


def eventually_sync(check: Callable[[], Any], what: str, within_s: float = 15.0, every_s: float = 0.02) -> Any:
    """As `eventually`, for tests and fixtures without a loop."""
    deadline = time.monotonic() + within_s
    while not (result := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(every_s)
    return result


# ---------------------------------------------------------------- ports


def free_ports(count: int = 1) -> int:
    """The first of `count` ports in a row that nobody listens on, and that this run has not given out before."""
    for _ in range(10_000):
        first = next(_next_port)
        if first + count > _LAST_PORT:
            raise AssertionError("out of ports")
        if all(_is_free(port) for port in range(first, first + count)):
            for _ in range(count - 1):
                next(_next_port)
            return first
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# ---------------------------------------------------------------- a stack, as a person drives it


@dataclass
class Stack:
    """A copy of Roomlog's local stack with a data folder and ports of its own."""

    data: Path
    engine_port_base: int
    web_port: int
    namespace: str = "roomlog"
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of its commands."""
        return clean_environment() | {
            "ROOMLOG_DATA_DIR": str(self.data),
            "ROOMLOG_ENGINE_PORT_BASE": str(self.engine_port_base),
            "ROOMLOG_WEB_PORT": str(self.web_port),
            "ROOMLOG_NAMESPACE": self.namespace,
            **self.environ,
        }

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one command (`up`, `down`, `status` ...) to its end."""
        return subprocess.run(
            [sys.executable, str(ROOT / "docker" / "stack"), *arguments],
            env=self.environment | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def up(self, *arguments: str, **environ: str) -> None:
        """Start it; fails with what it printed when that fails."""
        done = self.command("up", "--while", str(os.getpid()), *arguments, **environ)
        assert done.returncode == 0, f"the stack does not start:\n{done.stdout}{done.stderr}"

    def down(self) -> None:
        """Stop it."""
        done = self.command("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def pid(self, name: str) -> int:
        """Process id of a running process of the stack."""
        return int((self.data / "run" / f"{name}.pid").read_text())

    def kill9(self, name: str) -> int:
        """Kill a process; the stack starts it again. Returns the id that it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def log(self, name: str) -> str:
        """All that a process wrote."""
        return (self.data / "log" / f"{name}.log").read_text(errors="replace")


# ---------------------------------------------------------------- engines


@dataclass
class Engines:
    """Where the engines answer; `stack` owns those that were started here."""

    kafka: str
    cassandra: str
    redis: str
    stack: Stack | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The addresses as Roomlog reads them."""
        return {"ROOMLOG_KAFKA": self.kafka, "ROOMLOG_CASSANDRA": self.cassandra, "ROOMLOG_REDIS": self.redis}

    def kill9(self, name: str) -> None:
        """Kill an engine of our own; it is started again at once."""
        assert self.stack, "only engines that the tests started are killed"
        self.stack.kill9(name)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Stop an engine of our own from running, without ending it, for the body of the `with`."""
        assert self.stack, "only engines that the tests started are paused"
        pid = self.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def running_engines(*, always_own: bool = False) -> Iterator[Engines]:
    """Engines from the environment where it names them, of our own where it does not (or `always_own`)."""
    given = {} if always_own else {name: os.environ.get(f"ROOMLOG_{name.upper()}", "") for name in ENGINES}
    if all(given.get(name) for name in ENGINES):
        yield Engines(**given)
        return
    base = free_ports(6)
    local = {"kafka": KAFKA_PORT, "cassandra": CASSANDRA_PORT, "redis": REDIS_PORT}
    addresses = {name: given.get(name) or f"127.0.0.1:{base + local[name]}" for name in ENGINES}
    data = Path(tempfile.mkdtemp(prefix="roomlog-engines-"))
    external = {f"ROOMLOG_{name.upper()}": address for name, address in given.items() if address}
    stack = Stack(data, base, free_ports(), environ=external)
    try:
        stack.up("--engines-only")
        yield Engines(**addresses, stack=stack)
    finally:
        stack.down()
        shutil.rmtree(data, ignore_errors=True)


# ---------------------------------------------------------------- a namespace of one's own


def clean_environment() -> dict[str, str]:
    """Our environment without settings of Roomlog that the developer has."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROOMLOG_")}


_keyspaces: set[str] = set()
_with_topics: set[str] = set()
"""Namespaces that have a keyspace, and those that have topics."""


@dataclass(frozen=True)
class Namespace:
    """Topics, keyspace and keys that nobody else uses."""

    engines: Engines
    name: str
    data: Path
    partitions: int = PARTITIONS

    def environment(self, **changed: Any) -> dict[str, str]:
        """What a process of this namespace gets; `changed` are settings by name: `outbox_bytes_max=65536`."""
        known = {f.name for f in fields(Settings)}
        assert changed.keys() <= known, f"no such setting: {changed.keys() - known}"
        return {
            **self.engines.environment,
            "ROOMLOG_NAMESPACE": self.name,
            "ROOMLOG_DATA_DIR": str(self.data),
            "ROOMLOG_PARTITIONS": str(self.partitions),
            **{f"ROOMLOG_{name.upper()}": str(value) for name, value in changed.items()},
        }

    def settings(self, **changed: Any) -> Settings:
        """The settings of such a process."""
        return roomlog_settings.load(self.environment(**changed))

    def make_topics(self) -> None:
        """What `faust -A app topics` does."""
        _with_topics.add(self.name)
        in_thread(create_topics(self.settings()))

    def make_keyspace(self) -> None:
        """What `faust -A app migrate` does."""
        _keyspaces.add(self.name)
        migrations.migrate(self.settings(), wait_s=READY_S, say=lambda _: None)

    def drop(self) -> None:
        """Undo all of it: a keyspace costs Cassandra some MB of its heap, and a hundred of them end it; a broker with
        the partitions of a hundred tests takes twenty seconds to come back, and some to lead them after a pause."""
        if self.name in _with_topics:
            _with_topics.discard(self.name)
            in_thread(_delete_topics(self.settings()))
        if self.name in _keyspaces:
            _keyspaces.discard(self.name)
            migrations.drop(self.settings())


async def _delete_topics(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        # With those that Faust made for itself.
        ours = [name for name in await admin.list_topics() if name.startswith(settings.topic(""))]
        await admin.delete_topics(ours)


def in_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, run on a loop of its own: for fixtures, which may not touch the test's loop."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (raised again below, in the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


# ---------------------------------------------------------------- workers


class Worker:
    """One process of `faust -A app worker`."""

    def __init__(self, name: str, role: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.role = role
        self.port = free_ports()
        self.log_path = log
        self._environment = {
            **clean_environment(),
            **environment,
            "ROOMLOG_ROLE": role,
            "ROOMLOG_INSTANCE": name,
            "ROOMLOG_WEB_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }
        self.program = [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info"]
        """What `spawn` runs."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its web side answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """Address of its WebSocket, on a gateway."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process, f"{self.name} was not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that it wrote, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def spawn(self) -> None:
        """Start the process and do not wait."""
        assert not self.alive, f"{self.name} runs already"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.program,
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self, within_s: float = READY_S) -> None:
        """Start the process and wait until it says that it is ready."""
        self.spawn()
        await self.ready(within_s)

    async def ready(self, within_s: float = READY_S) -> None:
        """Wait for `/readyz`; fails at once when the process ends."""
        deadline = time.monotonic() + within_s
        while not await asyncio.to_thread(self.is_ready):
            assert self.alive, f"{self.name} ended while it started:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready after {within_s} s:\n{self.tail()}"
            await asyncio.sleep(0.03)

    def is_ready(self) -> bool:
        """What `/readyz` says now."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill9(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    async def sigterm(self) -> int:
        """SIGTERM; returns the exit status when the process has ended."""
        assert self._process, f"{self.name} was not started"
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, STOP_S)

    def pause(self) -> None:
        """SIGSTOP: it stands still and keeps everything that it has."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Kill -9 if it runs, start again with the same name and port, wait until it is ready."""
        self.kill9()
        await self.start()

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log().splitlines()[-lines:])


class Workers:
    """Starts workers of one namespace: `gateway = await workers("gateway")`."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.all: list[Worker] = []
        self._has_keyspace = False

    async def __call__(self, role: str, *, start: bool = True, **changed: Any) -> Worker:
        """A worker of `role`, ready (`start=False`: made, not started); `changed` are settings by name."""
        count = sum(worker.role == role for worker in self.all)
        name = role if count == 0 else f"{role}-{count + 1}"
        if role != "sequencer" and not self._has_keyspace:
            # A keyspace costs seconds: made when somebody comes who reads or writes it.
            self._has_keyspace = True
            await asyncio.to_thread(self.namespace.make_keyspace)
        worker = Worker(name, role, self.namespace.environment(**changed), self.namespace.data / "log" / f"{name}.log")
        self.all.append(worker)
        if start:
            await worker.start()
        return worker

    async def together(self, *roles: str, **changed: Any) -> list[Worker]:
        """One worker of each of `roles`, started side by side, all ready."""
        made = [await self(role, start=False, **changed) for role in roles]
        await asyncio.gather(*(worker.start() for worker in made))
        return made

    def kill(self) -> None:
        """End them all."""
        for worker in self.all:
            worker.kill9()
