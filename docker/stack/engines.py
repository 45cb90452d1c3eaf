"""How the local engines are started: configuration files rendered into the data folder, then one command each."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from string import Template

from chat.settings import (
    CASSANDRA_JMX_PORT,
    CASSANDRA_PORT,
    CASSANDRA_STORAGE_PORT,
    KAFKA_CONTROLLER_PORT,
    KAFKA_PORT,
    REDIS_PORT,
    Settings,
)
from stack import jars, needs, probes
from stack.errors import StackError
from stack.layout import ENGINES, Layout
from stack.oneshot import run_logged
from stack.plan import local_engines
from stack.progress import Progress
from stack.watched import Service

HOST = "127.0.0.1"

Prepare = Callable[[Settings, Layout, Progress], Awaitable[Service]]


async def kafka(settings: Settings, layout: Layout, progress: Progress, *, cluster_id: str = "") -> Service:
    """Kafka, one KRaft node; its storage is formatted when the data folder is new (for `cluster_id`, or a new one)."""
    port = settings.engine_port_base + KAFKA_PORT
    home = _home(layout, "kafka")
    data = home / "data"
    config = home / "server.properties"
    values = {"kafka_port": port, "controller_port": settings.engine_port_base + KAFKA_CONTROLLER_PORT, "data": data}
    # Of a property that stands twice the last counts: a file of the operator's, kept over restarts, has the last word.
    extra = home / "extra.properties"
    last_word = "\n" + extra.read_text() if extra.exists() else ""
    config.write_text(_render("kafka", ("server.properties", "local.properties"), values) + last_word)
    lib = await jars.fetch("kafka", layout, progress)
    command = [_java(), f"@{ENGINES / 'kafka' / 'jvm.options'}", "-cp", f"{lib}/*"]
    if not (data / "meta.properties").exists():
        cluster = cluster_id or base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", str(config)]
        async with progress.step("kafka", "formatting its storage", "storage formatted"):
            await run_logged("kafka-format", [*command, *tool], layout)
    return Service(
        name="kafka",
        argv=(*command, "kafka.Kafka", str(config)),
        env={},
        probe=partial(probes.kafka, HOST, port),
        address=f"{HOST}:{port}",
        ready_within_s=90,
        stop_within_s=30,
        cwd=home,
    )


async def cassandra(settings: Settings, layout: Layout, progress: Progress) -> Service:
    """Cassandra, one node. SIGTERM makes it drain: nothing is replayed at the next start."""
    port = settings.engine_port_base + CASSANDRA_PORT
    home = _home(layout, "cassandra")
    config = home / "cassandra.yaml"
    values = {"cassandra_port": port, "storage_port": settings.engine_port_base + CASSANDRA_STORAGE_PORT}
    config.write_text(_render("cassandra", ("cassandra.yaml", "local.yaml"), values))
    lib = await jars.fetch("cassandra", layout, progress)
    agent = next(lib.glob("jamm-*.jar"))
    return Service(
        name="cassandra",
        argv=(
            _java(),
            f"-javaagent:{agent}",
            f"@{ENGINES / 'cassandra' / 'jvm.options'}",
            f"-Dcassandra.config={config.as_uri()}",
            f"-Dcassandra.storagedir={home}",
            f"-Dcassandra.jmx.local.port={settings.engine_port_base + CASSANDRA_JMX_PORT}",
            f"-Dlogback.configurationFile={ENGINES / 'cassandra' / 'logback.xml'}",
            "-cp",
            f"{lib}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ),
        env={},
        probe=partial(probes.cassandra, HOST, port),
        address=f"{HOST}:{port}",
        ready_within_s=180,
        stop_within_s=60,
        cwd=home,
    )


async def redis(settings: Settings, layout: Layout, progress: Progress) -> Service:
    """Redis; it keeps nothing over a restart, the projector fills it again."""
    del progress
    port = settings.engine_port_base + REDIS_PORT
    home = _home(layout, "redis")
    program = shutil.which("redis-server")
    assert program, "needs.provide found it"
    return Service(
        name="redis",
        argv=(program, str(ENGINES / "redis" / "redis.conf"), "--bind", HOST, "--port", str(port), "--dir", str(home)),
        env={},
        probe=partial(probes.redis, HOST, port),
        address=f"{HOST}:{port}",
        ready_within_s=20,
        stop_within_s=10,
        cwd=home,
    )


ENGINES_LOCAL: dict[str, Prepare] = {"kafka": kafka, "cassandra": cassandra, "redis": redis}


def programs_needed(settings: Settings) -> dict[str, int]:
    """What must be installed for the engines that this stack starts, as `needs.provide` takes it."""
    programs: dict[str, int] = {}
    for engine in local_engines(settings):
        if engine == "redis":
            programs["redis-server"] = 0
        else:
            programs["java"] = needs.JAVA
            if not jars.folder(engine).is_dir():
                programs["mvn"] = 0
    return programs


async def check_external(settings: Settings) -> None:
    """`StackError` when an engine that should already be there does not answer."""
    given = [
        ("KAFKA", settings.kafka, probes.kafka, [_split(server) for server in settings.kafka_servers]),
        ("CASSANDRA", settings.cassandra, probes.cassandra, settings.cassandra_nodes),
        ("REDIS", settings.redis, probes.redis, [settings.redis_address]),
    ]
    for name, address, probe, nodes in given:
        if address and not any([await probe(host, port) for host, port in nodes]):
            raise StackError(
                f"ROOMLOG_{name}={address}: no {name.title()} answers there; start it, or leave the variable empty "
                "to have one started here"
            )


def _split(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host, int(port)


def _home(layout: Layout, engine: str) -> Path:
    home = layout.data / engine
    home.mkdir(parents=True, exist_ok=True)
    return home


def _java() -> str:
    found = needs.java()
    assert found, "needs.provide found it"
    return found


def _render(engine: str, names: tuple[str, ...], values: Mapping[str, object]) -> str:
    parts = [(ENGINES / engine / name).read_text() for name in names]
    return Template("\n".join(parts)).substitute(values)
