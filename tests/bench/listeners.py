"""A load generator that is cheaper than what it measures: one protocol object a connection, no parsing.

It counts MESSAGE frames by their first line and remembers nothing else; losses show in the count. The order is checked on
one connection in `ORDER_SAMPLE`, by the numbers of the frames that it gets.
"""

from __future__ import annotations

import asyncio
import re
import time

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ORDER_SAMPLE = 50
_SEQ = re.compile(rb"x-seq:(\d+)\n")


def masked(payload: bytes) -> bytes:
    """A client's text frame with a mask of zeros."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0x80 | 126)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Listener(asyncio.Protocol):
    """One subscriber."""

    def __init__(self, *, keeps_order: bool) -> None:
        self.transport: asyncio.Transport
        self.upgraded = asyncio.get_running_loop().create_future()
        self.subscribed = asyncio.get_running_loop().create_future()
        self.messages = 0
        self._kept = bytearray() if keeps_order else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        if not self.upgraded.done():
            self.upgraded.set_result(None)
            return
        if not self.subscribed.done() and b"receipt-id" in data:
            self.subscribed.set_result(None)
        self.messages += data.count(b"MESSAGE\n")
        if self._kept is not None:
            self._kept += data

    def seqs(self) -> list[int]:
        """Numbers of the frames so far, on a connection that keeps its bytes."""
        assert self._kept is not None
        return [int(seq) for seq in _SEQ.findall(bytes(self._kept))]


async def connect(port: int, count: int, room: str, *, receipts: bool) -> list[Listener]:
    """`count` subscribers of `room`; with `receipts` each has its RECEIPT when this returns."""
    loop = asyncio.get_running_loop()
    listeners = []
    for i in range(count):
        _, listener = await loop.create_connection(
            lambda i=i: Listener(keeps_order=i % ORDER_SAMPLE == 0), "127.0.0.1", port
        )
        await listener.upgraded
        listener.transport.write(
            masked(b"CONNECT\naccept-version:1.2\nheart-beat:0,0\nlogin:u%d\n\n\0" % i)
            + masked(b"SUBSCRIBE\nid:0\ndestination:/room/%s\nreceipt:s\n\n\0" % room.encode())
        )
        listeners.append(listener)
    if receipts:
        async with asyncio.timeout(60):
            await asyncio.gather(*(listener.subscribed for listener in listeners))
    return listeners


async def publish(listeners: list[Listener], room: str, messages: int, per_s: float, body: bytes) -> float:
    """Send `messages` at an even rate, from all in turn; the wall time until everybody has all, in seconds."""
    started = time.perf_counter()
    data = masked(b"SEND\ndestination:/room/%s\n\n" % room.encode() + body + b"\0")
    for n in range(messages):
        due = started + n / per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        listeners[n % len(listeners)].transport.write(data)
    async with asyncio.timeout(60):
        while any(listener.messages < messages for listener in listeners):
            await asyncio.sleep(0.02)
    return time.perf_counter() - started
