"""Frames that clients send: what it costs to read one and to do what it asks for, in this process, without any socket.

The gateway's own classes do it: chat.stomp.connection reads, web.dispatch handles, web.hub and chat.log.commands take
the result as far as the batch for Kafka. What is missing is the socket before and the producer behind.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from chat.log.commands import CommandLog
from chat.settings import Settings, load
from chat.stomp.connection import ServerConnection
from chat.stomp.limits import Limits
from tests.bench.bare.frames import read
from tests.bench.bench import Bench
from tests.bench.figures import Reach
from tests.bench.measure import Run
from web.connection import Connection
from web.dispatch import Dispatch
from web.hub import Hub
from web.inflight import InFlight

FRAMES: Final = 20_000
AT_ONCE: Final = 100
"""Frames between two turns of the loop, in which what they queued is dropped."""

SEND: Final = (
    b"SEND\ndestination:/room/bench\nreceipt:r-%d\nx-client-id:c-%d\ncontent-type:text/plain\ncontent-length:100\n\n"
    + b"x" * 100
    + b"\0"
)
SUBSCRIBE: Final = b"SUBSCRIBE\nid:%d\ndestination:/room/bench-%d\nreceipt:r-%d\n\n\0"
UNSUBSCRIBE: Final = b"UNSUBSCRIBE\nid:%d\n\n\0"
ACK: Final = b"ACK\nid:%s\n\n\0"


class _Producer:
    """Takes nothing: the batches are counted out before they would be built."""


def _connection(settings: Settings) -> tuple[Connection, Any]:
    gateway: Any = SimpleNamespace(
        settings=settings,
        limits=Limits.from_settings(settings),
        server_name="bench",
        now=time.monotonic,
        wheel_s=0.5,
        in_flight=InFlight(per_connection=1 << 40, per_user_room=1 << 40),
    )
    gateway.commands = CommandLog(
        _Producer,  # type: ignore[arg-type]
        "commands",
        settings.partitions,
        timeout_s=1e9,
        limit=1 << 40,
        bytes_max=1 << 40,
        clock=time.monotonic,
    )
    gateway.hub = Hub(gateway.commands, None, creates_on_first_use=True)  # type: ignore[arg-type]
    gateway.dispatch = Dispatch(gateway)
    transport = SimpleNamespace(
        write=lambda _: None, get_write_buffer_size=lambda: 0, is_closing=lambda: False, close=lambda: None
    )
    connection = Connection(gateway, SimpleNamespace(transport=transport), None, "bench")  # type: ignore[arg-type]
    connection.user = "bench"  # type: ignore[assignment]
    _connect(connection.protocol)
    return connection, gateway


def _connect(protocol: ServerConnection) -> None:
    protocol.receive_data(b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0")
    protocol.send_connected("bench", "bench", "")


def _ours(settings: Settings, frames: list[bytes], prepare: Callable[[Connection], None]) -> float:
    """Seconds of CPU for all frames."""
    connection, gateway = _connection(settings)
    prepare(connection)
    used = 0.0
    for start in range(0, len(frames), AT_ONCE):
        some = frames[start : start + AT_ONCE]
        before = time.process_time()
        for data in some:
            for event in connection.protocol.receive_data(data):
                if gateway.dispatch.admits(connection, event):
                    gateway.dispatch.handle(connection, event)
        used += time.process_time() - before
        # Nobody answers here: what waits is dropped, outside the measured time.
        for sender in gateway.commands._senders.values():
            sender.cancel()
        gateway.commands._senders.clear()
        gateway.commands._queues.clear()
        gateway.commands._waiting.clear()
        gateway.hub._watches.clear()
        connection.outbox.clear()
    return used


def _bare(frames: list[bytes]) -> float:
    before = time.process_time()
    for data in frames:
        read(data)
    return time.process_time() - before


def _measured(bench: Bench, work: Callable[[], float]) -> Run:
    meter = bench.meter()
    gc.collect()
    seconds = work()
    return meter.stop(FRAMES, us=seconds / FRAMES * 1e6)


def _acks(frames: list[bytes], count: int, connection: Connection) -> None:
    """Into `frames`: ACKs of `count` messages of one subscription in client-individual mode."""
    (subscribe,) = connection.protocol.receive_data(
        b"SUBSCRIBE\nid:0\ndestination:/room/bench\nack:client-individual\n\n\0"
    )
    window = subscribe.window  # type: ignore[union-attr]
    assert window is not None
    frames.extend(ACK % window.sent("bench", seq).encode() for seq in range(1, count + 1))


async def inbound(bench: Bench) -> None:
    """SEND, SUBSCRIBE and ACK: CPU per frame to read and dispatch it, beside splitting it into headers"""
    settings = load({})
    wide = load({"ROOMLOG_ACK_WINDOW": "10000", "ROOMLOG_SUBSCRIPTIONS_MAX": "10000"})
    sends = [SEND % (n, n) for n in range(FRAMES)]
    subscribes = [frame for n in range(FRAMES // 2) for frame in (SUBSCRIBE % (n, n % 1000, n), UNSUBSCRIBE % n)]

    def acks() -> float:
        used = 0.0
        for _ in range(2):  # as many as a window is wide
            frames: list[bytes] = []
            used += _ours(wide, frames, partial(_acks, frames, FRAMES // 2))
        return used

    async def side(work: Callable[[], float]) -> Run:
        await asyncio.sleep(0)
        return _measured(bench, work)

    for name, ours, bare in (
        ("SEND", lambda: _ours(settings, sends, lambda _: None), sends),
        ("SUBSCRIBE, UNSUBSCRIBE", lambda: _ours(wide, subscribes, lambda _: None), subscribes),
        ("ACK", acks, [ACK % b"1-%d" % n for n in range(FRAMES)]),
    ):
        runs = await bench.interleave(
            {
                f"ours, {name}": lambda ours=ours: side(ours),
                f"bare, {name}": lambda bare=bare: side(lambda: _bare(bare)),
            }
        )
        of_ours, of_bare = runs.values()
        bench.figure(
            f"inbound, {name}: CPU per frame", "us", lambda run: run.values["us"], of_ours, of_bare, reach=Reach(15)
        )
    bench.conditions = {"frames": FRAMES, "body_bytes": 100}
