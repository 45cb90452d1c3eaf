"""Every bound of one STOMP connection, named and argued.

The protocol code holds a client's bytes in four places: the frame that is not complete yet, open transactions, the
subscriptions and the ids of unacknowledged messages. Each has a bound here and is checked before the memory is spent.
STOMP 1.2, "Size Limits", lets a server place such bounds; where brokers agree on a value, we take theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

COMMAND_BYTES_MAX = 32
"""A first line without end is refused here: the longest command has 11 octets (RabbitMQ waits for 32 as well)."""

UNPASSED_HEADER_LINES = 6
"""Headers of full length that a frame may hold beside those that it passes on (destination, receipt, passcode ...)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost. The defaults are those of docs/protocol.md; each one is a setting."""

    connect_bytes_max: int = 16_384
    """Bytes up to the end of CONNECT: a stranger may not make us hold more. A large JWT and its headers fit."""
    headers_max: int = 64
    """Headers of a frame. RabbitMQ takes 100; real clients send fewer than 20."""
    header_bytes_max: int = 8_192
    """Bytes of one header line, as HTTP servers have it: the longest real one is a token."""
    passed_headers_bytes_max: int = 12_288
    """Bytes of the headers that a SEND passes on, so that a MESSAGE stays below the 64 KiB that Spring clients take."""
    body_bytes_max: int = 49_152
    """Bytes of a body, for the same reason."""
    subscriptions_max: int = 128
    """Subscriptions of a connection: each costs a cursor entry in the gateway."""
    transactions_max: int = 16
    """Open transactions of a connection (RabbitMQ: 16)."""
    transaction_frames_max: int = 100
    """Frames of a transaction: its SENDs are appended as one batch, which must stay a small one."""
    transaction_bytes_max: int = 524_288
    """Bytes of a transaction's bodies, and as many of headers: half of the broker's largest request."""
    ack_window: int = 256
    """MESSAGEs of a subscription that may wait for their ACK: the bound of what we remember about them."""

    @classmethod
    def from_settings(cls, settings: object) -> Limits:
        """Limits from anything that has attributes of these names (chat.settings imports I/O, so it is not named)."""
        return cls(**{f.name: int(getattr(settings, f.name)) for f in fields(cls)})

    @property
    def head_bytes_max(self) -> int:
        """Bytes of a command line and all headers: what a frame without a blank line can make us hold."""
        return self.passed_headers_bytes_max + UNPASSED_HEADER_LINES * self.header_bytes_max
