"""The client's end, as small as it can be: for tests (the two ends joined over a fake link), benchmarks and the CLI.

Requests are methods that return bytes; what the server sends comes out as frames. It follows the agreed version and
nothing else: which subscriptions and receipts are open is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chat.errors import LocalProtocolError
from chat.stomp.codec import FrameDecoder, encode_frame
from chat.stomp.frames import SERVER_COMMANDS, VERSIONS, AckMode, Frame, Version
from chat.stomp.limits import Limits

SERVER_LIMITS: Final = Limits(
    headers_max=256, header_bytes_max=65_536, passed_headers_bytes_max=65_536, body_bytes_max=4_194_304
)
"""What a server may send us: generous, since we chose the server, but bounded."""


class ClientConnection:
    """One connection to a server. `receive_data` raises `RemoteProtocolError` when the server breaks STOMP."""

    __slots__ = ("_decoder", "_wanted")

    def __init__(self, versions: tuple[Version, ...] = VERSIONS, limits: Limits = SERVER_LIMITS) -> None:
        self._wanted = versions
        self._decoder = FrameDecoder(limits, commands=SERVER_COMMANDS)

    @property
    def version(self) -> Version | None:
        """The agreed version; None before CONNECTED."""
        return self._decoder.version

    def receive_data(self, data: bytes, *, end_of_message: bool = True) -> list[Frame]:
        """The frames that are complete with these bytes; heart-beats are not shown."""
        decoder = self._decoder
        decoder.feed(data)
        frames: list[Frame] = []
        while (frame := decoder.next_frame() or (decoder.end_of_message() if end_of_message else None)) is not None:
            if frame.command == "CONNECTED":
                decoder.version = Version(frame.headers.get("version", Version.V10.value))
            frames.append(frame)
        return frames

    def connect(
        self,
        *,
        login: str | None = None,
        passcode: str | None = None,
        host: str | None = None,
        heart_beat: tuple[int, int] = (0, 0),
        headers: Mapping[str, str] | None = None,
        command: str = "CONNECT",
    ) -> bytes:
        """CONNECT (or STOMP), the first frame."""
        head = {"accept-version": ",".join(self._wanted), "heart-beat": f"{heart_beat[0]},{heart_beat[1]}"}
        if self._wanted == (Version.V10,):
            head.clear()  # 1.0 has neither
        return self._encode(command, head, headers, login=login, passcode=passcode, host=host)

    def send(
        self,
        destination: str,
        body: bytes | str = b"",
        *,
        headers: Mapping[str, str] | None = None,
        receipt: str | None = None,
        transaction: str | None = None,
    ) -> bytes:
        """SEND. A `str` goes as UTF-8."""
        raw = body.encode() if isinstance(body, str) else body
        own = {"destination": destination}
        return self._encode("SEND", own, headers, body=raw, receipt=receipt, transaction=transaction)

    def subscribe(
        self,
        destination: str,
        subscription_id: str | None,
        *,
        ack: AckMode = AckMode.AUTO,
        headers: Mapping[str, str] | None = None,
        receipt: str | None = None,
    ) -> bytes:
        """SUBSCRIBE. Only STOMP 1.0 lets the id be None."""
        own = {"destination": destination, "ack": ack.value}
        return self._encode("SUBSCRIBE", own, headers, id=subscription_id, receipt=receipt)

    def unsubscribe(
        self, subscription_id: str | None, *, destination: str | None = None, receipt: str | None = None
    ) -> bytes:
        """UNSUBSCRIBE by id, or in STOMP 1.0 by destination."""
        return self._encode("UNSUBSCRIBE", id=subscription_id, destination=destination, receipt=receipt)

    def ack(self, message: Frame, *, receipt: str | None = None, transaction: str | None = None) -> bytes:
        """ACK of a MESSAGE, naming it as the agreed version does."""
        return self._encode("ACK", self._name_of(message), receipt=receipt, transaction=transaction)

    def nack(self, message: Frame, *, receipt: str | None = None, transaction: str | None = None) -> bytes:
        """NACK of a MESSAGE. `LocalProtocolError` on a 1.0 connection, which has none."""
        if self.version is Version.V10:
            raise LocalProtocolError("STOMP 1.0 has no NACK")
        return self._encode("NACK", self._name_of(message), receipt=receipt, transaction=transaction)

    def begin(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """BEGIN."""
        return self._encode("BEGIN", transaction=transaction, receipt=receipt)

    def commit(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """COMMIT."""
        return self._encode("COMMIT", transaction=transaction, receipt=receipt)

    def abort(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """ABORT."""
        return self._encode("ABORT", transaction=transaction, receipt=receipt)

    def disconnect(self, *, receipt: str | None = None) -> bytes:
        """DISCONNECT, the last frame."""
        return self._encode("DISCONNECT", receipt=receipt)

    def _name_of(self, message: Frame) -> dict[str, str]:
        match self.version:
            case Version.V12:
                return {"id": message.headers["ack"]}
            case Version.V11:
                return {name: message.headers[name] for name in ("message-id", "subscription")}
            case _:
                return {"message-id": message.headers["message-id"]}

    def _encode(
        self,
        command: str,
        own: Mapping[str, str] | None = None,
        others: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        **optional: str | None,
    ) -> bytes:
        head = dict(own or {})
        head |= {name: value for name, value in optional.items() if value is not None}
        if others:
            head |= others
        return encode_frame(command, head, body, self.version)
