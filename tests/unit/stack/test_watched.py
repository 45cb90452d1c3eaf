"""A watched process, with small Python programs in the place of workers."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.layout import Layout
from stack.processes import end_orphans, orphans
from stack.watched import FREE_RESTARTS, Service, Watched
from tests.engines import eventually

RESTART_S = 0.2
"""What the design promises from a death to the next start."""


class Told:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, text: str) -> None:
        self.lines.append((name, text))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data folder")
    layout.make()
    return layout


@pytest.fixture
def told() -> Told:
    return Told()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def always() -> bool:
    return True


async def never() -> bool:
    return False


def service(program: str, *, ready: bool = True, stop_within_s: float = 5.0) -> Service:
    return Service(
        name="role",
        argv=(sys.executable, "-c", program),
        env={},
        probe=always if ready else never,
        address="nowhere",
        ready_within_s=20.0,
        stop_within_s=stop_within_s,
    )


SLEEPS = "import signal; signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


@pytest.fixture
async def watch(layout: Layout, told: Told) -> AsyncIterator[object]:
    started: list[Watched] = []

    async def start(described: Service) -> Watched:
        watched = Watched(described, layout, told)
        started.append(watched)
        await eventually(lambda: watched.pid, "the process is started")
        return watched

    yield start
    for watched in started:
        await watched.stop()


async def test_a_killed_process_is_back_at_once_and_its_pid_file_tells_the_new_one(watch, layout: Layout) -> None:
    watched = await watch(service(SLEEPS))
    for _ in range(3):
        before = watched.pid
        killed_at = time.monotonic()
        os.kill(before, signal.SIGKILL)
        await eventually(lambda old=before: watched.pid not in (None, old), "it is started again", every_s=0.001)
        assert time.monotonic() - killed_at < RESTART_S
        assert int(layout.pid("role").read_text()) == watched.pid
    assert watched.restarts == 3


async def test_stop_ends_the_process_and_removes_its_pid_file(watch, layout: Layout) -> None:
    watched = await watch(service(SLEEPS))
    pid = watched.pid
    await watched.stop()
    assert not alive(pid)
    assert not layout.pid("role").exists()


async def test_a_process_that_does_not_hear_sigterm_is_killed_after_its_time(watch, layout: Layout, told: Told) -> None:
    watched = await watch(service(DEAF, stop_within_s=0.3))
    await eventually(lambda: b"deaf" in layout.log("role").read_bytes(), "it ignores SIGTERM")
    pid = watched.pid
    await watched.stop()
    assert not alive(pid)
    assert ("role", "did not stop within 0 s: killed") in told.lines


async def test_a_process_that_dies_at_its_start_fails_it_with_the_end_of_its_log(watch, layout: Layout) -> None:
    watched = await watch(service("import sys; sys.exit('roomlog: the reason')", ready=False))
    with pytest.raises(StackError) as caught:
        await watched.ready()
    assert "role does not start" in str(caught.value)
    assert str(layout.log("role")) in str(caught.value)
    assert "roomlog: the reason" in str(caught.value)


async def test_a_process_that_cannot_live_is_not_started_in_a_busy_loop(watch, told: Told) -> None:
    watched = await watch(service("raise SystemExit(70)"))
    await eventually(lambda: any(", again in 0.5 s" in text for _, text in told.lines), "it pauses")
    assert watched.restarts == FREE_RESTARTS + 1


async def test_stop_does_not_wait_for_the_pause_of_a_process_that_cannot_live(watch, told: Told) -> None:
    watched = await watch(service("raise SystemExit(70)"))
    await eventually(lambda: any(", again in 2.0 s" in text for _, text in told.lines), "it pauses for longer")
    began = time.monotonic()
    await watched.stop()
    assert time.monotonic() - began < 1.0


async def test_a_program_that_is_not_there_is_one_line(layout: Layout, told: Told) -> None:
    gone = Service("role", (str(layout.data / "no-such-program"),), {}, never, "nowhere", 5.0, 1.0)
    watched = Watched(gone, layout, told)
    with pytest.raises(StackError, match=r"role: cannot run .*No such file"):
        await watched.ready()


async def test_what_a_killed_supervisor_left_is_known_by_its_mark_and_ended(watch, layout: Layout) -> None:
    watched = await watch(service(SLEEPS))
    pid = watched.pid
    await eventually(lambda: [o.pid for o in orphans(layout.data)] == [pid], "the process carries the mark")
    assert orphans(layout.data.parent) == []
    ended = await asyncio.to_thread(end_orphans, layout.data, 5.0)
    assert [(orphan.pid, orphan.name) for orphan in ended] == [(pid, "role")]
    await eventually(lambda: watched.pid not in (None, pid), "its own supervisor starts it again")
