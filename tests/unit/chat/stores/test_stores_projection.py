"""What becomes of events on their way to Redis."""

from __future__ import annotations

from chat.records import Event, Opens, encode
from chat.stores.model import Stored
from chat.stores.redis.writing import runs_of, updates_of


def stored(room: str, seq: int, **more: object) -> Stored:
    event = Event(
        v=1,
        room=room,
        seq=seq,
        epoch="e",
        at=seq * 10,
        sender="ann",
        msg_no=seq,
        members=2,
        chain="c",
        **{"kind": "message"} | more,  # type: ignore[arg-type]
    )
    return Stored(event, encode(event))


def test_a_room_is_updated_once_to_its_last_event() -> None:
    updates = updates_of([stored("a", 1), stored("b", 7), stored("a", 2)])
    assert [(u.room, u.seq, u.at, u.about) for u in updates] == [("a", 2, 20, ()), ("b", 7, 70, ())]


def test_what_opens_a_room_travels_with_its_update() -> None:
    events = [stored("a", 1, opens=Opens(kind="open", owner="ann", name="A")), stored("a", 2)]
    (update,) = updates_of(events)
    assert (update.seq, update.about) == (2, ("open", "ann", "e", "1", "A"))


def test_events_of_a_room_are_runs_without_a_hole() -> None:
    runs = runs_of([stored("a", 5), stored("b", 1), stored("a", 6), stored("a", 8), stored("b", 2)])
    assert [(run.room, run.first_seq, len(run.values)) for run in runs] == [("a", 5, 2), ("b", 1, 2), ("a", 8, 1)]


def test_a_new_epoch_begins_a_run_of_its_own() -> None:
    anew = stored("a", 3, kind="room.renumbered", opens=Opens(kind="open", owner="ann"))
    events = [stored("a", 1), stored("a", 2), anew, stored("a", 4)]
    assert [(r.first_seq, r.begins_epoch, len(r.values)) for r in runs_of(events)] == [(1, False, 2), (3, True, 2)]
    (update,) = updates_of(events)
    assert update.about == ("open", "ann", "e", "3")
