"""What a client asked for, as values: one type a frame, already checked as far as STOMP itself goes.

Header names end here. What a destination means, who may do what and what the answer is, is for the gateway to say.
A `receipt` is owed on every event that has one, by `ServerConnection.send_receipt`, once the request is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from chat.errors import RemoteProtocolError
from chat.stomp.acks import AckTarget, AckWindow
from chat.stomp.frames import RESERVED_HEADERS, AckMode, Version


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT or STOMP. To be answered by `send_connected`, or by `send_error`."""

    version: Version
    """Agreed: the highest that both sides speak."""
    login: str | None
    passcode: str | None = field(repr=False)
    authorization: str | None = field(repr=False)
    host: str | None
    heart_beat: tuple[int, int]
    """As the client sent it, in milliseconds: what it can send, what it wants."""
    headers: dict[str, str]
    """All others that it sent."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """SEND. One with a `transaction` comes inside `Commit` only."""

    destination: str
    headers: dict[str, str]
    """The client's own, to be passed on: none that STOMP or Roomlog gives a meaning on SEND."""
    content_type: str | None
    client_id: str | None
    """`x-client-id` as sent, unchecked."""
    body: bytes
    receipt: str | None
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE. The connection counts it as a subscription until UNSUBSCRIBE or `end_subscription`."""

    id: str | None
    """What a MESSAGE carries as `subscription`. A 1.0 client may leave it out."""
    key: str
    """What names it on this connection: its id, or the destination where there is none."""
    instance: int
    """1, 2, 3, ... on this connection: tells it from an earlier one with the same key."""
    destination: str
    ack: AckMode
    headers: dict[str, str]
    receipt: str | None
    window: AckWindow | None = field(default=None, repr=False, compare=False)
    """In the client modes: where the gateway notes what it sends. None in `auto`."""


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE of a subscription that exists, or that we ended ourselves and the client could not know."""

    key: str
    instance: int
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK, resolved: hand `targets` to `connection.acks.ack`. Nothing in it: it named what is settled already."""

    targets: tuple[AckTarget, ...]
    receipt: str | None
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Nack:
    """NACK, resolved: hand `targets` to `connection.acks.nack`."""

    targets: tuple[AckTarget, ...]
    receipt: str | None
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """BEGIN. The connection keeps the transaction; nothing is to be done but the receipt."""

    transaction: str
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT, with the frames of the transaction in their order. Each may want a receipt of its own."""

    transaction: str
    frames: tuple[Send | Ack | Nack, ...]
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Abort:
    """ABORT. The frames of the transaction are dropped, their receipts with them."""

    transaction: str
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT: send the receipt, then close. Whatever the client sends after it is ignored."""

    receipt: str | None


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """A message of line ends only."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The client broke STOMP: `send_error(error)`, then close. Always the last event of a connection."""

    error: RemoteProtocolError


ClientEvent = (
    Connect | Send | Subscribe | Unsubscribe | Ack | Nack | Begin | Commit | Abort | Disconnect | HeartBeat | Violation
)


def reserved_header(headers: Mapping[str, str]) -> str | None:
    """A header of a SEND that only the server may write, if there is one."""
    if RESERVED_HEADERS.isdisjoint(headers):
        return None
    return next(name for name in headers if name in RESERVED_HEADERS)
