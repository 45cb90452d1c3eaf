"""Events per second of `verify` over one clean room of a million, beside a loop that only reads the log. `make bench`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agents.verify import Audit
from chat.log.taking import START
from chat.log.walking import Walk
from tests.bench.measure import Figure, report
from tests.engines import Namespace
from tests.eventlog import EventLog, post
from tests.stored import StoredLog

EVENTS = 1_000_000
AT_ONCE = 10_000
BODY = "hello there, this is a message of the usual length. " * 2
REPETITIONS = 3

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


async def fill(log: StoredLog, room: str) -> None:
    """A room of `EVENTS` messages in the log and in both stores."""
    for start in range(0, EVENTS, AT_ONCE):
        events = await EventLog.commands(
            log, (post(room, body=BODY, client_id=f"{n}") for n in range(start, start + AT_ONCE))
        )
        await log.store(events)
    await log.committed()


async def verified(log: StoredLog, room: str) -> tuple[int, Any]:
    audit = Audit(log.settings, room=room)
    try:
        await audit.connect()
        summary = await audit.run(60)
    finally:
        await audit.stop()
    assert (summary.status, [str(finding) for finding in summary.findings]) == (0, [])
    return summary.events, summary


async def only_read(log: StoredLog, room: str) -> tuple[int, Any]:
    partition = log.partition(room)
    taken = 0
    async for records in Walk(log.settings, partition, START, log.offsets[partition] + 1):
        taken += len(records)
    return taken, None


async def test_events_per_second_of_a_clean_room_of_a_million(topics: Namespace, keyspace: Namespace) -> None:
    per_s: dict[str, list[float]] = {"ours": [], "bare": []}
    us: dict[str, list[float]] = {"ours": [], "bare": []}
    async with StoredLog(topics.settings()) as log:
        await fill(log, "lobby")
        for _ in range(REPETITIONS):
            for who, work in (("ours", verified), ("bare", only_read)):
                started, cpu = time.monotonic(), time.process_time()
                count, _summary = await work(log, "lobby")
                per_s[who].append(count / (time.monotonic() - started))
                us[who].append((time.process_time() - cpu) / count * 1e6)
    print(
        report(
            [
                Figure("verify, one room: wall", "events/s", per_s["ours"], per_s["bare"]),
                Figure("verify, one room: CPU per event", "us", us["ours"], us["bare"]),
            ],
            events=EVENTS,
        )
    )
