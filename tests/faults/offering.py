"""Load that does not wait for answers: SENDs fall due at a rate, whatever becomes of those before them.

Only TCP holds it back: while the kernel takes nothing more for a connection, or there is none, what falls due there is
not sent at all, and counted. Half of the senders listen for refusals, half do as a stock client does, which an ERROR ends. Who is closed
comes back a moment later. Everything goes into a History (tests/faults/history.py), for the same audit as after a fault.
"""

from __future__ import annotations

import asyncio
import random
import re
import statistics
from array import array
from bisect import bisect_left
from collections import Counter
from typing import Self

from tests.faults.history import Author, History, Outcome, body_of
from tests.websocket import UPGRADE

TICK_S = 0.005
BACK_S = (0.2, 1.0)
"""Before a sender that was closed comes back."""
CLOSE = 0x8
PONG = 0xA
BINARY = 0x2

_HEADER = re.compile(rb"^([^:\n]+):(.*)$", re.MULTILINE)


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's WebSocket frame with a mask of zeros."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Sender(asyncio.Protocol):
    """One author over one connection at a time."""

    def __init__(self, offering: Offering, index: int, author: Author, *, listens: bool) -> None:
        self._offering = offering
        self._index = index
        self._author = author
        self._listens = listens
        self._transport: asyncio.Transport | None = None
        self.connected = False
        self._held = False
        self._close_code = 0
        self._data = bytearray()
        self._upgraded = False
        self._line = 0
        self._n = 0
        self.open: dict[int, int] = {}
        """Number of a message to its call, while neither an answer nor the end of the connection has come."""

    async def connect(self) -> None:
        """Once; comes back by itself after each end."""
        self._line = self._offering.new_line()
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, "127.0.0.1", self._offering.port)
        except OSError:
            self._come_back()

    def offer(self) -> None:
        """One more message is due."""
        if self._transport is None or not self.connected or self._held:
            self._offering.held_back += 1
            return
        n, self._n = self._n, self._n + 1
        history = self._offering.history
        self.open[n] = history.calls.invoke(self._index, n, self._line, history.now_s())
        head = f"SEND\ndestination:/room/{self._author.room}\nx-client-id:{self._author.client_id(n)}\nreceipt:{n}\n"
        body = body_of(self._author.login, n)
        self._transport.write(frame(BINARY, f"{head}content-length:{len(body)}\n\n".encode() + body + b"\0"))

    def leave(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data.clear()
        self._upgraded = self.connected = self._held = False
        self._close_code = 0
        connect = f"CONNECT\naccept-version:1.2\nheart-beat:0,0\nlogin:{self._author.login}\n\n\0"
        transport.write(UPGRADE + frame(BINARY, connect.encode()))

    def pause_writing(self) -> None:
        self._held = True

    def resume_writing(self) -> None:
        self._held = False

    def data_received(self, data: bytes) -> None:
        self._data += data
        buffer = self._data
        at = 0
        if not self._upgraded:
            at = buffer.find(b"\r\n\r\n") + 4
            if at < 4:
                return
            self._upgraded = True
        while at + 2 <= len(buffer):
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if start + size > len(buffer):
                break
            self._take(buffer[at] & 0x0F, bytes(buffer[start : start + size]))
            at = start + size
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        del error
        offering = self._offering
        self._transport = None
        self.connected = False
        offering.closes[self._close_code] += 1
        if self._close_code:
            offering.unknown += len(self.open)
        else:
            offering.unexplained += len(self.open)
        self.open.clear()
        self._come_back()

    # ------------------------------------------------------------ what comes

    def _come_back(self) -> None:
        if not self._offering.closing:
            asyncio.get_running_loop().call_later(random.uniform(*BACK_S), self._offering.start, self)

    def _take(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        match opcode:
            case 0x8:
                self._close_code = int.from_bytes(payload[:2], "big")
                self._transport.write(frame(CLOSE, payload[:2]))
                self._transport.close()
            case 0x9:
                self._transport.write(frame(PONG, payload))
            case _ if len(payload) > 1:
                command, _, rest = payload.partition(b"\n")
                headers = dict(_HEADER.findall(rest.partition(b"\n\n")[0]))
                self._frame(command, headers)
            case _:
                pass

    def _frame(self, command: bytes, headers: dict[bytes, bytes]) -> None:
        match command:
            case b"CONNECTED":
                self.connected = True
                if self._listens and self._transport is not None:
                    subscribe = b"SUBSCRIBE\nid:errors\ndestination:/user/queue/errors\n\n\0"
                    self._transport.write(frame(BINARY, subscribe))
            case b"RECEIPT":
                repeated = b"x-duplicate" in headers
                outcome = Outcome.REPEATED if repeated else Outcome.NUMBERED
                self._answered(headers, outcome, seq=int(headers[b"x-seq"]))
            case _:
                self._answered(headers, Outcome.REFUSED, code=headers.get(b"error-code", b"?").decode())

    def _answered(self, headers: dict[bytes, bytes], outcome: Outcome, *, seq: int = 0, code: str = "") -> None:
        offering = self._offering
        receipt = headers.get(b"receipt-id", b"")
        call = self.open.pop(int(receipt), None) if receipt.isdigit() else None
        if code:
            offering.refusals[code] += 1
        if call is None:
            return
        history = offering.history
        now_s = history.now_s()
        history.calls.answer(call, outcome, now_s, seq=seq, code=code)
        if not code:
            offering.receipts_s.append(now_s)
            offering.took_s.append(now_s - history.calls.invoked_s[call])


class Offering:
    """All senders of one gateway."""

    def __init__(self, history: History, port: int, senders: int, rooms: int) -> None:
        self.history = history
        self.port = port
        self.per_s = 0.0
        self.closing = False
        self.held_back = 0
        """Messages that were due and could not be handed to TCP."""
        self.unknown = 0
        """SENDs without an answer whose connection the gateway closed with a code."""
        self.unexplained = 0
        """SENDs without an answer whose connection just ended."""
        self.refusals: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()
        self.receipts_s = array("d")
        self.took_s = array("d")
        self._lines = 0
        self._connecting: set[asyncio.Task[None]] = set()
        for index in range(senders):
            history.authors.append(Author(f"o{index}", f"offered-{index % rooms}"))
        self.senders = [
            Sender(self, index, author, listens=index % 2 == 0) for index, author in enumerate(history.authors)
        ]

    async def __aenter__(self) -> Self:
        for sender in self.senders:
            self.start(sender)
        self._pacing = asyncio.create_task(self._pace())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closing = True
        self._pacing.cancel()
        await asyncio.gather(self._pacing, *self._connecting, return_exceptions=True)
        for sender in self.senders:
            sender.leave()

    def start(self, sender: Sender) -> None:
        """Have `sender` connect."""
        task = asyncio.create_task(sender.connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def new_line(self) -> int:
        """A number for a connection."""
        self._lines += 1
        return self._lines

    @property
    def open(self) -> int:
        """SENDs that nothing is known about yet."""
        return sum(len(sender.open) for sender in self.senders)

    @property
    def connected(self) -> int:
        """Senders that have a connection now."""
        return sum(sender.connected for sender in self.senders)

    def receipts(self, from_s: float, to_s: float) -> array[float]:
        """How long the RECEIPTs took that came between two moments."""
        return self.took_s[bisect_left(self.receipts_s, from_s) : bisect_left(self.receipts_s, to_s)]

    def p50_s(self, from_s: float, to_s: float) -> float:
        """Their median; infinite when none came."""
        took_s = self.receipts(from_s, to_s)
        return statistics.median(took_s) if took_s else float("inf")

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        last, owed, turn = loop.time(), 0.0, 0
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            # What this loop did not get to for a second is not made up for at once.
            owed = min(owed + (now - last) * self.per_s, self.per_s)
            last = now
            while owed >= 1.0:
                owed -= 1.0
                turn = (turn + 1) % len(self.senders)
                self.senders[turn].offer()
