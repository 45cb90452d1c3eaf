"""People who chat while things break: a writer that resends what was not receipted, a reader that resumes by seq.

Both do exactly what docs/protocol.md asks of a client, over real sockets, and write down everything that they are told,
so that a test can compare the accounts of all of them. Neither sleeps to wait for a server: a failed connect is repeated
until a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import websockets
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect

from chat.stomp.client import ClientConnection
from chat.stomp.frames import Frame

DEADLINE_S = 90.0
RECONNECT_S = 0.02

Address = Callable[[], str]
"""Where to connect to; asked anew for each attempt, so that people can move to another gateway."""


_lines: list[Line] = []


async def hang_up() -> None:
    """Close every connection that a test has left open."""
    lines = list(_lines)
    _lines.clear()
    for line in lines:
        line.socket.transport.abort()
        await line.socket.wait_closed()


class Line:
    """One connection, CONNECTED."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.stomp = ClientConnection()
        self._frames: list[Frame] = []

    async def next(self) -> Frame:
        """The next frame; raises `ConnectionClosed` at the end."""
        while not self._frames:
            data = await self.socket.recv()
            self._frames += self.stomp.receive_data(data.encode() if isinstance(data, str) else data)
        return self._frames.pop(0)

    async def until(self, command: str, **headers: str) -> Frame:
        """The next frame of this kind; those before it are dropped."""
        while True:
            frame = await self.next()
            if frame.command == command and all(
                frame.headers.get(name.replace("_", "-")) == value for name, value in headers.items()
            ):
                return frame

    async def write(self, *frames: bytes) -> None:
        """Send frames as one text message."""
        await self.socket.send(b"".join(frames).decode())


async def dial(address: Address, login: str, deadline: float | None = None) -> Line:
    """Connect, again and again until the deadline."""
    deadline = deadline or time.monotonic() + DEADLINE_S
    while True:
        try:
            socket = await connect(address(), compression=None, max_size=None, open_timeout=5, ping_interval=None)
            line = Line(socket)
            _lines.append(line)
            await line.write(line.stomp.connect(login=login))
            await line.until("CONNECTED")
        except (OSError, websockets.WebSocketException, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{login} could not connect: {error!r}") from error
            await asyncio.sleep(RECONNECT_S)
        else:
            return line


@dataclass
class Writer:
    """Posts `count` messages to a room, each with a client id; what was not receipted is sent again, in order."""

    address: Address
    login: str
    room: str
    count: int
    in_flight: int = 20
    per_s: float = 0.0
    receipts: dict[int, int] = field(default_factory=dict)
    """Number of the message to the seq that its RECEIPT said."""
    duplicates: int = 0
    reconnects: int = -1
    silences: list[float] = field(default_factory=list)

    async def run(self) -> None:
        began = time.monotonic()
        while len(self.receipts) < self.count:
            line = await dial(self.address, self.login)
            self.reconnects += 1
            with suppress(websockets.ConnectionClosed):
                await self._write(line, began)
                await line.socket.close()
            assert time.monotonic() - began < DEADLINE_S + self.count / (self.per_s or 1e9), (
                f"{self.login}: {len(self.receipts)} of {self.count} receipted"
            )

    async def _write(self, line: Line, began: float) -> None:
        waiting = [n for n in range(self.count) if n not in self.receipts]
        open_now: set[int] = set()
        heard = time.monotonic()
        while waiting or open_now:
            while waiting and len(open_now) < self.in_flight:
                n = waiting[0]
                if self.per_s and time.monotonic() < began + n / self.per_s and open_now:
                    break
                if self.per_s:
                    await asyncio.sleep(max(0.0, began + n / self.per_s - time.monotonic()))
                waiting.pop(0)
                open_now.add(n)
                await line.write(
                    line.stomp.send(
                        f"/room/{self.room}",
                        f"{self.login} {n}",
                        headers={"x-client-id": f"{self.login}-{n}"},
                        receipt=str(n),
                    )
                )
            frame = await line.next()
            if frame.command == "ERROR":
                raise websockets.ConnectionClosedOK(None, None)
            now = time.monotonic()
            self.silences.append(now - heard)
            heard = now
            if frame.command == "RECEIPT":
                n = int(frame.headers["receipt-id"])
                seq = int(frame.headers["x-seq"])
                assert self.receipts.setdefault(n, seq) == seq, f"{self.login} {n} was receipted with two numbers"
                open_now.discard(n)
                self.duplicates += "x-duplicate" in frame.headers


@dataclass
class Reader:
    """Follows a room from seq 1 on, resuming after every break; keeps (seq, body) in the order of arrival."""

    address: Address
    login: str
    room: str
    seen: list[tuple[int, str]] = field(default_factory=list)
    reconnects: int = -1

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            line = await dial(self.address, self.login)
            self.reconnects += 1
            with suppress(websockets.ConnectionClosed):
                after = self.seen[-1][0] if self.seen else 0
                await line.write(
                    line.stomp.subscribe(f"/room/{self.room}", "0", headers={"x-after-seq": str(after)}, receipt="s")
                )
                while True:
                    frame = await line.next()
                    if frame.command == "MESSAGE":
                        self.seen.append((int(frame.headers["x-seq"]), frame.body.decode()))
                    elif frame.command == "ERROR":
                        break

    async def until(self, seq: int, within_s: float = DEADLINE_S) -> None:
        """Wait until `seq` has arrived."""
        deadline = time.monotonic() + within_s
        while not self.seen or self.seen[-1][0] < seq:
            assert time.monotonic() < deadline, (
                f"{self.login} has {self.seen[-1:]} and waits for seq {seq} of {self.room}"
            )
            await asyncio.sleep(0.02)


def audit(writers: Sequence[Writer], readers: Sequence[Reader]) -> None:
    """Compare all accounts of one room: dense, once, in one order, and as the RECEIPTs said."""
    first = readers[0].seen
    seqs = [seq for seq, _ in first]
    assert seqs == list(range(1, len(seqs) + 1)), _first_break(seqs)
    for reader in readers[1:]:
        assert reader.seen == first, f"{reader.login} saw something else than {readers[0].login}"
    where = {body: seq for seq, body in first}
    assert len(where) == len(first), "a message stands twice"
    for writer in writers:
        for n, seq in writer.receipts.items():
            assert where.get(f"{writer.login} {n}") == seq, f"{writer.login} {n}: receipted {seq}"
        order = [writer.receipts[n] for n in sorted(writer.receipts)]
        assert order == sorted(order), f"the messages of {writer.login} changed their order"
    assert len(first) == sum(len(writer.receipts) for writer in writers)


def _first_break(seqs: list[int]) -> str:
    for expected, seq in enumerate(seqs, 1):
        if seq != expected:
            return f"seq {seq} stands where {expected} belongs"
    return "dense"
