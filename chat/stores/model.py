"""What the stores hand out about rooms and people, whichever store it came from.

Each value carries the seq that it is true at: of two of them about the same thing, the one with the higher seq is the
newer one. Nothing here knows a driver.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from chat.records import Event


class RoomInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A room as a list shows it, true at `seq`."""

    room: str
    kind: str
    owner: str
    epoch: str
    first_seq: int
    seq: int
    msg_no: int
    members: int
    at: int
    """Log time of the event `seq`, in microseconds since 1970 (UTC)."""
    name: str | None = None


class MemberInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person's membership of one room. `role` is `none` after leaving; `seq` is the event that made it so."""

    room: str
    user: str
    role: str
    seq: int
    at: int


class MemberRow(NamedTuple):
    """A stored membership as it stands, for whoever checks it: a row that was made by hand may lack columns."""

    room: str
    user: str
    role: str | None
    seq: int | None
    at: int | None


class Stored(NamedTuple):
    """An event, and the record's value that it was decoded from: what stores keep is the value, byte for byte."""

    event: Event
    value: bytes
