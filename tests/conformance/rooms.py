"""What clients do in rooms, in as few words as the tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conformance.wire import Frame, Peer, connected, frame


def numbers(frames: list[Frame]) -> list[int]:
    return [one.seq for one in frames]


async def subscribe(peer: Peer, room: str, sid: str = "s", **headers: str) -> Frame:
    """Subscribe and wait for the RECEIPT; nothing else may come before it."""
    await peer.send("SUBSCRIBE", id=sid, destination=f"/room/{room}", receipt=f"sub-{sid}", **headers)
    return await peer.expect("RECEIPT", receipt_id=f"sub-{sid}")


async def post(peer: Peer, room: str, body: str = "hi", **headers: str) -> Frame:
    """Send and wait for the RECEIPT, whatever comes before it."""
    await peer.send("SEND", body, destination=f"/room/{room}", receipt=f"post-{body}", **headers)
    return await peer.receipt(f"post-{body}")


async def fill(port: int, room: str, count: int, user: str = "filler") -> None:
    """`count` events more in a room."""
    async with connected(port, user) as peer:
        data = [frame("SEND", {"destination": f"/room/{room}", "receipt": str(n)}, str(n)) for n in range(1, count + 1)]
        await peer.text(b"".join(data))
        await peer.receipt(str(count))


@asynccontextmanager
async def traffic(port: int, room: str) -> AsyncIterator[None]:
    """Somebody who posts into the room all the time."""
    async with connected(port, "busy") as writer:

        async def write() -> None:
            while True:
                await post(writer, room, "more")

        task = asyncio.create_task(write())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
