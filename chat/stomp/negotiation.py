"""What CONNECT and CONNECTED agree on: the version and the heart-beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chat.errors import Code, RemoteProtocolError
from chat.stomp.frames import VERSIONS, Version

PERIOD_MS_MIN: Final = 1_000
"""A client that asks for less gets this: a beat is a wake-up of the whole path."""

_PERIOD_DIGITS_MAX: Final = 10


def agree_version(accept_version: str | None) -> Version:
    """The highest common version. The header is a set: its order says nothing (stompjs sends the highest first).

    Without the header the client is from before there was one: 1.0 (STOMP 1.1, "Protocol Negotiation").
    `RemoteProtocolError(version_mismatch)` when nothing is common.
    """
    if accept_version is None:
        return Version.V10
    wanted = {part.strip() for part in accept_version.split(",")}
    for version in reversed(VERSIONS):
        if version.value in wanted:
            return version
    raise RemoteProtocolError(Code.VERSION_MISMATCH, f"this server speaks STOMP {versions_offered()}")


def versions_offered() -> str:
    """What the `version` header of a refusal lists."""
    return ",".join(version.value for version in VERSIONS)


@dataclass(frozen=True, slots=True)
class Periods:
    """Agreed heart-beats, in milliseconds. 0: none in that direction."""

    client_ms: int = 0
    """The client sends something at least this often."""
    server_ms: int = 0
    """We do."""


def parse_heart_beat(text: str | None) -> tuple[int, int]:
    """The two numbers of a `heart-beat` header, (0, 0) without one. `RemoteProtocolError(bad_heart_beat)`."""
    if text is None:
        return (0, 0)
    can, comma, wants = text.partition(",")
    if not (comma and _is_period(can) and _is_period(wants)):
        raise RemoteProtocolError(Code.BAD_HEART_BEAT, "heart-beat is two numbers of milliseconds, as in 10000,10000")
    return (int(can), int(wants))


def agree_heart_beats(client: tuple[int, int], offered_ms: int) -> Periods:
    """STOMP 1.1, "Heart-beating": the larger of what one side can and the other wants; 0 on either side means none."""
    can, wants = (max(ms, PERIOD_MS_MIN) if ms else 0 for ms in client)
    if not offered_ms:
        return Periods()
    return Periods(max(can, offered_ms) if can else 0, max(wants, offered_ms) if wants else 0)


def _is_period(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _PERIOD_DIGITS_MAX
