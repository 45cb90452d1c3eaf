"""The engines themselves: killed they are back, stopped and started again they have everything."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack import probes
from tests.engines import ENGINES, ROOT, Engines, Stack, eventually, free_ports

RESTART_S = 1.0
"""The kernel takes a few tenths of a second to take down a gigabyte of Cassandra; only then can it be started again."""

PROBES = {"kafka": probes.kafka, "cassandra": probes.cassandra, "redis": probes.redis}


@pytest.mark.parametrize("name", ENGINES)
async def test_a_killed_engine_is_started_again_at_once_and_answers(own_engines: Engines, name: str) -> None:
    stack = own_engines.stack
    assert stack
    host, _, port = getattr(own_engines, name).rpartition(":")
    before = stack.kill9(name)
    killed_at = time.monotonic()

    def changed() -> bool:
        try:
            return stack.pid(name) != before
        except (FileNotFoundError, ValueError):
            return False

    await eventually(changed, f"{name} has a new process", every_s=0.002)
    assert time.monotonic() - killed_at < RESTART_S
    await eventually(lambda: PROBES[name](host, int(port)), f"{name} answers again", within_s=90, every_s=0.1)


@pytest.mark.timeout(400)
async def test_messages_are_there_after_down_and_up(tmp_path: Path) -> None:
    stack = Stack(tmp_path, free_ports(6), free_ports(80), f"again{os.getpid()}")

    async def smoke(*arguments: str) -> None:
        url = f"ws://127.0.0.1:{stack.web_port}/ws"
        program = [sys.executable, str(ROOT / "docker" / "smoke.py"), url, *arguments]
        done = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        await asyncio.to_thread(stack.up)
        await smoke("--room", "kept", "--body", "before the restart")
        await asyncio.to_thread(stack.down)
        # Another stack's ports, as when somebody else took ours meanwhile: the data must not depend on them.
        stack.engine_port_base = free_ports(6)
        await asyncio.to_thread(stack.up)
        await smoke("--room", "kept", "--body", "before the restart", "--only-read")
    finally:
        await asyncio.to_thread(stack.down)
