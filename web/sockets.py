"""aiohttp's server WebSocket, less its way of ending one, plus a check that it does not make.

When what a client sends is broken, aiohttp writes a close frame and shuts the socket. Bytes that are unread then make
the kernel reset the connection, and the client never sees why. Here the connection (web/connection.py) has the last
word.
"""

from __future__ import annotations

from typing import Any

from aiohttp import WebSocketError, WSCloseCode, web

_MASKED = 0x80
_SIZE_BITS = 0x7F
_SIZE_16, _SIZE_64 = 126, 127
_MASK_BYTES = 4


class ClientSocket(web.WebSocketResponse):
    """A client's WebSocket. `receive` gives an ERROR message for broken input and leaves the closing to its caller."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Upgrade; frames are checked from the first one on."""
        prepared = await super().prepare(request)
        protocol = request.protocol
        parser = protocol._payload_parser  # noqa: SLF001  (aiohttp has no public place to look at raw frames)
        if parser is not None:
            protocol._payload_parser = MaskCheck(parser, self._reader)  # noqa: SLF001
        return prepared

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Nothing: aiohttp calls this inside `receive`, where it would cut our last frame off."""
        del code, message, drain
        return True


class MaskCheck:
    """Before aiohttp's parser: a client frame without a mask ends the connection (RFC 6455, section 5.1)."""

    __slots__ = ("_head", "_parser", "_reader", "_skip")

    def __init__(self, parser: Any, reader: Any) -> None:
        self._parser = parser
        self._reader = reader
        self._head = b""
        self._skip = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What aiohttp's parser says, or its end when a frame is not masked."""
        if not self._masked(data):
            self._reader.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a client frame without a mask"))
            return True, data
        ended: tuple[bool, bytes] = self._parser.feed_data(data)
        return ended

    def feed_eof(self) -> None:
        """The client is gone."""
        self._parser.feed_eof()

    def _masked(self, data: bytes) -> bool:
        at = self._skip
        if self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while at < end:
            if at + 2 > end:
                self._head = data[at:]
                at = end
                break
            second = data[at + 1]
            if not second & _MASKED:
                return False
            size = second & _SIZE_BITS
            head = 2
            if size >= _SIZE_16:
                head = 4 if size == _SIZE_16 else 10
                if at + head > end:
                    self._head = data[at:]
                    at = end
                    break
                size = int.from_bytes(data[at + 2 : at + head], "big")
            at += head + _MASK_BYTES + size
        self._skip = at - end
        return True
