"""What the overrides lean on is still there: an upgrade of Faust, mode or aiokafka that renames it fails here."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import aiokafka
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust import App, Worker
from faust.app.base import BootStrategy
from faust.stores import memory
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from mode.threads import ServiceThread

from agents import consuming, engine


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0"), ("mode-streaming", "0.7.1")]
)
def test_the_versions_that_the_overrides_were_written_for(package: str, pinned: str) -> None:
    assert version(package) == pinned, f"read agents/engine.py against {package} {version(package)}, then change this"


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "on_thread_stop"),
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "on_start"),
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "start"),
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "call_thread"),
        (consuming.ConsumerThread, driver.AIOKafkaConsumerThread, "_gather_remaining_tasks"),
        (consuming.Consumer, driver.Consumer, "_new_consumer_thread"),
        (consuming.Consumer, driver.Consumer, "_drain_messages"),
        (consuming.Consumer, driver.Consumer, "_wait_next_records"),
        (consuming.Consumer, driver.Consumer, "wait_first"),
        (engine.BulkRecovery, Recovery, "_build_offsets"),
        (engine.RoomlogTableManager, TableManager, "on_start"),
        (engine.RoomlogTableManager, TableManager, "recovery"),
        (engine.RoomlogWorker, Worker, "_sentinel_task"),
        (engine.RoomlogBoot, BootStrategy, "server"),
        (engine.RoomlogBoot, BootStrategy, "producer_only"),
        (engine.RoomlogApp, App, "_new_transport"),
        (engine.RoomlogApp, App, "_on_autodiscovery_error"),
        (engine.RoomlogApp, App, "_create_directories"),
    ],
)
def test_what_is_overridden_exists_and_takes_the_same(ours: type, theirs: type, name: str) -> None:
    assert issubclass(ours, theirs)
    original, override = inspect.getattr_static(theirs, name), inspect.getattr_static(ours, name)
    assert original is not override
    if not isinstance(original, property):
        assert list(inspect.signature(override).parameters) == list(inspect.signature(original).parameters)


def test_the_parts_that_are_asked_for_by_name_exist() -> None:
    assert "_fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer)
    assert "_fetch_min_bytes" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    coordinator = inspect.getsource(GroupCoordinator)
    for name in ("_group_instance_id", "_coordination_task", "_pending_exception"):
        assert name in coordinator
    for name in ("tp_to_table", "active_highwaters"):
        assert name in inspect.getsource(Recovery)
    assert inspect.iscoroutinefunction(driver.AIOKafkaConsumerThread.call_thread)
    assert "self.data" in inspect.getsource(memory.Store.__post_init__)
    assert driver.Transport.Consumer is driver.Consumer


def test_the_long_poll_is_still_hard_coded_there() -> None:
    """When it is not, the override can go."""
    assert "fetch_max_wait_ms=1500" in inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)


def test_faust_still_sleeps_for_a_second_when_no_partition_is_active() -> None:
    """When it does not, the override can go."""
    assert "self.sleep(1)" in inspect.getsource(driver.Consumer._wait_next_records)


def test_aiokafka_still_keeps_static_members_in_the_group() -> None:
    """When it does not, the override can go."""
    assert "self._group_instance_id is None" in inspect.getsource(GroupCoordinator._maybe_leave_group)


def test_a_consumer_serves_in_the_loop_of_its_worker() -> None:
    """What `ConsumerThread.start` does without, and what it goes on relying on."""
    assert "self.Worker(self)" in inspect.getsource(ServiceThread.start)
    assert "notify, self._thread_running" in inspect.getsource(ServiceThread._serve)
    assert "thread_loop" in inspect.signature(driver.AIOKafkaConsumerThread.__init__).parameters or "kwargs" in (
        inspect.signature(driver.AIOKafkaConsumerThread.__init__).parameters
    )


def test_offsets_are_built_after_the_highwaters_and_before_the_need_for_a_recovery_is_judged() -> None:
    source = inspect.getsource(Recovery).partition("async def _restart_recovery")[2]
    assert source.index("_build_highwaters") < source.index("_build_offsets") < source.index("need_recovery()")
