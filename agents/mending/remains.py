"""What is left of a partition after a loss, put together. Pure: knows rows and events, no Kafka and no Cassandra."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agents.sequencing.rows import Rows
from chat.log.taking import NUMBER_DIGITS, Position
from chat.records import H_KIND, H_SRC, H_TERM, KIND_WRITER, VERSION, Event, RenumberRoom, header
from chat.rooms.state import Head

OPERATOR: Final = "~roomlog"
"""Who numbers a room anew, as its event says."""


@dataclass
class Remains:
    """What is left of a partition's rooms, while it is put together."""

    rows: Rows
    at: int
    """Log time of the newest record."""
    src: int = -1
    """Command that the last record in the log answers."""
    taken: int = 0
    highest: dict[str, int] = field(default_factory=dict)
    """Numbers that Cassandra says a room has come to."""
    archived: dict[str, int] = field(default_factory=dict)
    """Up to here Cassandra has every event of a room."""
    seen: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    """Rooms that have lost nothing: what the log holds of them joins what Cassandra has, or begins an epoch."""

    def fold(self, event: Event) -> None:
        """Take `event` though events before it may be lost."""
        head = self.rows.of(event.room).head
        joins = event.opens is not None or (
            head is not None and event.seq <= head.seq + 1 and (event.seq <= head.seq or event.epoch == head.epoch)
        )
        if not joins:
            self.rows.assume(event.room, head_before(head, event))
        self.rows.fold(event)
        self.at = max(self.at, event.at)

    def fold_logged(self, event: Event) -> None:
        """The same, for an event that the log still holds."""
        # Not the rows: they may know of events whose words are nowhere.
        joins = event.room not in self.seen and event.seq <= self.archived.get(event.room, 0) + 1
        if event.opens is not None or joins:
            self.whole.add(event.room)
        self.seen.add(event.room)
        self.taken += 1
        self.fold(event)

    def renumberings(self, unknown: int) -> list[RenumberRoom]:
        """The commands that number anew every room which may have lost something.

        `unknown`: so many records are gone that nothing is known of. With 0, every head is what it was.
        """
        commands = []
        for room in sorted(set(self.rows.rooms()) - self.whole):
            head = self.rows.of(room).head
            if head is not None and (unknown or head.seq > self.archived.get(room, 0)):
                above = max(head.seq, self.highest.get(room, 0)) + unknown
                commands.append(RenumberRoom(v=VERSION, room=room, sender=OPERATOR, epoch=head.epoch, above=above))
        return commands


def head_before(head: Head | None, event: Event) -> Head:
    """What is known of a room right before `event`, when events before it are lost."""
    if head is not None:
        return msgspec.structs.replace(head, seq=event.seq - 1, epoch=event.epoch)
    return Head(
        seq=event.seq - 1,
        first_seq=event.seq,
        epoch=event.epoch,
        msg_no=event.msg_no,
        chain="",
        members=event.members,
        at=event.at,
        kind="open",
        owner=event.sender,
    )


class Beginning:
    """Where a reader may begin in a log that was cut off at `beginning`, when nobody has a position in it.

    Of the records before the first fence those count that carry the term of the latest fence before them. That fence is
    gone, but no writer that it had put out has a higher term: so it is the highest that stands there. (Where nobody but
    put-out writers wrote, theirs is taken: nobody was told that it does not count, and every room gets a new epoch.)
    Pure.
    """

    def __init__(self, beginning: int) -> None:
        self._offset = beginning - 1
        self._fence = -1
        self._firsts: dict[int, int] = {}

    def settled_by(self, record: Any) -> bool:
        """Look at the next record; True when no later one can alter the answer."""
        if header(record.headers, H_KIND) == KIND_WRITER:
            if self._firsts:
                return True
            self._offset = self._fence = record.offset
            return False
        src, term = header(record.headers, H_SRC) or b"", header(record.headers, H_TERM) or b""
        if src.isdigit() and term.isdigit() and len(src) < NUMBER_DIGITS and self._fence in (-1, int(term)):
            self._firsts.setdefault(int(term), int(src))
        return False

    @property
    def position(self) -> Position:
        """The answer."""
        if not self._firsts:
            return Position(self._offset, -1, self._fence)
        term = max(self._firsts)
        return Position(self._offset, self._firsts[term] - 1, term)
