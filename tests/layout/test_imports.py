"""Modules: each imports alone, and each role starts exactly the agents that it should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat.settings import ROLES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chat", "tables", "agents", "web")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "node_modules" not in path.parts
)

AGENTS = {
    "gateway": [],
    "sequencer": ["agents.sequencer.sequence_room_commands"],
    "archiver": ["agents.archiver.archive_room_events"],
    "projector": ["agents.projector.project_room_events"],
}

# One process imports what is not ours; then each module of ours is imported in a fork that has none of them yet.
IMPORT_EACH = """
import json, os, sys, traceback, warnings
warnings.simplefilter("ignore")
import aiohttp.web, aiokafka.admin, cassandra.cluster, cassandra.policies, faust, faust.cli, hashlib, msgspec, orjson
import prometheus_client, redis.asyncio, structlog
failed = {}
for name in sys.argv[1:]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        warnings.resetwarnings()
        warnings.simplefilter("error")
        problem = ""
        try:
            __import__(name)
        except BaseException:
            problem = traceback.format_exc()
        os.write(writing, problem.encode()[-60_000:])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        problem = pipe.read().decode()
    os.waitpid(child, 0)
    if problem:
        failed[name] = problem
print(json.dumps(failed))
"""


def python(script: str, *arguments: str, **environ: str) -> object:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROOMLOG_")} | environ
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_module_imports_alone_with_warnings_as_errors(tmp_path: Path) -> None:
    failed = python(IMPORT_EACH, *MODULES, ROOMLOG_DATA_DIR=str(tmp_path))
    assert isinstance(failed, dict)
    assert not failed, "\n".join(f"{name}:\n{problem}" for name, problem in failed.items())


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_its_agents_and_no_others(role: str, tmp_path: Path) -> None:
    script = "import json; from app import app; app.discover(); print(json.dumps(sorted(app.agents)))"
    assert python(script, ROOMLOG_ROLE=role, ROOMLOG_DATA_DIR=str(tmp_path)) == AGENTS[role]


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
