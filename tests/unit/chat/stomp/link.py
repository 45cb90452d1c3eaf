"""The two ends of chat.stomp joined by a fake link: what one writes the other reads, in pieces if wanted."""

from __future__ import annotations

from chat.errors import Code
from chat.stomp.client import ClientConnection
from chat.stomp.connection import ServerConnection
from chat.stomp.events import ClientEvent, Connect, Violation
from chat.stomp.frames import Frame, Version
from chat.stomp.limits import Limits

V10, V11, V12 = Version.V10, Version.V11, Version.V12
ALL = (V10, V11, V12)
NEW = (V11, V12)
"""The versions with escapes, subscription ids and no trimming."""


def new_server(limits: Limits | None = None, hosts: tuple[str, ...] = ()) -> ServerConnection:
    return ServerConnection(limits or Limits(), server="roomlog/0.1", heart_beat_ms=10_000, hosts=hosts)


def connected_server(version: Version = V12, limits: Limits | None = None) -> ServerConnection:
    """A server that has read CONNECT of `version` and answered it."""
    server = new_server(limits)
    accept = b"" if version is V10 else b"accept-version:" + version.encode() + b"\n"
    (connect,) = server.receive_data(b"CONNECT\n" + accept + b"login:mina\n\n\0")
    assert isinstance(connect, Connect)
    server.send_connected("s-1", "mina", "rooms")
    return server


def raw(command: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A frame as written here: nothing is escaped, counted or checked."""
    lines = "".join(f"{name}:{value}\n" for name, value in (headers or {}).items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


def only(events: list[ClientEvent]) -> ClientEvent:
    (event,) = events
    return event


def code_of(events: list[ClientEvent]) -> Code | None:
    """The code of the violation that ends these events; None when there is none."""
    assert not any(isinstance(event, Violation) for event in events[:-1])
    return events[-1].error.code if events and isinstance(events[-1], Violation) else None


class Link:
    """A client and a server that are connected to each other."""

    def __init__(self, version: Version = V12, piece: int = 1 << 30, limits: Limits | None = None) -> None:
        self.piece = piece
        self.client = ClientConnection((version,))
        self.server = new_server(limits)
        (connect,) = self.to_server(self.client.connect(login="mina"))
        assert isinstance(connect, Connect)
        assert connect.version is version
        (connected,) = self.to_client(self.server.send_connected("s-1", "mina", "rooms"))
        assert connected.command == "CONNECTED"

    def to_server(self, data: bytes) -> list[ClientEvent]:
        """Each piece as a WebSocket message of its own."""
        return [
            event
            for at in range(0, len(data), self.piece)
            for event in self.server.receive_data(data[at : at + self.piece])
        ]

    def to_client(self, data: bytes) -> list[Frame]:
        return [
            frame
            for at in range(0, len(data), self.piece)
            for frame in self.client.receive_data(data[at : at + self.piece])
        ]
