"""One room, event by event: what its log says, and whether the log agrees with itself.

Feed a `RoomWalk` every event of the room that a reader takes, in log order. It checks that numbers are dense, that log
time grows and that the chain holds, and keeps what the stores must say after the last event: head, members, and the
hashes of the newest events. What is compared row by row is handed out in parts (`cut`), so a room of any length costs
the memory of its members and of one part.

After something wrong it goes on with what the log says, so that one bad event is one finding and not a thousand.
"""

from __future__ import annotations

from array import array
from typing import Final

import msgspec

from chat.errors import LogHole
from chat.records import KIND_RENUMBERED, Event
from chat.rooms.chain import genesis, verify
from chat.rooms.state import Head, fold_head
from chat.stores.model import MemberInfo
from chat.verifying.findings import Findings, Store, Wrong

LogRow = tuple[int, int, str, str, bytes]
"""seq, at, kind, sender, event: a row of `room_log`."""

RECENT_EVENTS: Final = 200
"""Newest events of a room whose bytes can be recognised: as many as a tail in Redis keeps."""
GAPS_MAX: Final = 100
"""Gaps of one room that late events may still fill; older ones are reported at once."""


class RoomWalk:
    """The fold of one room, on its way through the log."""

    __slots__ = (
        "_findings",
        "_gaps",
        "_recent",
        "_rows",
        "adopted",
        "head",
        "identified",
        "members",
        "part",
        "room",
        "rows_bytes",
        "store",
        "whole",
    )

    def __init__(self, room: str, findings: Findings, store: Store, part: str) -> None:
        """A room of which nothing was read yet. `store` and `part`: where its events are read, for findings."""
        self.room = room
        self.store = store
        self.part = part
        self.head: Head | None = None
        self.members: dict[str, MemberInfo] = {}
        """By user id, those who left included."""
        self.whole = True
        """False once an event was missing: then `members` may lack somebody."""
        self.identified = False
        """Whether the event was read that says what the room is and where its numbering begins."""
        self.adopted = False
        """Whether it was entered in the middle, in an epoch that has ended since."""
        self.rows_bytes = 0
        """Of the events that wait to be cut."""
        self._findings = findings
        self._rows: list[LogRow] = []
        self._recent = array("q")
        self._gaps: list[tuple[int, int]] = []

    # ------------------------------------------------------------ in

    def take(self, event: Event, value: bytes) -> None:
        """The room's next event, and its bytes."""
        self._rows.append((event.seq, event.at, event.kind, event.sender, value))
        self.rows_bytes += len(value)
        head = self.head
        if head is not None and event.seq == head.seq + 1 and event.epoch == head.epoch:
            if head.chain and not verify(head.chain, event):
                self._wrong(Wrong.CHAIN, event.seq)
            if event.at <= head.at:
                self._wrong(Wrong.ORDER, event.seq, "its log time is not after that of the event before")
        elif head is not None and event.seq <= head.seq:
            self._late(event.seq)
            return
        else:
            head = self._begin(event)
        try:
            self.head = fold_head(head, event)
        except LogHole as error:  # what is left: an event that no decision makes
            self._wrong(Wrong.CHAIN, event.seq, str(error))
            self.adopt(event, after=True)
        if (change := event.member) is not None:
            self.members[change.user] = MemberInfo(event.room, change.user, change.role, event.seq, event.at)
        recent = self._recent
        recent.append(hash(value))
        if len(recent) >= 2 * RECENT_EVENTS:
            del recent[:RECENT_EVENTS]

    def _begin(self, event: Event) -> Head | None:
        """The head to fold an event into that does not follow the last one."""
        self._recent = array("q")
        head = self.head
        if event.opens is not None and (head is None or event.kind == KIND_RENUMBERED):
            if not verify(genesis(event.room, event.epoch), event):
                self._wrong(Wrong.CHAIN, event.seq)
            self.identified = True
            if head is None and event.kind == KIND_RENUMBERED:
                self.whole = False  # whoever joined before is not read here
            return head
        expected = 1 if head is None else head.seq + 1
        if event.seq > expected:
            self._gap(expected, event.seq - 1)
        else:
            self.whole = False
            self._wrong(Wrong.CHAIN, event.seq, f"epoch {event.epoch} begins without an event that says so")
        return self._before(event)

    def adopt(self, event: Event, *, after: bool = False) -> None:
        """What lies before `event` cannot be known and is not asked for; it comes next, or (`after`) has come."""
        self.whole = False
        self.adopted = True
        before = self._before(event)
        self.head = msgspec.structs.replace(before, seq=event.seq, chain=event.chain) if after else before

    def _before(self, event: Event) -> Head:
        if self.head is not None:
            return msgspec.structs.replace(self.head, seq=event.seq - 1, epoch=event.epoch)
        return Head(
            seq=event.seq - 1, first_seq=1, epoch=event.epoch, msg_no=0, chain="", members=0, at=0, kind="", owner=""
        )

    def _gap(self, first: int, last: int) -> None:
        self.whole = False
        self._gaps.append((first, last))
        if len(self._gaps) > GAPS_MAX:
            self._missing(*self._gaps.pop(0))

    def _late(self, seq: int) -> None:
        for number, (first, last) in enumerate(self._gaps):
            if first <= seq <= last:
                self._wrong(Wrong.ORDER, seq)
                self._gaps[number : number + 1] = [
                    gap for gap in ((first, seq - 1), (seq + 1, last)) if gap[0] <= gap[1]
                ]
                return
        self._wrong(Wrong.TWICE, seq)

    def go_on_in(self, store: Store, part: str, event: Event) -> None:
        """`event` comes next and is read elsewhere: what lies before it and did not come is missing where it was."""
        self.close()
        if self.seq + 1 < event.seq:
            self.whole = False
            self._missing(self.seq + 1, event.seq - 1)
            self._recent = array("q")
            self.head = msgspec.structs.replace(self._before(event), chain="")
        self.store, self.part = store, part

    def close(self) -> None:
        """The events end here."""
        while self._gaps:
            self._missing(*self._gaps.pop(0))

    def _missing(self, first: int, last: int) -> None:
        self._findings.add(
            self.store, self.part, self.room, Wrong.MISSING, first, f"seq {first} to {last}", count=last - first + 1
        )

    def _wrong(self, wrong: Wrong, seq: int, detail: str = "") -> None:
        self._findings.add(self.store, self.part, self.room, wrong, seq, detail)

    # ------------------------------------------------------------ out

    @property
    def waiting(self) -> int:
        """Events that wait to be cut."""
        return len(self._rows)

    @property
    def seq(self) -> int:
        """Of the last event; 0 when there was none."""
        return 0 if self.head is None else self.head.seq

    def cut(self) -> list[LogRow]:
        """The rows of the events since the last cut, in log order."""
        rows, self._rows, self.rows_bytes = self._rows, [], 0
        return rows

    def recent(self) -> tuple[int, array[int]]:
        """The first seq whose bytes can be recognised, and the hashes (`hash(value)`) from there to the last one."""
        return self.seq - len(self._recent) + 1, self._recent
