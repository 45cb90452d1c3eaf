"""A STOMP peer over a WebSocket of its own, for tests that must see and send exact bytes.

It shares no code with the server: frames are built from raw bytes (nothing is escaped or checked) and read by a decoder
written from the specification.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DEADLINE_S = 20.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_CODE = 1005
"""A Close frame without a code (RFC 6455, section 7.1.5)."""
NO_CLOSE = 1006
"""The connection ended without a Close frame."""

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def frame(command: str, headers: Headers = (), body: bytes | str = b"") -> bytes:
    """A frame as it is written down: no escapes, no content-length, nothing checked."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = "".join(f"{name}:{value}\n" for name, value in pairs)
    return f"{command}\n{lines}\n".encode() + (body.encode() if isinstance(body, str) else body) + b"\0"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from the server."""

    command: str
    headers: dict[str, str]
    body: bytes
    opcode: int = field(compare=False, default=TEXT)

    @property
    def seq(self) -> int:
        return int(self.headers["x-seq"])


class Closed(Exception):
    """The server closed; `code` is that of its Close frame, or NO_CLOSE."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Peer:
    """One WebSocket, seen from the client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: dict[str, str]) -> None:
        self._reader = reader
        self._writer = writer
        self._bytes = bytearray()
        self._fragments = b""
        self._fragments_opcode = TEXT
        self.upgrade = answer
        """Headers of the server's answer to the upgrade."""
        self.version = "1.2"
        self.connected: Frame | None = None
        self.pongs: list[bytes] = []
        self.pings = 0
        self.beats = 0
        """EOLs between frames."""
        self.auto_pong = True

    # ------------------------------------------------------------ WebSocket

    async def ws(self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> None:
        """Send one WebSocket frame, allowed or not."""
        size = len(payload)
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if masked else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 65_536:
            head += bytes([bit | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([bit | 127]) + size.to_bytes(8, "big")
        if masked:
            key = os.urandom(4)
            stretched = (key * (size // 4 + 1))[:size]
            payload = key + (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        self._writer.write(head + payload)
        await self._writer.drain()

    async def text(self, data: bytes | str) -> None:
        await self.ws(TEXT, data.encode() if isinstance(data, str) else data)

    async def binary(self, data: bytes) -> None:
        await self.ws(BINARY, data)

    async def ws_frame(self) -> tuple[int, bytes]:
        """The server's next WebSocket frame: opcode with its fin bit, and payload. `Closed` when there is none."""
        try:
            first, second = await self._reader.readexactly(2)
            assert not first & 0x70, "a reserved bit is set"
            assert not second & 0x80, "a server frame is masked"
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self._reader.readexactly(8), "big")
            return first & 0x8F, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(NO_CLOSE) from None

    async def _more(self) -> None:
        fin_opcode, payload = await self.ws_frame()
        opcode = fin_opcode & 0x0F
        match opcode:
            case 0x8:
                if len(payload) >= 2:
                    payload[2:].decode()  # a reason is UTF-8
                with contextlib.suppress(ConnectionError):  # it need not wait for us
                    await self.ws(CLOSE, payload)
                raise Closed(int.from_bytes(payload[:2], "big") if payload else NO_CODE)
            case 0x9:
                self.pings += 1
                if self.auto_pong:
                    await self.ws(PONG, payload)
            case 0xA:
                self.pongs.append(payload)
            case _:
                if opcode:
                    self._fragments_opcode = opcode
                self._fragments += payload
                if fin_opcode & 0x80:
                    if self._fragments_opcode == TEXT:
                        self._fragments.decode()
                    self._bytes += self._fragments
                    self._fragments = b""

    # ------------------------------------------------------------ STOMP

    async def next(self, deadline_s: float = DEADLINE_S) -> Frame:
        """The server's next frame."""
        try:
            async with asyncio.timeout(deadline_s):
                while (found := self._take()) is None:
                    await self._more()
                return found
        except TimeoutError:
            raise AssertionError(f"no frame within {deadline_s} s; unread: {self._bytes[:200]!r}") from None

    def _take(self) -> Frame | None:
        data = self._bytes
        while data.startswith(b"\n"):
            self.beats += 1
            del data[:1]
        head_end = data.find(b"\n\n")
        if head_end < 0:
            return None
        command, *lines = data[:head_end].decode().split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"a header line without a colon: {line!r}"
            if command != "CONNECTED":
                name, value = self._unescape(name), self._unescape(value)
            headers.setdefault(name, value)
        at = head_end + 2
        end = at + int(headers["content-length"]) if "content-length" in headers else data.find(b"\0", at)
        if not at <= end < len(data):
            return None
        assert data[end] == 0, f"no NUL after the body of {data[:head_end]!r}"
        body = bytes(data[at:end])
        del data[: end + 1]
        return Frame(command, headers, body, self._fragments_opcode)

    def _unescape(self, text: str) -> str:
        if "\\" not in text or self.version == "1.0":
            return text
        escapes = {"n": "\n", "c": ":", "\\": "\\"} | ({"r": "\r"} if self.version == "1.2" else {})
        return re.sub(r"\\(.)", lambda found: escapes[found[1]], text)

    async def send(self, command: str, body: bytes | str = b"", /, **headers: str) -> None:
        """Send a frame as text; `_` in a header's name stands for `-`."""
        await self.text(frame(command, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    async def expect(self, command: str, /, **headers: str) -> Frame:
        """The next frame, which must be this one."""
        found = await self.next()
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        shown = {name: found.headers.get(name) for name in wanted}
        assert (found.command, shown) == (command, wanted), found
        return found

    async def find(self, command: str, /, **headers: str) -> Frame:
        """The next frame of that kind with these headers; others before it are passed over."""
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        while True:
            found = await self.next()
            assert found.command != "ERROR" or command == "ERROR", found
            if found.command == command and wanted.items() <= found.headers.items():
                return found

    async def messages(self, count: int) -> list[Frame]:
        """The next `count` MESSAGEs; anything but RECEIPTs between them is a failure."""
        found: list[Frame] = []
        while len(found) < count:
            got = await self.next()
            if got.command != "RECEIPT":
                assert got.command == "MESSAGE", got
                found.append(got)
        return found

    async def closed(self, deadline_s: float = DEADLINE_S) -> int:
        """The code with which the server closes; a frame before that is a failure."""
        try:
            unexpected = await self.next(deadline_s)
        except Closed as closed:
            return closed.code
        raise AssertionError(f"instead of closing: {unexpected}")

    async def quiet(self, seconds: float) -> None:
        """Nothing arrives for so long (the time is the assertion: nothing is waited for)."""
        try:
            async with asyncio.timeout(seconds):
                while (found := self._take()) is None:
                    await self._more()
        except TimeoutError:
            return
        raise AssertionError(f"unexpected: {found}")

    async def receipt(self, receipt_id: str) -> Frame:
        """The RECEIPT of that id, whatever comes before it."""
        return await self.find("RECEIPT", receipt_id=receipt_id)

    def abort(self) -> None:
        """The network goes away."""
        self._writer.transport.abort()

    async def leave(self) -> None:
        """End the socket, whatever state it is in."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), DEADLINE_S)
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()


@asynccontextmanager
async def upgraded(port: int, *, protocols: str = "", path: str = "/ws", **headers: str) -> AsyncIterator[Peer]:
    """A WebSocket that has said nothing yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    key = base64.b64encode(os.urandom(16)).decode()
    host = headers.pop("Host", f"127.0.0.1:{port}")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *([f"Sec-WebSocket-Protocol: {protocols}"] if protocols else []),
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status_line, *answer = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    peer = Peer(reader, writer, {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in answer)})
    try:
        if (status := int(status_line.split()[1])) != 101:
            raise Refused(status)
        yield peer
    finally:
        await peer.leave()


@asynccontextmanager
async def connected(
    port: int, user: str = "mina", version: str = "1.2", *, binary: bool = False, beats: str = "0,0"
) -> AsyncIterator[Peer]:
    """A peer that is connected in `version`."""
    async with upgraded(port) as peer:
        headers = {"login": user, "heart-beat": beats}
        if version != "1.0":
            headers |= {"accept-version": version, "host": "localhost"}
        await peer.ws(BINARY if binary else TEXT, frame("CONNECT", headers))
        peer.version = version
        peer.connected = await peer.expect("CONNECTED", version=version)
        yield peer
