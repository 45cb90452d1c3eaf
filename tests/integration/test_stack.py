"""The local stack as a person drives it: make up, kill this and that, make down, make up."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.processes import orphans
from tests.engines import ROOT, Engines, Stack, eventually_sync, free_ports

ROLES = ("gateway", "sequencer", "archiver", "projector")
RESTART_S = 0.2


@pytest.fixture(scope="module")
def running(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of workers, on the engines of the test run."""
    stack = Stack(
        tmp_path_factory.mktemp("stack"), free_ports(6), free_ports(80), f"stack{os.getpid()}", engines.environment
    )
    stack.up()
    yield stack
    stack.down()


@pytest.fixture
def up(running: Stack) -> Stack:
    """The same, with all of it ready again after what the test before did to it."""
    eventually_sync(lambda: running.command("status").returncode == 0, "all is ready", within_s=90, every_s=0.2)
    return running


def restarted(stack: Stack, name: str, before: int) -> int:
    """The new process id of `name`, once it has one."""

    def changed() -> int | None:
        try:
            now = stack.pid(name)
        except (FileNotFoundError, ValueError):
            return None
        return now if now != before else None

    found: int = eventually_sync(changed, f"{name} has a new process", every_s=0.002)
    return found


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_up_returns_when_the_gateway_is_ready_and_status_lists_every_process(up: Stack) -> None:
    assert is_ready(up.web_port)
    shown = up.command("status").stdout
    for role in ROLES:
        assert re.search(rf"^  {role} +ready .* process {up.pid(role)}", shown, re.MULTILINE), shown
    assert f"http://127.0.0.1:{up.web_port}/" in shown


def test_up_again_says_that_it_runs_and_changes_nothing(up: Stack) -> None:
    before = {role: up.pid(role) for role in ROLES}
    done = up.command("up")
    assert done.returncode == 0
    assert "running already" in done.stdout
    assert {role: up.pid(role) for role in ROLES} == before


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_worker_is_started_again_at_once(up: Stack, role: str) -> None:
    before = up.kill9(role)
    killed_at = time.monotonic()
    restarted(up, role, before)
    assert time.monotonic() - killed_at < RESTART_S


def test_scale_adds_workers_with_names_of_their_own_and_takes_them_away(up: Stack) -> None:
    done = up.command("scale", GATEWAYS="2")
    assert "gateway-2" in done.stdout, done.stdout + done.stderr
    assert is_ready(up.web_port + 1)
    second = up.pid("gateway-2")
    done = up.command("scale", GATEWAYS="1")
    assert "gateway-2" not in done.stdout
    assert not Path(f"/proc/{second}").exists()
    assert not (up.data / "run" / "gateway-2.pid").exists()


def test_a_command_that_needs_a_yes_deletes_nothing_without_one(up: Stack) -> None:
    done = up.command("reset")
    assert done.returncode == 1
    assert "FORCE=1" in done.stderr
    assert is_ready(up.web_port)


def test_after_the_supervisor_was_killed_the_next_up_ends_what_it_left_and_starts(up: Stack) -> None:
    before = {role: up.pid(role) for role in ROLES}
    os.kill(int((up.data / "run" / "supervisor.lock").read_text()), signal.SIGKILL)
    left = up.command("status")
    assert left.returncode == 3
    assert "left by a supervisor that is gone" in left.stdout
    up.up()
    for role in ROLES:
        assert up.pid(role) != before[role]
        assert not Path(f"/proc/{before[role]}").exists()
    assert is_ready(up.web_port)


def test_ctrl_c_stops_what_run_started_and_leaves_nothing(engines: Engines, tmp_path: Path) -> None:
    stack = Stack(tmp_path, free_ports(6), free_ports(80), f"run{os.getpid()}", engines.environment)
    with (tmp_path / "shown").open("w+") as shown:
        running = subprocess.Popen(
            [sys.executable, str(ROOT / "docker" / "stack"), "run"],
            env=stack.environment | {"SEQUENCERS": "0", "ARCHIVERS": "0", "PROJECTORS": "0"},
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown,
            start_new_session=True,
        )
        try:
            ready = f"ready: http://127.0.0.1:{stack.web_port}/"
            eventually_sync(lambda: ready in (tmp_path / "shown").read_text(), "it is ready", within_s=90)
            gateway = stack.pid("gateway")
        finally:
            os.killpg(running.pid, signal.SIGINT)
            status = running.wait(60)
    assert status == 0, (tmp_path / "shown").read_text()
    assert not Path(f"/proc/{gateway}").exists()
    assert orphans(tmp_path) == []
    assert not list((tmp_path / "run").glob("*.pid"))


def test_a_stack_whose_port_is_taken_does_not_start_and_says_what_moves_it(engines: Engines, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports()))
        taken.listen()
        port = taken.getsockname()[1]
        stack = Stack(tmp_path, free_ports(6), port, environ=engines.environment)
        done = stack.command("up")
    assert done.returncode == 1
    assert f"roomlog: port {port} (gateway) is taken; set ROOMLOG_WEB_PORT" in done.stdout + done.stderr


def test_an_engine_that_should_be_there_and_is_not_is_one_line(engines: Engines, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_ports()}"
    environ = {**engines.environment, "ROOMLOG_REDIS": nobody}
    done = Stack(tmp_path, free_ports(6), free_ports(80), environ=environ).command("up")
    assert done.returncode == 1
    assert f"roomlog: ROOMLOG_REDIS={nobody}: no Redis answers there" in done.stdout + done.stderr


def test_a_wrong_setting_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", free_ports(6), free_ports(), environ={"ROOMLOG_PARTITIONS": "many"})
    done = stack.command("up")
    assert done.returncode == 1
    assert done.stderr == "roomlog: ROOMLOG_PARTITIONS=many: not a number\n"
    assert not (tmp_path / "data").exists()
