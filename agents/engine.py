"""Our overrides of Faust, all of them, and what each buys (figures: docs/decisions/0002-faust-overrides.md).

* a worker waits for Kafka and checks the topics before anything of Faust connects, with its web side up meanwhile;
* its consumer (agents/consuming.py) polls in short waits, hands whole fetches to agents, leaves the group when it
  stops, and ends the worker when the group is lost for good;
* changelogs are read in bulk into the memory store, the checkpoints' to its end before the end of any other is looked
  up, and what is no row is parked (Faust: one record at a time through a stream);
* the table manager does not sleep for a second before it starts, nor a worker for one before it ends;
* a module that fails to import stops the start (Faust: a warning, exit status 0).

tests/unit/agents/test_engine.py fails when an upgrade renames what these lean on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from agents.consuming import FETCHES_WAITING_MAX, Transport
from chat import logs
from chat.errors import SettingsError, Unavailable
from chat.log.consumer import RECOVERY_WAIT_MS, reader
from chat.log.following import follow_compacted
from chat.log.topics import check_topics
from chat.readiness import readiness

if TYPE_CHECKING:
    from chat.settings import Settings

log = logs.get(__name__)

KAFKA_RETRY_S: Final = 1.0
NEVER_S: Final = 10.0**9
HEARTBEAT_S: Final = 0.1
"""A member learns from the answer that the group rebalances, and until the last one knows all of their rooms wait."""
RECOVERY_FETCH_BYTES: Final = 8_388_608
LAST_TURNS_S: Final = 0.05
GARBAGE_THRESHOLDS: Final = (10_000, 10, 10)
"""Python looks for cycles after so many new containers (700 as it comes), and at all of them after a million (70,000).
A gateway keeps a hundred per connection, none of which is garbage: looking through them again and again was a sixth of
what a connect cost, in pauses that everybody waited for."""
EXIT_SETTINGS: Final = 2

KAFKA: Final = "kafka"

QUIET_LOGGERS: Final = ("aiokafka", "faust.tables.recovery", "faust.transport.drivers.aiokafka", "mode.timers")
"""Libraries that tell of every subscription, rebalance and late timer at `info`."""

RowCheck = Callable[[str, Any], Awaitable[bool]]
"""(table, changelog record) -> whether it is a row. One that is none has been parked when this returns."""


class BulkRecovery(Recovery):
    """Reads changelogs with a consumer of its own, straight into the memory store."""

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        if title != "active":
            await super()._build_offsets(consumer, tps, destination, title)
            return
        # An offset is known for the partitions that stayed; what they hold is newer than their changelog.
        if unread := [tp for tp in tps if destination[tp] is None]:
            await self._read(unread)
        for tp in tps:
            destination[tp] = self.active_highwaters[tp]
        await consumer.pause_fetching(tps)

    async def _read(self, tps: list[TP]) -> None:
        app = cast("RoomlogApp", self.app)
        checkpoints = [tp for tp in tps if tp.topic == app.checkpoints_changelog]
        others = [tp for tp in tps if tp.topic != app.checkpoints_changelog]
        settings, topics = app.settings, {tp.topic for tp in tps}
        async with reader(
            settings, topics, reset="earliest", fetch_bytes=RECOVERY_FETCH_BYTES, wait_ms=RECOVERY_WAIT_MS
        ) as consumer:
            # A checkpoint vouches for rows that were there before it: so it is read first, and they afterwards.
            for group in (checkpoints, others):
                await self._read_to_end(consumer, group)

    async def _read_to_end(self, consumer: Any, tps: list[TP]) -> None:
        check = cast("RoomlogApp", self.app).row_check
        async for tp, records in follow_compacted(consumer, map(driver.ensure_aiokafka_TP, tps)):
            table: Any = self.tp_to_table[TP(tp.topic, tp.partition)]
            data = table.data.data
            for record in records:
                if record.value is None:
                    data.pop(record.key, None)
                elif check is None or await check(table.name, record):
                    data[record.key] = record.value


class RoomlogTableManager(TableManager):
    """Starts at once and recovers in bulk."""

    @property
    def recovery(self) -> Recovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BulkRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """As Faust's, without its sleep."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class KafkaGate(Service):
    """Starts when Kafka answers and the topics are what they have to be; says so while they are not."""

    def __init__(self, app: RoomlogApp, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.app = app

    async def on_start(self) -> None:
        """Wait for Kafka; wrong topics end the process with one line."""
        # What has been imported stays: no search for garbage looks at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        sys.setswitchinterval(0.001)
        while not (self.should_stop or self.app.should_stop):
            try:
                await check_topics(self.app.settings)
            except Unavailable as error:
                readiness.lost(KAFKA, str(error))
                log.warning("waiting_for_kafka", reason=str(error))
                await asyncio.sleep(KAFKA_RETRY_S)
            except SettingsError as error:
                sys.stderr.write(f"roomlog: {error}\n")
                sys.stderr.flush()
                os._exit(EXIT_SETTINGS)
            else:
                readiness.ok(KAFKA)
                if self.app.on_kafka is not None:
                    self.add_future(self.app.on_kafka())
                return


class RoomlogBoot(BootStrategy):
    """The web side first: it answers `/livez` and `/readyz` while the rest waits for Kafka."""

    app: RoomlogApp

    def server(self) -> Iterable[Any]:
        """Services of a worker with agents, in the order of their start."""
        return [
            *self.sensors(),
            *self.web_server(),
            KafkaGate(self.app),
            *self.kafka_producer(),
            *self.kafka_consumer(),
            *self.agents(),
            *self.kafka_conductor(),
            *self.tables(),
        ]

    def producer_only(self) -> Iterable[Any]:
        """Services of a gateway."""
        return [*self.web_server(), KafkaGate(self.app), *self.kafka_producer()]


class RoomlogWorker(faust.Worker):
    """Ends when all has been stopped."""

    async def _sentinel_task(self) -> None:
        # The last turns of the loop, for what closes in them. Faust's take a second, in which rooms wait for a restart.
        await asyncio.sleep(LAST_TURNS_S)


class RoomlogApp(faust.App):
    """A Faust application that does one role of Roomlog."""

    BootStrategy = RoomlogBoot

    settings: Settings
    checkpoints_changelog = ""
    """Changelog topic that is read before all others."""
    row_check: RowCheck | None = None
    """Asked for every changelog record that a recovery reads."""
    on_kafka: Callable[[], Awaitable[None]] | None = None
    """Run beside the rest of the start, as soon as Kafka answers. It must not raise."""

    @classmethod
    def for_role(cls, settings: Settings, modules: list[str]) -> RoomlogApp:
        """The application of `settings.role`, which imports `modules` when it starts."""
        has_agents = settings.role != "gateway"
        app = cls(
            id=settings.group,
            broker=[f"kafka://{server}" for server in settings.kafka_servers],
            datadir=settings.data / "faust" / settings.worker,
            autodiscover=modules,
            origin="app",
            key_serializer="raw",
            value_serializer="raw",
            store="memory://",
            TableManager=RoomlogTableManager,
            Worker=RoomlogWorker,
            topic_partitions=settings.partitions,
            topic_replication_factor=settings.replication,
            topic_allow_declare=False,
            topic_disable_leader=has_agents,
            table_standby_replicas=0,
            stream_wait_empty=False,
            stream_buffer_maxsize=FETCHES_WAITING_MAX,
            # Commits are ours (with a position each): Faust would report their absence as a livelock for ever.
            broker_commit_livelock_soft_timeout=NEVER_S,
            broker_session_timeout=6,
            broker_heartbeat_interval=HEARTBEAT_S,
            consumer_group_instance_id=f"{settings.namespace}-{settings.worker}" if has_agents else None,
            consumer_auto_offset_reset="earliest",
            producer_acks=-1,
            web_enabled=True,
            web_bind=settings.web_host,
            web_host=settings.web_host,
            web_port=settings.web_port,
            web_in_thread=False,
            node_hostname=settings.worker,
            canonical_url=f"http://{settings.web_host}:{settings.web_port}",
        )
        app.settings = settings
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        # A gateway has no consumer group: no rebalance can touch a socket.
        app.producer_only = not has_agents
        readiness.expect(KAFKA)
        return app

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)

    def _on_autodiscovery_error(self, name: str) -> Any:
        # Faust would drop the module, go on without its agents and exit with 0.
        del name
        error = sys.exc_info()[1]
        if error is not None:
            raise error
        raise ImportError("a module failed to import")

    def _create_directories(self) -> None:
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        super()._create_directories()
