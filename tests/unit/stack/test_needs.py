import os
from pathlib import Path

import pytest

from chat import settings
from stack import engines, jars, needs, page
from stack.errors import StackError
from stack.layout import Layout
from stack.progress import Progress


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole search path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


async def test_what_is_missing_is_said_with_the_command_that_installs_it(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    install(programs, "npm", "10.0.0")
    with pytest.raises(StackError) as caught:
        await needs.provide({"mvn": 0, "node": 18, "npm": 0, "redis-server": 0}, Layout(tmp_path), Progress())
    assert str(caught.value) == (
        "not found: mvn, node, redis-server. Run: sudo apt-get update && "
        "sudo apt-get install -y --no-install-recommends maven nodejs redis-server"
    )


def test_a_program_that_is_too_old_is_missing(programs: Path) -> None:
    install(programs, "node", "v18.20.4")
    assert needs.missing({"node": 18}) == []
    assert needs.missing({"node": 20}) == ["node"]


def test_an_engine_that_is_elsewhere_needs_no_program() -> None:
    elsewhere = {"ROOMLOG_KAFKA": "k:1", "ROOMLOG_CASSANDRA": "c:1", "ROOMLOG_REDIS": "r:1"}
    assert engines.programs_needed(settings.load(elsewhere)) == {}
    assert "redis-server" in engines.programs_needed(settings.load({}))


def test_another_pom_is_another_folder_of_jars() -> None:
    assert jars.folder("kafka").name.startswith(f"kafka-{jars.version('kafka')}-")
    assert jars.folder("kafka") != jars.folder("cassandra")


def test_the_page_says_which_node_builds_it() -> None:
    assert page.node_min() >= page.NODE_MIN
