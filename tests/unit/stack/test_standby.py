"""A process in reserve takes the place of a dead one."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.layout import ROOT, Layout
from stack.standby import PROGRAM, RESERVE, Standby
from stack.watched import Service, Watched
from tests.engines import eventually

FAUST = str(Path(sys.executable).with_name("faust"))
LIBRARIES_S = 30.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.make()
    return layout


@pytest.fixture
async def standby(layout: Layout) -> AsyncIterator[Standby]:
    standby = Standby(layout)
    yield standby
    await standby.stop()


async def in_reserve(standby: Standby) -> int:
    """Process id of the one in reserve, once it is there."""
    return int(await eventually(lambda: standby.pid, "a process in reserve", within_s=LIBRARIES_S))


async def test_it_becomes_what_it_is_told_with_its_environment_and_log(layout: Layout, standby: Standby) -> None:
    standby.prepare()
    pid = await in_reserve(standby)
    log = layout.log("worker")
    environment = {**os.environ, "FAUST_DEBUG": "1"}
    process = await standby.become([FAUST, "--version"], environment, log, layout.data)
    assert process is not None
    assert process.pid == pid
    assert await asyncio.wait_for(process.wait(), LIBRARIES_S) == 0
    assert "version" in log.read_text()


async def test_two_that_die_in_a_row_are_replaced_and_there_is_none_until_it_was_prepared(
    layout: Layout, standby: Standby
) -> None:
    arguments = ([FAUST, "--version"], dict(os.environ), layout.log("worker"), layout.data)
    assert standby.pid is None
    assert await standby.become(*arguments) is None
    pids = []
    for _ in range(RESERVE):
        await in_reserve(standby)
        process = await standby.become(*arguments)
        assert process is not None
        assert await asyncio.wait_for(process.wait(), LIBRARIES_S) == 0
        pids.append(process.pid)
    assert len(set(pids)) == RESERVE


async def test_one_that_died_in_reserve_is_not_used(layout: Layout, standby: Standby) -> None:
    standby.prepare()
    pid = await in_reserve(standby)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is dead")
    process = await standby.become([FAUST, "--version"], dict(os.environ), layout.log("worker"), layout.data)
    assert process is None or process.pid != pid


async def test_there_is_another_in_reserve_while_the_first_works(layout: Layout, standby: Standby) -> None:
    standby.prepare()
    first = await in_reserve(standby)
    await eventually(lambda: len(standby._processes) == RESERVE, "the whole reserve", within_s=LIBRARIES_S)
    for used in (first, standby._processes[1].pid):
        process = await standby.become([FAUST, "--version"], dict(os.environ), layout.log("worker"), layout.data)
        assert process is not None
        assert process.pid == used
        assert await asyncio.wait_for(process.wait(), LIBRARIES_S) == 0


async def test_a_dead_worker_is_replaced_by_the_one_in_reserve(layout: Layout, standby: Standby) -> None:
    async def ready() -> bool:
        return True

    standby.prepare()
    pid = await in_reserve(standby)
    # A command that ends at once: its second life is the stand-by's.
    service = Service("worker", (FAUST, "--version"), {}, ready, "", 60, 5, stands_by=True)
    told: list[str] = []
    watched = Watched(service, layout, lambda _, text: told.append(text), standby)
    try:
        await eventually(lambda: f"started again as process {pid}" in told, "the second life", within_s=LIBRARIES_S)
    finally:
        await watched.stop()


async def test_it_ends_when_its_supervisor_is_gone(layout: Layout) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from stack.layout import Layout\n"
        "from stack.standby import Standby\n"
        "async def main():\n"
        "    standby = Standby(Layout(Path(sys.argv[1])))\n"
        "    standby.prepare()\n"
        "    while standby.pid is None:\n"
        "        await asyncio.sleep(0.01)\n"
        "    print(standby.pid, flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(layout.data), env={**os.environ, **path}, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    pid = int(await asyncio.wait_for(supervisor.stdout.readline(), LIBRARIES_S))
    supervisor.kill()
    await supervisor.wait()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "the stand-by has gone, too", within_s=LIBRARIES_S)


@pytest.mark.parametrize(
    ("edit", "wanted"), [(None, 0), ("chat/ids.py", 1), ("agents/engine.py", 1)], ids=["as it was", "chat", "agents"]
)
def test_it_runs_what_lies_in_the_folder_when_it_becomes_a_worker(
    tmp_path: Path, edit: str | None, wanted: int
) -> None:
    folder, log = tmp_path / "roomlog", tmp_path / "log"
    folder.mkdir()
    shutil.copy(ROOT / "app.py", folder)
    for package in ("agents", "chat", "tables", "web"):
        ignore = shutil.ignore_patterns("ui", "static", "__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    # It says so when it has imported what it imports in reserve.
    with (folder / "web" / "hub.py").open("a") as module:
        module.write("\nprint('in reserve', flush=True)\n")
    with subprocess.Popen(
        [sys.executable, "-P", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "in reserve\n"
        if edit is not None:
            with (folder / edit).open("a") as module:
                module.write("\nprint('edited', flush=True)\n")
        order = {"argv": [FAUST, "-A", "app", "--help"], "env": dict(os.environ), "log": str(log), "cwd": str(folder)}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.close()
        assert process.wait(LIBRARIES_S) == 0, log.read_text()
    assert log.read_text().count("edited") == wanted
    assert log.read_text().count("in reserve") == wanted
    assert "Usage: faust" in log.read_text()
