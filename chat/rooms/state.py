"""The state of a room as rows, and the fold that makes them from events.

Three kinds of rows, each folded alone: a row reads only itself and the event (counts travel in the event), so rows of
different age refold to the same state. The sequencer keeps them in Faust tables (tables/), the tests in dictionaries.

Rows are values of their owner: `fold_sender` alters the row that it is given and returns it; the other folds return new
ones.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from chat.errors import LogHole
from chat.records import KIND_RENUMBERED, Event

RECENT_PER_SENDER = 256
"""A sender's last so many events in a room are remembered: a repeat of one of them is answered with its number."""

NO_EPOCH = "0"
"""The epoch of a room that does not exist yet."""


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """A room: where its log stands and what it is."""

    seq: int
    first_seq: int
    """Of the present epoch: from here on there is no hole."""
    epoch: str
    msg_no: int
    chain: str
    members: int
    at: int
    kind: str
    owner: str
    name: str | None = None


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person's membership of one room. `role` is `none` after leaving (kept: the row orders late copies)."""

    role: str
    seq: int
    """Of the event that made it so."""


class Sender(msgspec.Struct):
    """What one person sent to one room lately: client id (or, without one, the seq as text after a NUL) to seq."""

    recent: dict[str, int]
    last: int = 0
    """Seq of the last event folded in: a refold from an older checkpoint brings back nothing that was dropped."""


Row_co = TypeVar("Row_co", covariant=True)


class Lookup(Protocol[Row_co]):
    """Rows of one kind in one room, by user id."""

    def get(self, user: str, /) -> Row_co | None:
        """The user's row, or None."""


class Room(Protocol):
    """A room's rows as the rules see them: lookups, nothing else."""

    @property
    def head(self) -> Head | None:
        """None while the room does not exist."""

    @property
    def members(self) -> Lookup[Member]:
        """By user id."""

    @property
    def senders(self) -> Lookup[Sender]:
        """By user id."""


def fold_head(head: Head | None, event: Event) -> Head:
    """The room after `event`. An event at or below the row's seq changes nothing (a row may be newer than the log).

    An event that numbers the room anew may jump, and nothing else may: what is below it belongs to older epochs.

    Raises:
        LogHole: the event is not the room's next one.
    """
    if head is not None and event.seq <= head.seq:
        return head
    if head is None or event.kind == KIND_RENUMBERED:
        if event.opens is None:
            raise LogHole(f"room {event.room}: seq {event.seq} without the event that opens the room")
        return Head(
            seq=event.seq,
            first_seq=event.seq,
            epoch=event.epoch,
            msg_no=event.msg_no,
            chain=event.chain,
            members=event.members,
            at=event.at,
            kind=event.opens.kind,
            owner=event.opens.owner,
            name=event.opens.name,
        )
    if event.seq != head.seq + 1 or event.epoch != head.epoch:
        raise LogHole(f"room {event.room}: seq {event.seq} of epoch {event.epoch} follows {head.seq} of {head.epoch}")
    return Head(
        seq=event.seq,
        first_seq=head.first_seq,
        epoch=event.epoch,
        msg_no=event.msg_no,
        chain=event.chain,
        members=event.members,
        at=event.at,
        kind=head.kind,
        owner=head.owner,
        name=head.name,
    )


def fold_member(member: Member | None, event: Event) -> Member | None:
    """The membership of `event.member.user` after `event`; harmless to repeat."""
    change = event.member
    if change is None or (member is not None and event.seq <= member.seq):
        return member
    return Member(role=change.role, seq=event.seq)


def fold_sender(sender: Sender | None, event: Event) -> Sender:
    """What `event.sender` sent lately, `event` included; harmless to repeat. Takes `sender` over and alters it."""
    if sender is None:
        sender = Sender({})
    if event.seq <= sender.last:
        return sender
    sender.last = event.seq
    key = event.client_id if event.client_id is not None else f"\0{event.seq}"
    recent = sender.recent
    recent[key] = event.seq
    if len(recent) > RECENT_PER_SENDER:
        del recent[next(iter(recent))]
    return sender
