"""A process in reserve takes the place of a dead one."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.layout import Layout
from stack.processes import orphans
from stack.standby import NAME, Standby
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


async def in_reserve(layout: Layout) -> int:
    """Process id of the one in reserve, once it is there."""

    def found() -> list[int]:
        return [orphan.pid for orphan in orphans(layout.data) if orphan.name == NAME]

    pids = await eventually(found, "a process in reserve", within_s=LIBRARIES_S)
    assert len(pids) == 1
    return int(pids[0])


async def test_it_becomes_what_it_is_told_with_its_environment_and_log(layout: Layout, standby: Standby) -> None:
    standby.prepare()
    pid = await in_reserve(layout)
    log = layout.log("worker")
    environment = {**os.environ, "FAUST_DEBUG": "1"}
    process = await standby.become([FAUST, "--version"], environment, log, layout.data)
    assert process is not None
    assert process.pid == pid
    assert await asyncio.wait_for(process.wait(), LIBRARIES_S) == 0
    assert "version" in log.read_text()


async def test_there_is_none_until_it_was_prepared_and_none_twice(layout: Layout, standby: Standby) -> None:
    arguments = ([FAUST, "--version"], dict(os.environ), layout.log("worker"), layout.data)
    assert await standby.become(*arguments) is None
    standby.prepare()
    await in_reserve(layout)
    first = await standby.become(*arguments)
    assert first is not None
    assert await standby.become(*arguments) is None
    await first.wait()


async def test_one_that_died_in_reserve_is_not_used(layout: Layout, standby: Standby) -> None:
    standby.prepare()
    pid = await in_reserve(layout)
    os.kill(pid, 9)
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")
    assert await standby.become([FAUST, "--version"], dict(os.environ), layout.log("worker"), layout.data) is None


async def test_a_dead_worker_is_replaced_by_the_one_in_reserve(layout: Layout, standby: Standby) -> None:
    async def ready() -> bool:
        return True

    standby.prepare()
    pid = await in_reserve(layout)
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
        "    Standby(Layout(Path(sys.argv[1]))).prepare()\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(layout.data), env={**os.environ, **path}
    )
    pid = await in_reserve(layout)
    supervisor.kill()
    await supervisor.wait()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "the stand-by has gone, too", within_s=LIBRARIES_S)
