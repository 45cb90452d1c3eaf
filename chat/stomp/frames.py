"""The nouns of STOMP: frames, versions, acknowledge modes and the names that the specifications give a meaning."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Version(StrEnum):
    """The three published versions. The value is what stands in `accept-version` and `version`."""

    V10 = "1.0"
    V11 = "1.1"
    V12 = "1.2"


VERSIONS: Final = tuple(Version)
"""Lowest first."""


class AckMode(StrEnum):
    """The `ack` header of SUBSCRIBE."""

    AUTO = "auto"
    CLIENT = "client"
    """An ACK counts for every MESSAGE of the subscription up to the named one."""
    CLIENT_INDIVIDUAL = "client-individual"


CLIENT_COMMANDS: Final = frozenset(
    {
        "CONNECT",
        "STOMP",
        "SEND",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "ACK",
        "NACK",
        "BEGIN",
        "COMMIT",
        "ABORT",
        "DISCONNECT",
    }
)
SERVER_COMMANDS: Final = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})
UNESCAPED_COMMANDS: Final = frozenset({"CONNECT", "STOMP", "CONNECTED"})
"""Never escaped, in any version, because the version is not agreed yet (STOMP 1.2, "Value Encoding")."""
BODY_COMMANDS: Final = frozenset({"SEND", "MESSAGE", "ERROR"})
"""Only these may have a body (STOMP 1.1 and 1.2, "Body"). 1.0 is silent, but for SUBSCRIBE."""

RESERVED_HEADERS: Final = frozenset(
    {
        "message-id",
        "subscription",
        "ack",
        "x-room",
        "x-seq",
        "x-epoch",
        "x-kind",
        "x-sender",
        "x-time",
        "x-msg-no",
        "x-recovered",
        "x-first-seq",
        "x-head-seq",
        "x-duplicate",
        "x-user",
        "x-role",
    }
)
"""Headers of a MESSAGE that the server alone may write: a SEND that brings one is refused (`reserved_header`)."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame, unescaped. Of a header that is repeated only the first value is here (STOMP 1.2).

    A struct like `Send`, not a dataclass: both are made for every message, and a struct is made five times as fast.
    """

    command: str
    headers: dict[str, str]
    body: bytes = b""
