"""Clients that misbehave, as a process of their own, so that whoever measures beside them shares no loop with them.

`python -m tests.faults.rude NAME PORT ROOM` goes on until its standard input ends; then it prints how often it did it.
All chance may be what it likes: nothing here is judged, only what others notice.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.websocket import UPGRADE, masked

ROOT = Path(__file__).resolve().parents[2]
RECEIVE_BYTES = 4_096
"""Of the sockets that are not read: the kernel must not read for them."""
BODY = b"x" * 4_000
RESETS_PER_S = 50.0
CONNECTS_PER_S = 200.0
HANGING = 100
UNREAD = 20
POSTS_PER_S = 50.0
LOOK_S = 0.5
BYTE_S = 0.005
READY = b"ready\n"


def connect_frame(login: str = "rude") -> bytes:
    """A CONNECT without heart-beats, as a WebSocket frame."""
    return masked(b"CONNECT\naccept-version:1.2\nheart-beat:0,0\nlogin:%s\n\n\0" % login.encode())


CONNECT = connect_frame()


def post(room: str, body: bytes = BODY, headers: bytes = b"") -> bytes:
    """A SEND as a WebSocket frame."""
    return masked(b"SEND\ndestination:/room/%s\n%s\n" % (room.encode(), headers) + body + b"\0")


class Socket:
    """A bare socket: what is not asked for is not read."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.bare = socket.socket()
        self.bare.setblocking(False)
        self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)

    async def open(self, port: int) -> None:
        """Connect, without a byte."""
        await self._loop.sock_connect(self.bare, ("127.0.0.1", port))

    async def write(self, data: bytes) -> None:
        """All of it."""
        await self._loop.sock_sendall(self.bare, data)

    async def read(self, most: int = 65_536) -> bytes:
        """What has come; empty at the end."""
        return await self._loop.sock_recv(self.bare, most)

    async def connect(self, port: int, login: str = "rude") -> None:
        """Up to CONNECTED; raises `ConnectionResetError` when that is refused."""
        await self.open(port)
        await self.write(UPGRADE)
        await self.until(b"\r\n\r\n")
        await self.write(connect_frame(login))
        await self.until(b"CONNECTED\n")

    async def until(self, wanted: bytes) -> bytes:
        """Read until `wanted` has come; raises `ConnectionResetError` when it does not."""
        seen = b""
        while wanted not in seen:
            data = await self.read()
            if not data:
                raise ConnectionResetError(f"closed after {seen[-200:]!r}")
            seen += data
        return seen

    def reset(self) -> None:
        """RST instead of FIN: what is on its way is thrown away at both ends."""
        self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.bare.close()

    async def until_closed(self) -> None:
        """Return when the server has ended it, without reading."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                await self.write(masked(b"\n"))
        except OSError:
            pass


@asynccontextmanager
async def opened() -> AsyncIterator[Socket]:
    """A socket that is reset at the end."""
    made = Socket()
    try:
        yield made
    finally:
        made.reset()


# ---------------------------------------------------------------- one rude thing, once


async def reset_in_a_send(port: int, room: str) -> None:
    """The connection is reset at a random byte of a SEND."""
    async with opened() as client:
        await client.connect(port)
        frame = post(room, headers=b"receipt:r\n")
        await client.write(frame[: random.randrange(len(frame) + 1)])


async def hang(port: int, room: str) -> None:
    """Some first part of what a client says, and then nothing."""
    parts = (UPGRADE, CONNECT, post(room))
    whole = random.randrange(len(parts))
    said = b"".join(parts[:whole]) + parts[whole][: random.randrange(len(parts[whole]))]
    async with opened() as client:
        await client.open(port)
        await client.write(said)
        while await client.read():
            pass


async def leave_unread(port: int, room: str) -> None:
    """A subscription to a busy room, and nobody reads."""
    async with opened() as client:
        await client.connect(port)
        await client.write(masked(b"SUBSCRIBE\nid:0\ndestination:/room/%s\n\n\0" % room.encode()))
        await client.until_closed()


async def leave_history_unread(port: int, room: str) -> None:
    """Everything from the first event on, and nobody reads."""
    async with opened() as client:
        await client.connect(port)
        await client.write(masked(b"SUBSCRIBE\nid:0\ndestination:/room/%s\nx-from-seq:1\n\n\0" % room.encode()))
        await client.until_closed()


async def read_bytewise(port: int, room: str) -> None:
    """A subscription that is read byte by byte."""
    async with opened() as client:
        await client.connect(port)
        await client.write(masked(b"SUBSCRIBE\nid:0\ndestination:/room/%s\n\n\0" % room.encode()))
        while await client.read(1):
            await asyncio.sleep(BYTE_S)


async def come_and_go(port: int, room: str) -> None:
    """A CONNECT, and whatever the answer is."""
    del room
    async with opened() as client:
        await client.open(port)
        await client.write(UPGRADE + CONNECT)
        await client.until(b"\0")


Once = Callable[[int, str], Awaitable[None]]

# ---------------------------------------------------------------- again and again


class Rudeness:
    """One kind of misbehaviour that goes on."""

    def __init__(self, once: Once, at_once: int, per_s: float = 0.0, posts_per_s: float = 0.0) -> None:
        """`at_once` clients, each of which does it again when it is over; `per_s` bounds how often, all together.

        `posts_per_s`: a client that behaves posts into the room, so that there is something to read.
        """
        self._once = once
        self._at_once = at_once
        self._every_s = at_once / per_s if per_s else 0.0
        self._posts_per_s = posts_per_s
        self.times = 0

    async def run(self, port: int, room: str) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._again(port, room))
            if self._posts_per_s:
                group.create_task(self._post(port, room))

    async def _again(self, port: int, room: str) -> None:
        # Not all in the same instant.
        await asyncio.sleep(random.random() * self._every_s)
        while True:
            self.times += 1
            try:
                await asyncio.gather(self._once(port, room), asyncio.sleep(self._every_s))
            except OSError:
                await asyncio.sleep(0.05)  # who is refused comes back, but not at once

    async def _post(self, port: int, room: str) -> None:
        async with opened() as client:
            await client.connect(port)
            while True:
                await client.write(post(room))
                await asyncio.sleep(1 / self._posts_per_s)


KINDS: dict[str, Callable[[], Rudeness]] = {
    "resets": lambda: Rudeness(reset_in_a_send, 10, RESETS_PER_S),
    "half-frames": lambda: Rudeness(hang, HANGING),
    "unread": lambda: Rudeness(leave_unread, UNREAD, posts_per_s=POSTS_PER_S),
    "bytewise": lambda: Rudeness(read_bytewise, UNREAD, posts_per_s=POSTS_PER_S),
    "unread-history": lambda: Rudeness(leave_history_unread, UNREAD),
    "connects": lambda: Rudeness(come_and_go, 20, CONNECTS_PER_S),
}


@asynccontextmanager
async def rude(kind: str, port: int, room: str) -> AsyncIterator[None]:
    """A process of that kind, which has begun, for the body of the `async with`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.rude",
        kind,
        str(port),
        room,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == READY
        yield
        assert process.returncode is None, f"{kind} ended by itself"
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def main(kind: str, port: int, room: str) -> None:
    """Go on until standard input ends."""
    running = asyncio.create_task(KINDS[kind]().run(port, room))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    reading = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    await asyncio.wait({running, reading}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
