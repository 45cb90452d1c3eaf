"""An event as the bytes that subscribers get: STOMP MESSAGE inside a WebSocket frame, built once and shared.

Server frames are not masked (RFC 6455, section 5.1), so the same bytes serve every connection and the fan-out can write
them to the transports as they are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from chat.ids import message_id
from chat.records import Event
from chat.stomp.codec import message_suffix
from chat.stomp.frames import Version

_TEXT = 0x81
_BINARY = 0x82
CLOSE, PING, PONG = 0x8, 0x9, 0xA
CONTROL_BYTES_MAX = 125
_MICROSECONDS = 1_000_000
SECONDS_CACHED = 1_024
"""Seconds whose text is known: events come in the order of time, live or from history."""


def websocket_frame(payload: bytes, *, binary: bool) -> bytes:
    """One unfragmented server frame (RFC 6455, section 5.2)."""
    size = len(payload)
    opcode = _BINARY if binary else _TEXT
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """A close, ping or pong frame; its payload is cut at 125 bytes (RFC 6455, section 5.5)."""
    payload = payload[:CONTROL_BYTES_MAX]
    return bytes((0x80 | opcode, len(payload))) + payload


def rfc3339(at: int) -> str:
    """Log time (microseconds since 1970) as RFC 3339 text in UTC."""
    second, fraction = divmod(at, _MICROSECONDS)
    return f"{_second(second)}.{fraction:06d}Z"


@lru_cache(maxsize=SECONDS_CACHED)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def event_headers(event: Event) -> list[tuple[str, str]]:
    """Headers of an event's MESSAGE that are the same for every subscriber, the client's own last."""
    headers = [
        ("message-id", message_id(event.room, event.seq)),
        ("x-room", event.room),
        ("x-seq", str(event.seq)),
        ("x-epoch", event.epoch),
        ("x-kind", event.kind),
        ("x-sender", event.sender),
        ("x-time", rfc3339(event.at)),
        ("x-msg-no", str(event.msg_no)),
    ]
    if event.client_id is not None:
        headers.append(("x-client-id", event.client_id))
    if event.member is not None:
        headers += [("x-user", event.member.user), ("x-role", event.member.role)]
    if event.content_type is not None:
        headers.append(("content-type", event.content_type))
    headers.extend(event.headers.items())
    return headers


class Encoded:
    """One event, encoded at most once per STOMP version."""

    __slots__ = ("_body", "_headers", "_suffixes", "binary", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.binary = event.body_b64 is not None
        """A body that is not UTF-8 goes as a binary frame to everybody."""
        self._body: bytes | None = None
        self._headers: list[tuple[str, str]] | None = None
        self._suffixes: dict[Version, bytes] = {}

    def suffix(self, version: Version) -> bytes:
        """Everything of the MESSAGE that is not of one subscription."""
        suffix = self._suffixes.get(version)
        if suffix is None:
            if self._body is None or self._headers is None:
                self._body = self.event.body_bytes()
                self._headers = event_headers(self.event)
            suffix = self._suffixes[version] = message_suffix(version, self._headers, self._body)
        return suffix
