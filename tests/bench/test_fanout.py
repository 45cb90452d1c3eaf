"""CPU of the gateway per delivery, beside a bare aiohttp loop that fans out the same bytes. `make bench`."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.bench import listeners
from tests.bench.measure import Figure, cpu_s, report
from tests.engines import Workers, eventually, free_ports

SUBSCRIBERS = 500
MESSAGES = 500
PER_S = 50.0
BODY = b"x" * 100
REPETITIONS = 5

pytestmark = pytest.mark.bench


async def once(port: int, pid: int, room: str, *, receipts: bool) -> float:
    """Microseconds of CPU per delivery; fails on a loss, a repeat or a swap."""
    people = await listeners.connect(port, SUBSCRIBERS, room, receipts=receipts)
    try:
        before = cpu_s(pid)
        await listeners.publish(people, room, MESSAGES, PER_S, BODY)
        used = cpu_s(pid) - before
        assert all(person.messages == MESSAGES for person in people)
        for person in people[:: listeners.ORDER_SAMPLE]:
            seqs = person.seqs()
            assert seqs == list(range(seqs[0], seqs[0] + MESSAGES))
    finally:
        for person in people:
            person.transport.abort()
    return used / (SUBSCRIBERS * MESSAGES) * 1e6


async def test_fanout_beside_a_bare_loop(worker: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    gateway, *_ = await worker.together("gateway", "sequencer", connects_per_s=100_000)
    port = free_ports()
    bare = subprocess.Popen([sys.executable, str(Path(__file__).with_name("bare_fanout.py")), str(port)])
    ours_us: list[float] = []
    bare_us: list[float] = []
    try:

        def answers() -> bool:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        await eventually(lambda: asyncio.to_thread(answers), "the bare loop")
        for i in range(REPETITIONS):
            ours_us.append(await once(gateway.port, gateway.pid, f"bench{i}", receipts=True))
            bare_us.append(await once(port, bare.pid, f"bench{i}", receipts=False))
    finally:
        bare.kill()
        bare.wait()
    own = resource.getrusage(resource.RUSAGE_SELF)
    figure = Figure("gateway fan-out", "us of CPU per delivery", ours_us, bare_us)
    with capsys.disabled():
        print(
            report(
                [figure],
                subscribers=SUBSCRIBERS,
                messages_per_s=PER_S,
                generator_us=round((own.ru_utime + own.ru_stime) / (2 * REPETITIONS * SUBSCRIBERS * MESSAGES) * 1e6, 2),
            )
        )
    assert figure.ratio < 3
