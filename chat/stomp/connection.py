"""The server's end of one STOMP connection: bytes in, events out; answers as bytes. No socket, no clock, no loop.

    awaiting --CONNECT--> connecting --send_connected--> connected --DISCONNECT--> leaving
        |                     |                             |                        |
        +---------------------+------ violation or send_error -----------------------+--> closed

A client may send on before it has read CONNECTED: the version is agreed as soon as CONNECT is read, so frames behind it
become events in order. Whoever uses this answers events in order too, so it never meets them before it has answered
CONNECT. In `leaving` and `closed` whatever still arrives is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar, Final, TypeVar

from chat.errors import Code, LocalProtocolError, Refused, RemoteProtocolError
from chat.stomp.acks import AckLedger, AckTarget
from chat.stomp.codec import FrameDecoder, encode_frame
from chat.stomp.events import (
    Abort,
    Ack,
    Begin,
    ClientEvent,
    Commit,
    Connect,
    Disconnect,
    HeartBeat,
    Nack,
    Send,
    Subscribe,
    Unsubscribe,
    Violation,
)
from chat.stomp.frames import AckMode, Frame, Version
from chat.stomp.limits import Limits
from chat.stomp.negotiation import Periods, agree_heart_beats, agree_version, parse_heart_beat, versions_offered
from chat.stomp.subscriptions import Subscriptions
from chat.stomp.transactions import Transactions

_SECRETS: Final = frozenset({"login", "passcode", "authorization"})
"""Never handed on, however they are spelled."""
_OF_SEND: Final = frozenset({"destination", "content-type", "content-length", "receipt", "transaction", "x-client-id"})
_OF_SUBSCRIBE: Final = frozenset({"destination", "id", "ack", "receipt", "content-length"})
_OF_CONNECT: Final = frozenset({"accept-version", "host", "heart-beat", "content-length"})
_HEART_BEAT_EVENT: Final = HeartBeat()

_Acknowledgement = TypeVar("_Acknowledgement", Ack, Nack)


class State(Enum):
    """Where a connection is; see the top of this module."""

    AWAITING = "awaiting"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LEAVING = "leaving"
    CLOSED = "closed"


class ServerConnection:
    """One client. `receive_data` never raises: what the client does wrong comes out as `Violation`.

    `hosts` are the names that CONNECT may carry in `host`; none given, any will do. `LocalProtocolError` from a
    `send_*` means that the caller is wrong, never the client.
    """

    __slots__ = (
        "_decoder",
        "_heart_beat_ms",
        "_hosts",
        "_limits",
        "_periods",
        "_reading",
        "_server",
        "_subscriptions",
        "_transactions",
        "acks",
        "state",
    )

    def __init__(self, limits: Limits, *, server: str, heart_beat_ms: int, hosts: tuple[str, ...] = ()) -> None:
        self._limits = limits
        self._server = server
        self._heart_beat_ms = heart_beat_ms
        self._hosts = frozenset(hosts)
        self._decoder = FrameDecoder(limits)
        self._reading = True
        self._periods = Periods()
        self._transactions = Transactions(limits)
        self.acks: AckLedger = AckLedger(limits.subscriptions_max)
        """What the connection's ACK and NACK frames name, and the windows they settle."""
        self._subscriptions = Subscriptions(limits, self.acks)
        self.state = State.AWAITING

    # ------------------------------------------------------------ what is agreed

    @property
    def connected(self) -> bool:
        """True from CONNECTED until the client leaves or is refused."""
        return self.state is State.CONNECTED

    @property
    def version(self) -> Version | None:
        """The agreed version; None before CONNECT."""
        return self._decoder.version

    @property
    def client_period_ms(self) -> int:
        """The client promised to send something this often; 0: it did not."""
        return self._periods.client_ms

    @property
    def server_period_ms(self) -> int:
        """We promised to send something this often; 0: we did not."""
        return self._periods.server_ms

    # ------------------------------------------------------------ in

    def receive_data(self, data: bytes, *, end_of_message: bool = True) -> list[ClientEvent]:
        """What the client asked for with these bytes, in order.

        `data` is the payload of a WebSocket message, or a part of one (then `end_of_message` is False for all but the
        last). Frames before a bad one are still given; `Violation` is the last event ever, and later bytes are ignored.
        """
        events: list[ClientEvent] = []
        if not self._reading:
            return events
        decoder = self._decoder
        decoder.feed(data)
        any_frame = False
        try:
            while (frame := decoder.next_frame() or (decoder.end_of_message() if end_of_message else None)) is not None:
                any_frame = True
                event = self._handle(frame)
                if event is not None:
                    events.append(event)
                    if type(event) is Disconnect:
                        return events
            if self.state is State.AWAITING:
                self._check_connect_size(decoder.consumed + decoder.buffered)
        except RemoteProtocolError as error:
            self._stop_reading()
            events.append(Violation(error))
            return events
        if not any_frame and not decoder.buffered and b"\n" in data:
            events.append(_HEART_BEAT_EVENT)
        return events

    def end_subscription(self, key: str, instance: int) -> None:
        """End a subscription from our side (refused softly, or its room may no longer be read).

        An UNSUBSCRIBE of it that is under way is then no violation. Nothing happens if that instance is gone already.
        """
        self._subscriptions.end_ours(key, instance)

    # ------------------------------------------------------------ out

    def send_connected(self, session: str, user_name: str, features: str) -> bytes:
        """CONNECTED, the answer to `Connect`."""
        if self.state is not State.CONNECTING:
            raise LocalProtocolError(f"CONNECTED while {self.state.value}")
        assert self.version is not None
        self.state = State.CONNECTED
        offered = 0 if self.version is Version.V10 else self._heart_beat_ms  # 1.0 knows no heart-beats
        headers = {
            "version": self.version.value,
            "heart-beat": f"{offered},{offered}",
            "server": self._server,
            "session": session,
            "user-name": user_name,
            "x-features": features,
        }
        return encode_frame("CONNECTED", headers, b"", self.version)

    def send_receipt(self, receipt_id: str, headers: Mapping[str, str] | None = None) -> bytes:
        """RECEIPT: the frame that carried this id has been carried out."""
        if self.state not in (State.CONNECTED, State.LEAVING):
            raise LocalProtocolError(f"RECEIPT while {self.state.value}")
        return encode_frame("RECEIPT", {"receipt-id": receipt_id, **(headers or {})}, b"", self.version)

    def send_error(
        self, error: Refused, receipt_id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """ERROR, the last frame of a connection: flush it, then close (STOMP 1.2, ERROR).

        The receipt id of a `RemoteProtocolError` is written without being asked for.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("ERROR while closed")
        self.state = State.CLOSED
        self._stop_reading()
        if receipt_id is None and isinstance(error, RemoteProtocolError):
            receipt_id = error.receipt_id
        head = {"message": error.message, "error-code": error.code.value, "content-type": "text/plain;charset=utf-8"}
        if receipt_id is not None:
            head["receipt-id"] = receipt_id
        if error.code is Code.VERSION_MISMATCH:
            head["version"] = versions_offered()
        return encode_frame("ERROR", head | dict(headers or {}), error.message.encode("utf-8", "replace"), self.version)

    # ------------------------------------------------------------ frames

    def _handle(self, frame: Frame) -> ClientEvent | None:
        try:
            if self.state is State.AWAITING:
                self._check_connect_size(self._decoder.consumed)
                return self._connect(frame)
            return self._HANDLERS[frame.command](self, frame)
        except RemoteProtocolError as error:
            error.receipt_id = frame.headers.get("receipt")
            raise

    def _connect(self, frame: Frame) -> Connect:
        if frame.command not in ("CONNECT", "STOMP"):
            raise RemoteProtocolError(Code.CONNECT_EXPECTED, "the first frame must be CONNECT or STOMP")
        headers = frame.headers
        version = agree_version(headers.get("accept-version"))
        if version is Version.V10:
            headers = {name.strip(): value.strip() for name, value in reversed(headers.items())}
        heart_beat = parse_heart_beat(headers.get("heart-beat"))
        host = headers.get("host")
        if self._hosts and host is not None and host not in self._hosts:
            raise RemoteProtocolError(Code.HOST_NOT_SERVED, "that host is not served here")
        if version is not Version.V10:
            self._periods = agree_heart_beats(heart_beat, self._heart_beat_ms)
        self._decoder.version = version
        self.state = State.CONNECTING
        return Connect(
            version=version,
            login=headers.get("login"),
            passcode=headers.get("passcode"),
            authorization=_authorization(headers),
            host=host,
            heart_beat=heart_beat,
            headers=_others(headers, _OF_CONNECT),
        )

    def _send(self, frame: Frame) -> Send | None:
        headers = frame.headers
        transaction = headers.get("transaction")
        passed = _others(headers, _OF_SEND)
        send = Send(
            self._required(frame, "destination"),
            passed,
            headers.get("content-type"),
            headers.get("x-client-id"),
            frame.body,
            headers.get("receipt"),
            transaction,
        )
        if passed and _head_bytes(passed) > self._limits.passed_headers_bytes_max:
            raise RemoteProtocolError(
                Code.HEADERS_TOO_LARGE,
                f"more than {self._limits.passed_headers_bytes_max} bytes of headers to pass on",
            )
        if transaction is None:
            return send
        self._transactions.add(transaction, send, body_bytes=len(frame.body), head_bytes=_head_bytes(headers))
        return None

    def _subscribe(self, frame: Frame) -> Subscribe:
        headers = frame.headers
        destination = self._required(frame, "destination")
        subscription_id = headers.get("id")
        if subscription_id is None and self.version is not Version.V10:
            self._required(frame, "id")
        key = destination if subscription_id is None else subscription_id
        mode = _ack_mode(headers.get("ack"))
        instance, window = self._subscriptions.begin(key, destination, mode)
        return Subscribe(
            id=subscription_id,
            key=key,
            instance=instance,
            destination=destination,
            ack=mode,
            headers=_others(headers, _OF_SUBSCRIBE),
            receipt=headers.get("receipt"),
            window=window,
        )

    def _unsubscribe(self, frame: Frame) -> Unsubscribe:
        key = frame.headers.get("id")
        if key is None and self.version is Version.V10:
            key = self._subscriptions.key_of(self._required(frame, "destination"))
        elif key is None:
            key = self._required(frame, "id")
        return Unsubscribe(key, self._subscriptions.end(key), frame.headers.get("receipt"))

    def _ack(self, frame: Frame) -> Ack | None:
        return self._keep_or_give(
            Ack(self._targets(frame), frame.headers.get("receipt"), frame.headers.get("transaction"))
        )

    def _nack(self, frame: Frame) -> Nack | None:
        if self.version is Version.V10:
            raise RemoteProtocolError(Code.UNKNOWN_COMMAND, "STOMP 1.0 has no NACK")
        return self._keep_or_give(
            Nack(self._targets(frame), frame.headers.get("receipt"), frame.headers.get("transaction"))
        )

    def _begin(self, frame: Frame) -> Begin:
        transaction = self._required(frame, "transaction")
        self._transactions.begin(transaction)
        return Begin(transaction, frame.headers.get("receipt"))

    def _commit(self, frame: Frame) -> Commit:
        transaction = self._required(frame, "transaction")
        return Commit(transaction, self._transactions.end(transaction), frame.headers.get("receipt"))

    def _abort(self, frame: Frame) -> Abort:
        transaction = self._required(frame, "transaction")
        self._transactions.end(transaction)
        return Abort(transaction, frame.headers.get("receipt"))

    def _disconnect(self, frame: Frame) -> Disconnect:
        self._stop_reading()
        if self.state is State.CONNECTED:
            self.state = State.LEAVING
        return Disconnect(frame.headers.get("receipt"))

    def _connect_again(self, frame: Frame) -> ClientEvent:
        raise RemoteProtocolError(Code.UNEXPECTED_FRAME, f"{frame.command} on a connection that is connected")

    _HANDLERS: ClassVar[dict[str, Callable[[ServerConnection, Frame], ClientEvent | None]]] = {
        "CONNECT": _connect_again,
        "STOMP": _connect_again,
        "SEND": _send,
        "SUBSCRIBE": _subscribe,
        "UNSUBSCRIBE": _unsubscribe,
        "ACK": _ack,
        "NACK": _nack,
        "BEGIN": _begin,
        "COMMIT": _commit,
        "ABORT": _abort,
        "DISCONNECT": _disconnect,
    }

    # ------------------------------------------------------------ parts of frames

    def _required(self, frame: Frame, name: str) -> str:
        value = frame.headers.get(name)
        if value is None:
            raise RemoteProtocolError(Code.MISSING_HEADER, f"{frame.command} needs the header {name}")
        return value

    def _targets(self, frame: Frame) -> tuple[AckTarget, ...]:
        assert self.version is not None
        return self.acks.resolve(self.version, frame.headers, self._subscriptions.instances)

    def _keep_or_give(self, frame: _Acknowledgement) -> _Acknowledgement | None:
        if frame.transaction is None:
            return frame
        self._transactions.add(frame.transaction, frame, body_bytes=0, head_bytes=0)  # short ids, counted as frames
        return None

    def _check_connect_size(self, size: int) -> None:
        if size > self._limits.connect_bytes_max:
            raise RemoteProtocolError(
                Code.CONNECT_TOO_LARGE, f"more than {self._limits.connect_bytes_max} bytes before CONNECT is complete"
            )

    def _stop_reading(self) -> None:
        self._reading = False
        self._transactions.drop_all()


def _ack_mode(text: str | None) -> AckMode:
    if text is None:
        return AckMode.AUTO
    try:
        return AckMode(text)
    except ValueError:
        raise RemoteProtocolError(
            Code.UNKNOWN_ACK_MODE, f"ack is one of {', '.join(mode.value for mode in AckMode)}"
        ) from None


def _authorization(headers: Mapping[str, str]) -> str | None:
    """HTTP people write `Authorization`; STOMP tells capitals apart, we do not here."""
    return next((value for name, value in headers.items() if name.lower() == "authorization"), None)


def _others(headers: Mapping[str, str], known: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in known and name.lower() not in _SECRETS}


def _head_bytes(headers: Mapping[str, str]) -> int:
    """Bytes of header names and values."""
    return len("".join(headers).encode()) + len("".join(headers.values()).encode())
