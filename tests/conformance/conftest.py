"""One Roomlog for all conformance tests: two gateways, a third with short times, and what stands behind them.

Tests share it and have rooms of their own, as clients of one installation do.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from chat.settings import Settings
from tests.conformance.stompjs import JS
from tests.engines import Engines, Namespace, Worker, Workers, in_thread


@pytest.fixture(scope="session")
def roomlog(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    namespace = Namespace(engines, f"conformance-{os.getpid()}", tmp_path_factory.mktemp("conformance"))
    namespace.make_topics()
    namespace.make_keyspace()
    workers = Workers(namespace)
    try:
        in_thread(workers.together("sequencer", "archiver", "projector"))
        yield workers
    finally:
        workers.kill()


@pytest.fixture(scope="session")
def gateway(roomlog: Workers) -> Worker:
    worker: Worker = in_thread(roomlog("gateway"))
    return worker


@pytest.fixture(scope="session")
def port(gateway: Worker) -> int:
    """Of a gateway with the default settings."""
    return gateway.port


@pytest.fixture(scope="session")
def port2(roomlog: Workers) -> int:
    """Of another one."""
    worker: Worker = in_thread(roomlog("gateway"))
    return worker.port


@pytest.fixture(scope="session")
def brisk_port(roomlog: Workers) -> int:
    """Of one with a heart-beat period of a second and half a second for CONNECT."""
    worker: Worker = in_thread(roomlog("gateway", heart_beat_ms=1_000, connect_timeout_s=0.5))
    return worker.port


@pytest.fixture
def ws_url(gateway: Worker) -> str:
    return gateway.ws


@pytest.fixture
def room() -> str:
    """A room of this test's own."""
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def window() -> int:
    """MESSAGEs that a subscription in a client mode may have unacknowledged."""
    return Settings().ack_window


@pytest.fixture(scope="session")
def node_modules() -> None:
    """Other people's JavaScript, installed as the lock file says."""
    installed, lock = JS / "node_modules" / ".package-lock.json", JS / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=JS, check=True, capture_output=True)
