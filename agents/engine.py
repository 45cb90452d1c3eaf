"""Our overrides of Faust, all of them, and what each buys (figures: docs/decisions/0002-faust-overrides.md)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import faust

if TYPE_CHECKING:
    from chat.settings import Settings


class RoomlogApp(faust.App):
    """A Faust application that does one role of Roomlog."""

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
            topic_partitions=settings.partitions,
            topic_replication_factor=settings.replication,
            topic_allow_declare=False,
            topic_disable_leader=has_agents,
            table_standby_replicas=0,
            stream_wait_empty=False,
            broker_session_timeout=6,
            broker_heartbeat_interval=0.5,
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
        # A gateway has no consumer group: no rebalance can touch a socket.
        app.producer_only = not has_agents
        return app

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
