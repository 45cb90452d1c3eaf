"""Fixtures: real engines, a namespace of one's own, workers.

| fixture | is |
|---|---|
| `engines` | addresses of Kafka, Cassandra, Redis, for the whole run |
| `own_engines` | the same, always started by the tests: may be killed and paused |
| `namespace`, `module_namespace` | names that no other test (module) uses; nothing is created |
| `topics`, `module_topics` | that namespace with its Kafka topics |
| `keyspace`, `module_keyspace` | that namespace with its Cassandra keyspace |
| `worker`, `module_worker` | that namespace with its topics, and `await worker("gateway")`, which makes the keyspace |
| `own_worker` | the same on `own_engines` |

A keyspace costs a second or two, so tests that can share one, with rooms of their own, take the `module_` fixtures.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import Engines, Namespace, Workers, running_engines

_WORKERS = pytest.StashKey[list[Workers]]()
_count = itertools.count(1)


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    with running_engines() as found:
        yield found


@pytest.fixture(scope="session")
def own_engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    # With no addresses in the environment the run's engines are ours already.
    if not any(os.environ.get(f"ROOMLOG_{name}") for name in ("KAFKA", "CASSANDRA", "REDIS")):
        yield request.getfixturevalue("engines")
        return
    with running_engines(always_own=True) as own:
        yield own


def _namespace(engines: Engines, data: Path) -> Namespace:
    return Namespace(engines, f"t{os.getpid()}-{next(_count)}", data)


@pytest.fixture
def namespace(engines: Engines, tmp_path: Path) -> Iterator[Namespace]:
    made = _namespace(engines, tmp_path)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def module_namespace(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    made = _namespace(engines, tmp_path_factory.mktemp("module"))
    yield made
    made.drop()


@pytest.fixture
def topics(namespace: Namespace) -> Namespace:
    namespace.make_topics()
    return namespace


@pytest.fixture(scope="module")
def module_topics(module_namespace: Namespace) -> Namespace:
    module_namespace.make_topics()
    return module_namespace


@pytest.fixture
def keyspace(namespace: Namespace) -> Namespace:
    namespace.make_keyspace()
    return namespace


@pytest.fixture(scope="module")
def module_keyspace(module_namespace: Namespace) -> Namespace:
    module_namespace.make_keyspace()
    return module_namespace


@pytest.fixture
def worker(topics: Namespace, request: pytest.FixtureRequest) -> Iterator[Workers]:
    workers = Workers(topics)
    request.node.stash[_WORKERS] = [workers]
    yield workers
    workers.kill()


@pytest.fixture
def own_worker(own_engines: Engines, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workers]:
    namespace = _namespace(own_engines, tmp_path)
    namespace.make_topics()
    workers = Workers(namespace)
    request.node.stash[_WORKERS] = [workers]
    yield workers
    workers.kill()
    namespace.drop()


@pytest.fixture(scope="module")
def module_worker(module_topics: Namespace, request: pytest.FixtureRequest) -> Iterator[Workers]:
    workers = Workers(module_topics)
    request.node.stash[_WORKERS] = [workers]
    yield workers
    workers.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """A failed test shows the end of its workers' logs."""
    report = yield
    if report.failed and call.when != "teardown":
        for node in item.listchain():
            for workers in node.stash.get(_WORKERS, []):
                for worker in workers.all:
                    report.sections.append((f"log of {worker.name}", worker.tail()))
    return report
