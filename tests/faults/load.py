"""Many people at once, each a client as docs/protocol.md asks for, cheap enough to leave the machine to what is tested.

Writers post at an even rate, each SEND with a receipt and an `x-client-id`; what was not receipted is sent again with
the same id, over the next gateway. Readers resume by `x-after-seq`. A client that hears nothing for two heart-beats and
a half hangs up and goes to the next gateway. Everything that they are told goes into the history, as it was told.

One asyncio loop carries all of them: one task reads for each connection, one writes for each writer, and one clock
hands out what is due.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

import aiohttp

from chat.stomp.client import ClientConnection
from chat.stomp.frames import Frame
from tests.faults.history import Author, History, Outage, Outcome, Record, body_of, seen_digest

HEART_BEAT_MS = 2_000
"""Wanted from the server (which is told to offer as much, see tests/faults/system.py)."""
SILENT_S = 5.0
"""Without a byte for so long, the other end is taken for dead."""
SECOND_LOOK_S = 0.5
"""When this loop itself stood still, what it waited for has arrived meanwhile."""
CONNECT_S = 5.0
RETRY_S = 0.1
"""Between two tries to connect: a hundred clients that try without a pause would be a fault of their own."""
REFUSED_RETRY_S = (0.25, 4.0)
"""After a first refusal of a message, and at the longest: each further one doubles it."""
IN_FLIGHT_MAX = 48
"""SENDs of one writer that wait, far below the 128 that the product allows and the 256 that it remembers."""
AHEAD_MAX = 200
"""Messages from the oldest without a RECEIPT to the newest that is due; what comes on top is not sent at all. A repeat is
known among its sender's last 256 events: who lets one message wait and sends more than that meanwhile has it twice."""
TICK_S = 0.05
"""Messages fall due in bursts, 20 times a second: on two cores that the whole system and this share, 500 messages a second
one by one leave nothing for a worker that has to start (every process wakes for each of them)."""
RETRIED = frozenset({"unavailable", "too_many_in_flight", "going_away"})
"""Codes after which a client sends again."""

Gateways = Callable[[], Sequence[str]]
"""WebSocket addresses of the gateways that there are now."""


class Lost(Exception):
    """The connection is gone, or as good as gone."""


class Client:
    """One person with one connection at a time."""

    def __init__(self, crowd: Crowd, login: str, at: int) -> None:
        self.crowd = crowd
        self.login = login
        self.connected = False
        self.line = 0
        self._next_gateway = at
        self._frames: deque[Frame] = deque()
        self._lost_s = crowd.history.now_s()
        self._was_connected = False
        self._ws: aiohttp.ClientWebSocketResponse
        self._stomp: ClientConnection

    async def run(self) -> None:
        """Until cancelled, or until `finished`."""
        while not self.finished():
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._dial()
            except (Lost, OSError, aiohttp.ClientError, TimeoutError):
                await self._hang_up()
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))  # the time between two tries
                continue
            try:
                await self.talk()
            except (Lost, OSError, aiohttp.ClientError, TimeoutError):
                pass
            finally:
                self._lost_s = self.crowd.history.now_s()
                self.connected = False
                await self._hang_up()

    def finished(self) -> bool:
        """True when there is nothing more to do."""
        return False

    async def talk(self) -> None:
        """Do what this person does, until `Lost`."""
        raise NotImplementedError

    async def _dial(self) -> None:
        gateways = self.crowd.gateways()
        address = gateways[self._next_gateway % len(gateways)]
        self._next_gateway += 1
        self._frames.clear()
        self._stomp = ClientConnection()
        self._ws = await self.crowd.session.ws_connect(
            address, compress=0, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.2)
        )
        self.line = self.crowd.new_line()
        await self.write(self._stomp.connect(login=self.login, heart_beat=(0, HEART_BEAT_MS)))
        if (frame := await self.next()).command != "CONNECTED":
            raise Lost(frame.command)

    def is_back(self) -> None:
        """The person has again what was lost with the last connection."""
        self.connected = True
        if self._was_connected:
            history = self.crowd.history
            history.outages.append(Outage(self.login, self._lost_s, history.now_s()))
        self._was_connected = True

    async def _hang_up(self) -> None:
        ws = getattr(self, "_ws", None)
        if ws is not None and not ws.closed:
            await ws.close()

    async def write(self, frames: bytes) -> None:
        """Send frames as one message: as text if that is possible."""
        try:
            await self._ws.send_str(frames.decode())
        except UnicodeDecodeError:
            await self._ws.send_bytes(frames)

    async def next(self) -> Frame:
        """The next frame."""
        while not self._frames:
            try:
                message = await self._ws.receive(SILENT_S)
            except TimeoutError:
                message = await self._ws.receive(SECOND_LOOK_S)
            if message.type is aiohttp.WSMsgType.TEXT:
                self._frames.extend(self._stomp.receive_data(message.data.encode()))
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._frames.extend(self._stomp.receive_data(message.data))
            else:
                raise Lost(message.type.name)
        return self._frames.popleft()


class Writer(Client):
    """Posts messages 0, 1, 2 ... into one room as they fall due."""

    def __init__(self, crowd: Crowd, index: int, author: Author) -> None:
        super().__init__(crowd, author.login, index)
        self.author = author
        self._index = index
        self.due = 0
        """Messages that may have been sent by now."""
        self.receipted = 0
        self.abandoned = 0
        """Refused for good."""
        self._sent = 0
        self._oldest = 0
        self._done = bytearray()
        self._again: deque[int] = deque()
        self._refusals: dict[int, int] = {}
        self._open: dict[int, int] = {}
        self._wake = asyncio.Event()

    @property
    def outstanding(self) -> int:
        """Messages that are due and neither receipted nor refused for good."""
        return self.due - self.receipted - self.abandoned

    def finished(self) -> bool:
        return self.crowd.closing and self.outstanding == 0

    def hand_out(self) -> bool:
        """One more message is due; False when this writer has enough to do."""
        while self._oldest < self.due and self._done[self._oldest]:
            self._oldest += 1
        if self.due - self._oldest >= AHEAD_MAX:
            return False
        self.due += 1
        self._done.append(0)
        self._wake.set()
        return True

    async def talk(self) -> None:
        self._open.clear()
        self._again = deque(n for n in range(self._sent) if not self._done[n])
        await self.write(self._stomp.subscribe("/user/queue/errors", "errors"))
        self.is_back()
        sending = asyncio.create_task(self._send_forever())
        try:
            while not self.finished():
                self._take(await self.next())
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_forever(self) -> None:
        while True:
            frames = []
            while len(self._open) < IN_FLIGHT_MAX and (self._again or self._sent < self.due):
                if self._again:
                    n = self._again.popleft()
                    if self._done[n]:
                        continue
                else:
                    n = self._sent
                    self._sent += 1
                frames.append(self._send(n))
            if not frames:
                self._wake.clear()
                await self._wake.wait()
                continue
            for part in _messages(frames):
                await self.write(part)

    def _send(self, n: int) -> bytes:
        history = self.crowd.history
        self._open[n] = history.calls.invoke(self._index, n, self.line, history.now_s())
        return self._stomp.send(
            f"/room/{self.author.room}",
            body_of(self.login, n),
            headers={"x-client-id": self.author.client_id(n), "content-type": "text/plain"},
            receipt=str(n),
        )

    def _take(self, frame: Frame) -> None:
        match frame.command:
            case "RECEIPT":
                self._take_receipt(frame)
            case "MESSAGE" if "error-code" in frame.headers:
                self._take_refusal(frame)
            case "ERROR":
                self._take_refusal(frame)
                raise Lost(frame.headers.get("error-code", ""))
            case command:
                self.crowd.history.notes.append(f"{self.login} was sent {command} {frame.headers}")

    def _take_receipt(self, frame: Frame) -> None:
        history, at_s = self.crowd.history, self.crowd.history.now_s()
        n = int(frame.headers["receipt-id"])
        call = self._open.pop(n, None)
        if call is None:
            history.notes.append(f"{self.login}: RECEIPT {n} on line {self.line}, which did not ask for it")
            return
        outcome = Outcome.REPEATED if "x-duplicate" in frame.headers else Outcome.NUMBERED
        history.calls.answer(call, outcome, at_s, seq=int(frame.headers.get("x-seq", 0)))
        history.receipted(self.author.room, at_s)
        if not self._done[n]:
            self._done[n] = 1
            self._refusals.pop(n, None)
            self.receipted += 1
            self.crowd.receipted += 1
        self._wake.set()

    def _take_refusal(self, frame: Frame) -> None:
        code, receipt = frame.headers.get("error-code", ""), frame.headers.get("receipt-id", "")
        call = self._open.pop(int(receipt), None) if receipt.isdigit() else None
        if call is None:
            return
        n = int(receipt)
        self.crowd.history.calls.answer(call, Outcome.REFUSED, self.crowd.history.now_s(), code=code)
        if code in RETRIED:
            times = self._refusals[n] = self._refusals.get(n, 0) + 1
            first_s, longest_s = REFUSED_RETRY_S
            delay_s = min(first_s * 2 ** (times - 1), longest_s)
            asyncio.get_running_loop().call_later(delay_s, self._retry, n, self.line)
        else:
            self._done[n] = 1
            self.abandoned += 1
            self.crowd.history.notes.append(f"{self.login}-{n} was refused: {code}")

    def _retry(self, n: int, line: int) -> None:
        # On another line it is among those that are sent again already.
        if line == self.line and n not in self._open:
            self._again.append(n)
            self._wake.set()


def _messages(frames: list[bytes]) -> list[bytes]:
    """Frames as few messages: those that are text together, the others alone."""
    if len(frames) == 1:
        return frames
    parts: list[bytes] = []
    text: list[bytes] = []
    for frame in frames:
        try:
            frame.decode()
        except UnicodeDecodeError:
            if text:
                parts.append(b"".join(text))
                text = []
            parts.append(frame)
        else:
            text.append(frame)
    return [*parts, b"".join(text)] if text else parts


class Reader(Client):
    """Follows one room from its first event on."""

    def __init__(self, crowd: Crowd, login: str, room: str, at: int) -> None:
        super().__init__(crowd, login, at)
        self.record = Record(login, room)
        crowd.history.records.append(self.record)

    async def talk(self) -> None:
        record, history = self.record, self.crowd.history
        record.lines.append((self.line, len(record.seqs)))
        after = {"x-after-seq": str(record.last_seq)}
        await self.write(self._stomp.subscribe(f"/room/{record.room}", "0", headers=after, receipt="s"))
        while True:
            frame = await self.next()
            headers = frame.headers
            match frame.command:
                case "MESSAGE":
                    seq = int(headers["x-seq"])
                    seen = seen_digest(
                        seq,
                        headers["x-epoch"],
                        headers["x-kind"],
                        headers["x-sender"],
                        int(headers["x-msg-no"]),
                        headers.get("x-client-id", ""),
                        headers.get("content-type", ""),
                        frame.body,
                    )
                    record.add(seq, seen, history.now_s())
                case "RECEIPT":
                    self.is_back()
                case "ERROR":
                    raise Lost(headers.get("error-code", ""))
                case command:
                    history.notes.append(f"{self.login} was sent {command} {headers}")


class Crowd:
    """Everybody. Use as `async with`."""

    def __init__(self, history: History, gateways: Gateways, rooms: int, writers: int, *, crowded: int = 4) -> None:
        """`writers` writers over `rooms` rooms; the first room has `crowded` readers, each other one has one."""
        self.history = history
        self.gateways = gateways
        self.closing = False
        self.handed_out = 0
        self.receipted = 0
        self.per_s = 0.0
        self.longest_stall_s = 0.0
        """How long this loop itself did nothing, at worst: no silence shorter than that is anybody else's."""
        self.session: aiohttp.ClientSession
        self.rooms = [f"room-{i}" for i in range(rooms)]
        self._lines = 0
        self._crowded = crowded
        self._writers = writers
        self.writers: list[Writer] = []
        self.readers: list[Reader] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # No limit and no reuse: every client has a connection of its own.
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        for index in range(self._writers):
            author = Author(f"w{index}", self.rooms[index % len(self.rooms)])
            self.history.authors.append(author)
            self.writers.append(Writer(self, index, author))
        for index, room in enumerate(self.rooms):
            for copy in range(self._crowded if index == 0 else 1):
                self.join(f"r{index}" if copy == 0 else f"r{index}-{copy + 1}", room, start=False)
        self._start(self._pace())
        for client in (*self.writers, *self.readers):
            self._start(client.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    def join(self, login: str, room: str, *, start: bool = True) -> Reader:
        """One more reader."""
        reader = Reader(self, login, room, len(self.readers))
        self.readers.append(reader)
        if start:
            self._start(reader.run())
        return reader

    def new_line(self) -> int:
        """A number for a connection."""
        self._lines += 1
        return self._lines

    def failed(self) -> BaseException | None:
        """What ended a task of ours that should not have ended."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error
        return None

    @property
    def outstanding(self) -> int:
        """Messages that are due and not answered for good."""
        return sum(writer.outstanding for writer in self.writers)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _pace(self) -> None:
        """Hand out `per_s` messages a second, to all writers in turn."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        owed = 0.0
        turn = 0
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            self.longest_stall_s = max(self.longest_stall_s, now - last - TICK_S)
            owed = min(owed + (now - last) * self.per_s, self.per_s)
            last = now
            while owed >= 1.0:
                owed -= 1.0
                turn = (turn + 1) % len(self.writers)
                self.handed_out += self.writers[turn].hand_out()
