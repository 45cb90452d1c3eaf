"""Three brokers and three nodes of Cassandra, kept alive as the product's supervisor keeps its one of each.

They are started by the code of `docker/stack` from the files in `docker/engines`, with the values changed that a
cluster has to change. Every one is a process of the harness, on loopback: brokers by port, Cassandra's nodes by address
(a driver takes one port for all). None outlives the harness, even one that is killed.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from cassandra import DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy

from chat.settings import CASSANDRA_PORT, CASSANDRA_STORAGE_PORT, KAFKA_CONTROLLER_PORT, KAFKA_PORT, Settings
from stack import engines, probes
from stack.layout import Layout
from stack.progress import Progress
from stack.watched import Service, Watched
from tests.engines import free_ports
from tests.faults.disks import Disk
from tests.faults.system import System, count_rebalances

NODES: Final = 3
START_S: Final = 300.0
"""Six engines share the machine's cores while they start."""
IN_SYNC_S: Final = 90.0
POLL_S: Final = 0.2

_EXTRA = """\
node.id={node}
controller.quorum.voters={voters}
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
"""


class EngineCluster:
    """The six of them: `kafka-1` to `kafka-3`, `cassandra-1` to `cassandra-3`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.brokers = [f"kafka-{n}" for n in range(1, NODES + 1)]
        self.nodes = [f"cassandra-{n}" for n in range(1, NODES + 1)]
        self._layout = Layout(data)
        self._progress = Progress()
        self._bases = [free_ports(6) for _ in range(NODES)]
        self._hosts = [f"127.0.0.{n}" for n in range(1, NODES + 1)]
        self._services: dict[str, Service] = {}
        self._watched: dict[str, Watched] = {}
        self._ended: dict[str, int] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What workers have to know."""
        return {
            "ROOMLOG_KAFKA": ",".join(self.kafka_servers),
            "ROOMLOG_REPLICATION": "3",
            "ROOMLOG_MIN_INSYNC_REPLICAS": "2",
            "ROOMLOG_CASSANDRA": ",".join(f"{host}:{self._cql_port}" for host in self._hosts),
            "ROOMLOG_CASSANDRA_REPLICATION": "3",
        }

    @property
    def kafka_servers(self) -> list[str]:
        """All brokers, as `host:port`."""
        return [f"127.0.0.1:{base + KAFKA_PORT}" for base in self._bases]

    @property
    def _cql_port(self) -> int:
        return self._bases[0] + CASSANDRA_PORT

    def home(self, name: str) -> Path:
        """The folder that holds what `name` stores."""
        return self.data / name / name.partition("-")[0]

    # ------------------------------------------------------------ as a whole

    async def start(self) -> None:
        """Return when all answer and know of each other."""
        self._layout.make()
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        services = await asyncio.gather(
            *(self._broker(index, cluster_id) for index in range(NODES)), *(self._node(index) for index in range(NODES))
        )
        for service in services:
            # The kernel ends it when the harness is gone, however that went.
            argv = ("setpriv", "--pdeathsig", "KILL", "--", *service.argv)
            self._services[service.name] = replace(service, argv=argv, ready_within_s=START_S)
        async with self._progress.step("cluster", "starting 3 brokers and 3 nodes", "ready"):
            for name in self._services:
                self.up(name)
            await asyncio.gather(*(watched.ready() for watched in self._watched.values()))
            await _until(self._brokers_registered, "three brokers are registered", START_S)
            await _until(self._nodes_joined, "three nodes of Cassandra know of each other", START_S)

    async def stop(self) -> None:
        """End all, in peace."""
        await asyncio.gather(*(watched.stop() for watched in self._watched.values()))

    # ------------------------------------------------------------ one of them

    def pid(self, name: str) -> int | None:
        """Process id, or None while there is no process."""
        watched = self._watched.get(name)
        return None if watched is None else watched.pid

    async def is_ready(self, name: str) -> bool:
        """True when it answers."""
        return name in self._watched and await self._services[name].probe()

    def up(self, name: str) -> None:
        """Start it (again) and keep it alive. Harmless when it is kept alive already."""
        if name not in self._watched:
            self._watched[name] = Watched(self._services[name], self._layout, self._progress.say)

    async def down(self, name: str) -> None:
        """SIGKILL, and nobody starts it again until `up`."""
        watched = self._watched.pop(name)
        self._ended[name] = self._ended.get(name, 0) + watched.restarts + 1
        stopping = asyncio.create_task(watched.stop())
        await asyncio.sleep(0)  # its keeper is told before it sees the death
        watched.kill()
        await stopping

    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return {
            name: self._ended.get(name, 0) + (self._watched[name].restarts if name in self._watched else 0)
            for name in self._services
        }

    # ------------------------------------------------------------ how they are started

    async def _broker(self, index: int, cluster_id: str) -> Service:
        name = self.brokers[index]
        layout = Layout(self.data / name)
        layout.make()
        voters = ",".join(f"{n}@127.0.0.1:{base + KAFKA_CONTROLLER_PORT}" for n, base in enumerate(self._bases, 1))
        home = self.home(name)
        home.mkdir(parents=True, exist_ok=True)
        (home / "extra.properties").write_text(_EXTRA.format(node=index + 1, voters=voters))
        settings = Settings(engine_port_base=self._bases[index])
        service = await engines.kafka(settings, layout, self._progress, cluster_id=cluster_id)
        return replace(service, name=name)

    async def _node(self, index: int) -> Service:
        name, host = self.nodes[index], self._hosts[index]
        layout = Layout(self.data / name)
        layout.make()
        service = await engines.cassandra(Settings(engine_port_base=self._bases[index]), layout, self._progress)
        config = self.home(name) / "cassandra.yaml"
        values: dict[str, Any] = yaml.safe_load(config.read_text())
        storage_port = self._bases[0] + CASSANDRA_STORAGE_PORT
        values |= {
            "listen_address": host,
            "rpc_address": host,
            "native_transport_port": self._cql_port,
            "storage_port": storage_port,
            # All empty at first and each told its place: nobody has to wait for, or stream from, anybody.
            "auto_bootstrap": False,
            "initial_token": str(-(2**63) + index * (2**64 // NODES)),
        }
        values["seed_provider"][0]["parameters"] = [{"seeds": ",".join(f"{h}:{storage_port}" for h in self._hosts)}]
        config.write_text(yaml.safe_dump(values))
        probe = partial(probes.cassandra, host, self._cql_port)
        return replace(service, name=name, probe=probe, address=f"{host}:{self._cql_port}")

    async def _brokers_registered(self) -> bool:
        async def ask(admin: AIOKafkaAdminClient) -> bool:
            return len((await admin.describe_cluster())["brokers"]) == NODES

        return bool(await self.ask(ask))

    async def ask(self, question: Callable[[AIOKafkaAdminClient], Any]) -> Any:
        """What `question` finds out with an admin client; None when Kafka does not answer."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka_servers, request_timeout_ms=5_000)
        try:
            await admin.start()
            return await question(admin)
        except (KafkaError, OSError):
            return None
        finally:
            await admin.close()

    async def _nodes_joined(self) -> bool:
        found = await asyncio.gather(*(asyncio.to_thread(_peers, host, self._cql_port) for host in self._hosts))
        return all(peers == NODES - 1 for peers in found)


def _peers(host: str, port: int) -> int:
    """How many others a node of Cassandra knows of."""
    profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([host]))
    cluster = Cluster([host], port=port, protocol_version=4, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    try:
        return len(list(cluster.connect().execute("SELECT peer FROM system.peers_v2")))
    except (DriverException, NoHostAvailable, OSError):
        return 0
    finally:
        cluster.shutdown()


async def _until(check: Callable[[], Any], what: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not await check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(POLL_S)


class ClusterSystem(System):
    """A stack whose Kafka and Cassandra are clusters of three. `nodes("kafka")` are its brokers."""

    def __init__(self, data: Path, counts: dict[str, int], *, disks: dict[str, int] | None = None) -> None:
        """`disks`: sizes in bytes; the first broker, or node, of an engine that is named there has such a disk."""
        self.cluster = EngineCluster(data / "cluster")
        super().__init__(data, counts, environ=self.cluster.environment)
        first = {f"{engine}-1": size for engine, size in (disks or {}).items()}
        self.disks = {name: Disk(self.cluster.home(name), size) for name, size in first.items()}

    async def prepare(self) -> None:
        for disk in self.disks.values():
            disk.mount()
        try:
            await self.cluster.start()
        except BaseException:
            await self.clear_away()
            raise

    async def clear_away(self) -> None:
        await self.cluster.stop()
        for disk in self.disks.values():
            disk.unmount()

    def nodes(self, engine: str) -> list[str]:
        return {"kafka": self.cluster.brokers, "cassandra": self.cluster.nodes}.get(engine, [engine])

    def pid(self, name: str) -> int | None:
        return self.cluster.pid(name) if self._is_ours(name) else super().pid(name)

    async def until_ready(self, names: Iterable[str] | None = None, within_s: float = START_S) -> None:
        """As for any system; for all of it, each partition has all of its replicas again as well."""
        await super().until_ready(names, within_s)
        if names is None:
            await _until(self._in_sync, "all replicas are in sync", IN_SYNC_S)

    async def _is_ready(self, name: str) -> bool:
        return await (self.cluster.is_ready(name) if self._is_ours(name) else super()._is_ready(name))

    async def _in_sync(self) -> bool:
        async def ask(admin: AIOKafkaAdminClient) -> bool:
            topics = await admin.describe_topics()
            return all(len(p["isr"]) == NODES and p["leader"] >= 0 for topic in topics for p in topic["partitions"])

        return bool(await self.cluster.ask(ask))

    def rebalances(self) -> int:
        return super().rebalances() + count_rebalances(self.cluster.data / "log", "kafka-*.log*")

    def restarts(self) -> dict[str, int]:
        return {**super().restarts(), **self.cluster.restarts()}

    def remove(self) -> None:
        super().remove()
        for name in (*self.cluster.brokers, *self.cluster.nodes):
            shutil.rmtree(self.cluster.data / name, ignore_errors=True)

    def _is_ours(self, name: str) -> bool:
        return name in self.cluster.brokers or name in self.cluster.nodes
