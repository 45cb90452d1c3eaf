"""Clients that break off, hang, read nothing or come all at once: nothing is lost, and nobody else pays for it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.conformance.wire import Closed, Peer, connected, upgraded
from tests.engines import Worker, Workers, eventually, in_thread
from tests.faults.bystander import Bystander, Chat, Memory
from tests.faults.clients import LARGE_BYTES, beside, fill, resend_over_resets
from tests.faults.rude import LOOK_S, opened
from tests.websocket import UPGRADE, masked

CONNECT_TIMEOUT_S = 1.0
OUTBOX_AGE_S = 2.0
CONNECTS_PER_S = 20
CONNECTIONS_MAX = 30
GENEROUS = 20.0
"""A ratio of p50s that only a stalled gateway reaches: the machine that runs this does other things too."""
UNREAD = 40
UNREAD_MIB = 2.0
"""Memory of the gateway for each client that does not read: its outbox (1 MiB) and a page of history."""

_Workers = dict[str, Worker]


@pytest.fixture(scope="module")
def workers(module_worker: Workers) -> _Workers:
    """A gateway with short times, one with few places, and what stands behind them."""

    async def start() -> _Workers:
        brisk = {"connect_timeout_s": CONNECT_TIMEOUT_S, "outbox_age_s": OUTBOX_AGE_S, "heart_beat_ms": 1_000}
        few = {"connects_per_s": CONNECTS_PER_S, "connections_max": CONNECTIONS_MAX}
        made = {
            "brisk": await module_worker("gateway", start=False, **brisk),
            "few": await module_worker("gateway", start=False, **few),
        }
        for role in ("sequencer", "archiver", "projector"):
            made[role] = await module_worker(role, start=False)
        await asyncio.gather(*(worker.start() for worker in made.values()))
        return made

    started: _Workers = in_thread(start())
    return started


@pytest.fixture
def brisk(workers: _Workers) -> Worker:
    return workers["brisk"]


async def refusal_of(peer: Peer) -> tuple[str, int]:
    """The code of the ERROR that ends a connection, and of its close frame."""
    error = await peer.find("ERROR")
    return error.headers["error-code"], await peer.closed()


# ---------------------------------------------------------------- resets


async def test_500_resets_with_resend_lose_nothing_and_double_nothing(brisk: Worker) -> None:
    done = await resend_over_resets(
        brisk.port, "resets", people=10, messages=25, resets=2, chance=random.Random(random.random())
    )
    assert 0 < sum(resender.repeated for resender in done) < 250


# ---------------------------------------------------------------- half frames


@pytest.mark.parametrize("said", [b"", UPGRADE[:40]], ids=["nothing", "half-an-upgrade"])
async def test_a_socket_that_never_finishes_its_request_is_closed(brisk: Worker, said: bytes) -> None:
    async with opened() as client:
        await client.open(brisk.port)
        await client.write(said)
        async with asyncio.timeout(CONNECT_TIMEOUT_S * 4):
            assert await client.read() == b""


@pytest.mark.parametrize("said", [b"", b"CONNECT\naccept-ver"], ids=["nothing", "half-a-connect"])
async def test_who_does_not_finish_its_connect_is_told_so_and_closed(brisk: Worker, said: bytes) -> None:
    async with upgraded(brisk.port) as peer:
        if said:
            await peer.ws(0x1, said, fin=False)
        assert await refusal_of(peer) == ("connect_timeout", 1002)


@pytest.mark.parametrize("beats", ["1000,0", "0,0"])
async def test_who_hangs_in_the_middle_of_a_send_is_closed_when_it_is_not_heard(brisk: Worker, beats: str) -> None:
    async with connected(brisk.port, beats=beats) as peer:
        peer.auto_pong = False
        peer._writer.write(masked(b"SEND\ndestination:/room/hung\n\nhalf a body\0")[:30])
        assert await refusal_of(peer) == ("heart_beat_missed", 4008)
    async with connected(brisk.port) as peer:
        await peer.send("SUBSCRIBE", id="0", destination="/room/hung", receipt="s")
        assert (await peer.receipt("s")).headers["x-head-seq"] == "0"


# ---------------------------------------------------------------- clients that do not read


async def test_a_long_history_for_those_who_do_not_read_takes_little_memory_and_ends_them(brisk: Worker) -> None:
    room = "large"
    await fill(brisk.port, room, 150, LARGE_BYTES)
    memory = Memory({"gateway": brisk.pid})

    async def ask_and_not_read() -> None:
        async with opened() as client:
            await client.connect(brisk.port)
            await client.write(masked(b"SUBSCRIBE\nid:0\ndestination:/room/large\nx-from-seq:1\n\n\0"))
            await client.until_closed()

    async with asyncio.timeout(OUTBOX_AGE_S * 3 + 10 + LOOK_S):
        watching = asyncio.create_task(memory.watch())
        await asyncio.gather(*(ask_and_not_read() for _ in range(UNREAD)))
        watching.cancel()
    assert memory.grown("gateway") < UNREAD * UNREAD_MIB


@pytest.mark.parametrize("kind", ["resets", "half-frames", "unread", "bytewise"])
async def test_somebody_who_only_chats_does_not_suffer_from_rude_clients(workers: _Workers, kind: str) -> None:
    brisk = workers["brisk"]
    pids = {name: worker.pid for name, worker in workers.items()}
    found = await beside(kind, brisk.port, pids, rounds=1, seconds=1.5, room=f"rude-{kind}")
    assert found.comparison.receipt_ratio < GENEROUS, str(found)
    assert found.comparison.message_ratio < GENEROUS, str(found)
    assert all(found.memory.grown(name) < 100 for name in pids), str(found)


# ---------------------------------------------------------------- a flood of connects


async def test_connects_beyond_the_rate_and_the_maximum_are_refused_with_a_code_and_others_go_on(
    workers: _Workers,
) -> None:
    few = workers["few"]
    bystander = await Bystander.connect(few.ws, "flooded")
    chat = Chat()
    outcomes: list[Any] = []
    enough = asyncio.Event()

    async def come() -> None:
        async with upgraded(few.port) as peer:
            try:
                await peer.send("CONNECT", accept_version="1.2", login="flood")
                first = await peer.next()
                outcomes.append(first.headers.get("error-code", first.command))
                if first.command == "ERROR":
                    assert await peer.closed() == 4029
                else:
                    await enough.wait()
            except Closed as closed:
                outcomes.append(closed.code)

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(come())
        await bystander.say(chat)
        await eventually(lambda: len(outcomes) == 100, "an answer for everybody")
        enough.set()
    await bystander.say(chat)
    assert outcomes.count("CONNECTED") <= CONNECTIONS_MAX
    assert set(outcomes) <= {"CONNECTED", "too_many_connections", 4029}
    assert outcomes.count("CONNECTED") < 100
    # Those who left have left their places, and a second later others may come.
    await asyncio.sleep(1.0)
    async with connected(few.port) as peer:
        assert peer.connected is not None
