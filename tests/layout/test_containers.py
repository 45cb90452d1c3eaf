"""docker/compose.yml agrees with the local stack: same versions, same engine configurations, one service a role."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chat import settings
from stack import jars

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_there_is_one_service_a_role_and_an_engine() -> None:
    assert set(SERVICES) == {*settings.ROLES, "kafka", "cassandra", "redis", "prepare"}


@pytest.mark.parametrize("engine", ["kafka", "cassandra"])
def test_an_engine_has_the_version_that_the_local_stack_fetches(engine: str) -> None:
    assert SERVICES[engine]["image"].rpartition(":")[2] == jars.version(engine)


@pytest.mark.parametrize("role", settings.ROLES)
def test_a_service_has_settings_that_roomlog_accepts(role: str) -> None:
    environment = SERVICES[role]["environment"]
    dockerfile = (DOCKER / "Dockerfile").read_text()
    image = dict(re.findall(r"(ROOMLOG_\w+)=(\S+)", dockerfile))
    loaded = settings.load({**image, **environment})
    assert loaded.role == role
    assert loaded.worker == role
    assert loaded.kafka_servers == ["kafka:9092"]


def test_only_loopback_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:${ROOMLOG_WEB_PORT:-6066}:6066"]


@pytest.mark.parametrize("engine", ["kafka", "cassandra", "redis"])
def test_an_engine_mounts_files_that_exist(engine: str) -> None:
    mounted = [volume.split(":")[0] for volume in SERVICES[engine]["volumes"] if volume.startswith("./")]
    assert mounted
    for path in mounted:
        assert (DOCKER / path).exists()


def test_cassandras_configuration_is_whole_in_both_places() -> None:
    folder = DOCKER / "engines" / "cassandra"
    common = (folder / "cassandra.yaml").read_text()
    here, there = (yaml.safe_load(common + (folder / name).read_text()) for name in ("local.yaml", "container.yaml"))
    assert here.keys() - there.keys() == {"listen_address", "rpc_address"}
    assert there.keys() <= here.keys()


def test_the_image_is_not_root_and_has_a_health_check() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^USER roomlog$", dockerfile, re.MULTILINE)
    assert "/readyz" in dockerfile.partition("HEALTHCHECK")[2]
    assert len(re.findall(r"^FROM ", dockerfile, re.MULTILINE)) >= 3
