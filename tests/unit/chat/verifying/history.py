"""A room as the rules make it."""

from __future__ import annotations

from chat.records import Event
from chat.rooms.decide import decide
from chat.rooms.state import fold_head, fold_member
from tests.eventlog import Rows, join, leave, post


def history(count: int = 10, room: str = "r") -> list[Event]:
    """A room's events: `count` messages, then bob and eve join and bob leaves."""
    rows = Rows()
    events = []
    for number, command in enumerate(
        [*(post(room, body=f"message {n}") for n in range(count)), join(room, "bob"), join(room, "eve"), leave(room, "bob")]
    ):  # fmt: skip
        event = decide(rows, command, 1_000_000 + number)
        assert isinstance(event, Event)
        rows.head = fold_head(rows.head, event)
        if event.member is not None:
            member = fold_member(rows.members.get(event.member.user), event)
            assert member is not None
            rows.members[event.member.user] = member
        events.append(event)
    return events
