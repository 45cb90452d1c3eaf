"""One process of a stack may differ: run/NAME.env is its own environment."""

import asyncio
import sys
from pathlib import Path

from stack.layout import Layout
from stack.watched import Service, Watched
from tests.engines import eventually

PROGRAM = "import os, sys, time; print('own', os.environ.get('ROOMLOG_FAILPOINT'), flush=True); time.sleep(60)"


async def ready() -> bool:
    return True


def service(name: str) -> Service:
    return Service(
        name=name,
        argv=(sys.executable, "-c", PROGRAM),
        env={"ROOMLOG_FAILPOINT": "everybody's"},
        probe=ready,
        address="here",
        ready_within_s=5,
        stop_within_s=5,
    )


async def test_a_process_gets_the_environment_of_its_own_file_at_each_start(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    own = tmp_path / "run" / "one.env"
    own.write_text("ROOMLOG_FAILPOINT=before-produce:2\nno assignment\n")
    one, other = (Watched(service(name), layout, lambda *_: None) for name in ("one", "other"))
    try:
        await eventually(lambda: "own" in layout.last_lines("one"), "one has started")
        await eventually(lambda: "own" in layout.last_lines("other"), "the other has started")
        assert "own before-produce:2" in layout.last_lines("one")
        assert "own everybody's" in layout.last_lines("other")
        own.unlink()
        one.kill()
        await eventually(lambda: layout.last_lines("one").count("own") == 2, "one has started again")
        assert layout.last_lines("one").splitlines()[-1].strip() == "own everybody's"
    finally:
        await asyncio.gather(one.stop(), other.stop())
