"""The bare loop beside the gateway: the least an aiohttp server has to do to fan a STOMP message out.

    python -m tests.bench.bare.fanout PORT [joined]

It accepts, answers CONNECT and SUBSCRIBE, and writes one prebuilt frame per message and connection, straight to the
transport; `joined`: what one turn of the loop brought is written to each connection at once. No log, no order, no bound:
what it costs cannot be saved.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import WSMsgType, web


def frame(payload: bytes) -> bytes:
    """A server's text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload


def message(room: str, seq: int, body: bytes) -> bytes:
    """A MESSAGE about as large as Roomlog's."""
    name = room.encode()
    return frame(
        b"MESSAGE\nsubscription:0\ndestination:/room/%s\nmessage-id:%s/%d\nx-room:%s\nx-seq:%d\n"
        b"x-epoch:660eb447f7629\nx-kind:message\nx-sender:writer\nx-time:2026-11-23T05\\c57\\c23.049001Z\nx-msg-no:%d\n"
        b"content-length:%d\n\n%s\0" % (name, name, seq, name, seq, seq, len(body), body)
    )


class Server:
    """Rooms as lists of transports."""

    def __init__(self, *, joined: bool) -> None:
        self._joined = joined
        self._rooms: dict[str, dict[asyncio.Transport, None]] = {}
        self._seq: dict[str, int] = {}
        self._turn: dict[str, list[bytes]] = {}

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport: Any = request.transport  # aiohttp forgets it when the client goes
        mine: list[str] = []
        try:
            async for received in socket:
                if received.type is WSMsgType.TEXT:
                    self._frame(transport, received.data, mine)
        finally:
            for room in mine:
                self._rooms[room].pop(transport, None)
        return socket

    def _frame(self, transport: asyncio.Transport, text: str, mine: list[str]) -> None:
        head, _, body = text.partition("\n\n")
        command, *lines = head.split("\n")
        if command == "CONNECT":
            transport.write(frame(b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0"))
            return
        headers = dict(line.split(":", 1) for line in lines if line)
        room = headers.get("destination", "").rpartition("/")[2]
        if command == "SUBSCRIBE":
            if headers["destination"].startswith("/room/"):
                self._rooms.setdefault(room, {})[transport] = None
                mine.append(room)
        elif command == "SEND":
            seq = self._seq[room] = self._seq.get(room, 0) + 1
            self._fan_out(room, message(room, seq, body.rstrip("\0").encode()))
        if "receipt" in headers:
            transport.write(frame(b"RECEIPT\nreceipt-id:%s\n\n\0" % headers["receipt"].encode()))

    def _fan_out(self, room: str, data: bytes) -> None:
        if not self._joined:
            for transport in self._rooms.get(room, ()):
                transport.write(data)
            return
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._flush)
        self._turn.setdefault(room, []).append(data)

    def _flush(self) -> None:
        turn, self._turn = self._turn, {}
        for room, frames in turn.items():
            data = b"".join(frames)
            for transport in self._rooms.get(room, ()):
                transport.write(data)


def main(port: int, *, joined: bool) -> None:
    app = web.Application()
    app.router.add_get("/ws", Server(joined=joined).serve)
    web.run_app(app, host="127.0.0.1", port=port, print=None, backlog=1024)


if __name__ == "__main__":
    main(int(sys.argv[1]), joined=sys.argv[2:] == ["joined"])
