"""The upkeep operations as a person types them, and what they say when an engine is away."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from agents.upkeeping.files import FORMAT, Manifest, write_manifest
from tests.engines import Namespace, free_ports
from tests.integration.test_operations_commands import faust

pytestmark = pytest.mark.timeout(300)

OURS = ["backup", "begin-at-base", "re-archive", "rebuild-tables", "restore", "trim"]


def test_help_lists_every_one_with_a_sentence(namespace: Namespace) -> None:
    done = faust(namespace, "--help")
    listed = dict(re.findall(r"^  ([a-z-]+)  +(\S.*)$", done.stdout.partition("Commands:")[2], re.MULTILINE))
    assert set(OURS) <= set(listed)
    assert all(listed[name][0].isupper() for name in OURS)


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        (["trim"], "kafka"),
        (["begin-at-base", "archiver"], "kafka"),
        (["rebuild-tables"], "kafka"),
        (["rebuild-tables"], "cassandra"),
        (["re-archive"], "kafka"),
        (["re-archive"], "cassandra"),
        (["backup", "FOLDER/new"], "kafka"),
        (["backup", "FOLDER/new"], "cassandra"),
        (["restore", "FOLDER/empty"], "kafka"),
        (["restore", "FOLDER/empty"], "cassandra"),
        (["restore", "FOLDER/empty"], "redis"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
async def test_an_engine_that_is_away_is_one_line(
    topics: Namespace, tmp_path: Path, command: list[str], engine: str
) -> None:
    topics.make_keyspace()
    (tmp_path / "empty").mkdir()
    write_manifest(tmp_path / "empty", Manifest(FORMAT, "0", "n", "then", "now", []))
    arguments = [part.replace("FOLDER", str(tmp_path)) for part in command]
    address = f"127.0.0.1:{free_ports()}"
    done = await asyncio.to_thread(faust, topics, *arguments, "--wait", "0.5", **{engine: address})
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("roomlog: ")] == lines[-1:], done.stderr
    assert "Traceback" not in done.stderr
