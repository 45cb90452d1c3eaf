"""What a room's events say of each other: planted drops, doubles, swaps and flips, each found with its first seq."""

from __future__ import annotations

import msgspec
import pytest

from chat.records import Event, RenumberRoom, encode
from chat.rooms.chain import content_digest, link
from chat.rooms.decide import decide
from chat.rooms.state import fold_head
from chat.stores.redis.writing import TAIL_EVENTS
from chat.verifying.findings import Findings, Store, Wrong
from chat.verifying.room import RECENT_EVENTS, RoomWalk
from tests.eventlog import Rows, post
from tests.unit.chat.verifying.history import history

Found = list[tuple[str, int, int]]


def walked(events: list[Event], findings: Findings | None = None) -> tuple[RoomWalk, Found]:
    findings = Findings() if findings is None else findings
    walk = RoomWalk("r", findings, Store.LOG, "room.events/0")
    for event in events:
        walk.take(event, encode(event))
    walk.close()
    return walk, [(f.wrong.value, f.seq, f.count) for f in findings]


def test_what_the_rules_decide_is_clean_and_its_fold_is_the_sequencers() -> None:
    events = history()
    head = None
    for event in events:
        head = fold_head(head, event)
    walk, found = walked(events)
    assert found == []
    assert walk.head == head
    assert {user: member.role for user, member in walk.members.items()} == {
        "alice": "owner",
        "bob": "none",
        "eve": "member",
    }
    assert walk.whole
    assert walk.identified


def test_a_dropped_event_is_missing_at_its_seq_and_what_follows_is_no_finding() -> None:
    events = history()
    del events[4:6]
    assert walked(events)[1] == [("missing", 5, 2)]


def test_a_missing_beginning_is_found() -> None:
    walk, found = walked(history()[3:])
    assert found == [("missing", 1, 3)]
    assert not walk.identified
    assert not walk.whole


def test_an_event_that_stands_twice_is_found() -> None:
    events = history()
    events.insert(7, events[6])
    assert walked(events)[1] == [("twice", 7, 1)]


def test_swapped_events_are_out_of_order_at_the_lower_seq() -> None:
    events = history()
    events[4], events[5] = events[5], events[4]
    assert walked(events)[1] == [("out of order", 5, 1)]


def test_an_event_that_comes_much_too_late_is_out_of_order_and_the_others_of_its_gap_are_missing() -> None:
    events = history()
    late = events[4]
    del events[3:7]
    events.append(late)
    assert walked(events)[1] == [("missing", 4, 3), ("out of order", 5, 1)]


def test_a_flipped_byte_breaks_the_chain_where_it_is_and_nowhere_else() -> None:
    events = history()
    events[5] = msgspec.structs.replace(events[5], body="messbge 5")
    assert walked(events)[1] == [("chain broken", 6, 1)]


@pytest.mark.parametrize("field", ["sender", "at", "msg_no", "members", "nonce"])
def test_every_fact_is_in_the_chain(field: str) -> None:
    events = history()
    value = getattr(events[5], field)
    other = value + "x" if isinstance(value, str) else value + (0 if field == "at" else 1)
    if field == "at":
        other = value + 10**9
        events = events[:6]
    events[5] = msgspec.structs.replace(events[5], **{field: other})
    assert ("chain broken", 6, 1) in walked(events)[1]


def test_a_forged_event_shows_at_the_next_one() -> None:
    """Whoever forges an event with a chain of its own would have to write all that follow anew."""
    events = history()
    forged = msgspec.structs.replace(events[5], body="I never said this")
    digest = content_digest(
        forged.nonce, forged.client_id, forged.content_type, forged.headers, forged.body, forged.body_b64
    )
    chain = link(
        events[4].chain, room="r", seq=6, epoch=forged.epoch, kind=forged.kind, at=forged.at, sender=forged.sender,
        msg_no=forged.msg_no, members=forged.members, opens=forged.opens, member=forged.member, digest=digest,
    )  # fmt: skip
    events[5] = msgspec.structs.replace(forged, chain=chain)
    assert walked(events)[1] == [("chain broken", 7, 1)]


def test_another_epoch_needs_an_event_that_begins_it() -> None:
    events = history()
    events[5] = msgspec.structs.replace(events[5], epoch="beef")
    found = walked(events)[1]
    assert ("chain broken", 6, 2) in found


def test_log_time_that_stands_still_is_out_of_order() -> None:
    rows = Rows()
    events = []
    for body in ("one", "two"):
        event = decide(rows, post("r", body=body), 1_000_000)
        assert isinstance(event, Event)
        rows.head = fold_head(rows.head, event)
        events.append(event)
    assert walked(events)[1] == [("out of order", 2, 1)]


def test_a_room_that_was_numbered_anew_may_jump_and_is_whole_from_there() -> None:
    rows = Rows()
    events = history()
    for event in events:
        rows.head = fold_head(rows.head, event)
    anew = decide(rows, RenumberRoom(v=1, room="r", sender="op", epoch=events[0].epoch, above=1_000), 2_000_000)
    assert isinstance(anew, Event)
    rows.head = fold_head(rows.head, anew)
    after = decide(rows, post("r"), 2_000_001)
    assert isinstance(after, Event)
    walk, found = walked([*events, anew, after])
    assert found == []
    assert (anew.seq, walk.seq) == (1_001, 1_002)
    assert walk.head is not None
    assert (walk.head.first_seq, walk.head.epoch) == (1_001, anew.epoch)
    # One that jumps without saying so is a hole.
    assert walked([*events, after])[1] == [("missing", 14, 988)]


def test_a_walk_that_begins_in_the_archive_goes_on_in_the_log_with_the_same_chain() -> None:
    events = history()
    findings = Findings()
    walk = RoomWalk("r", findings, Store.CASSANDRA, "room_log")
    for event in events[:6]:
        walk.take(event, encode(event))
    walk.go_on_in(Store.LOG, "room.events/0", events[6])
    for event in events[6:]:
        walk.take(event, encode(event))
    walk.close()
    assert list(findings) == []
    assert walk.whole
    # Another past than the one that the log goes on from:
    walk = RoomWalk("r", findings, Store.CASSANDRA, "room_log")
    for event in [*events[:5], msgspec.structs.replace(events[5], chain="0" * 64)]:
        walk.take(event, encode(event))
    walk.go_on_in(Store.LOG, "room.events/0", events[6])
    walk.take(events[6], encode(events[6]))
    assert [(f.store.value, f.wrong.value, f.seq) for f in findings] == [
        ("cassandra", "chain broken", 6),
        ("log", "chain broken", 7),
    ]


def test_what_the_archive_lacks_before_the_log_begins_is_missing_in_the_archive() -> None:
    events = history()
    findings = Findings()
    walk = RoomWalk("r", findings, Store.CASSANDRA, "room_log")
    for event in events[:4]:
        walk.take(event, encode(event))
    walk.go_on_in(Store.LOG, "room.events/0", events[6])
    for event in events[6:]:
        walk.take(event, encode(event))
    walk.close()
    assert [(f.store.value, f.part, f.wrong.value, f.seq, f.count) for f in findings] == [
        ("cassandra", "room_log", "missing", 5, 2)
    ]


def test_recent_events_are_those_of_a_tail() -> None:
    assert RECENT_EVENTS == TAIL_EVENTS
    events = history(1_000)
    walk, _ = walked(events)
    first, hashes = walk.recent()
    assert len(hashes) >= RECENT_EVENTS
    assert first + len(hashes) - 1 == events[-1].seq
    assert list(hashes) == [hash(encode(event)) for event in events[first - 1 :]]


def test_rows_are_cut_in_log_order_and_only_once() -> None:
    events = history()
    walk = RoomWalk("r", Findings(), Store.LOG, "room.events/0")
    for event in events[:5]:
        walk.take(event, encode(event))
    assert walk.rows_bytes == sum(len(encode(event)) for event in events[:5])
    assert [row[0] for row in walk.cut()] == [1, 2, 3, 4, 5]
    walk.take(events[5], encode(events[5]))
    assert (walk.waiting, walk.cut()) == (1, [(6, events[5].at, "message", "alice", encode(events[5]))])
    assert (walk.waiting, walk.rows_bytes, walk.cut()) == (0, 0, [])


def test_findings_of_a_kind_are_one_with_the_first_seq_and_a_count() -> None:
    findings = Findings()
    for seq in (9, 4, 7):
        findings.add(Store.CASSANDRA, "room_log", "r", Wrong.DIFFERS, seq, f"seq {seq}")
    findings.add(Store.REDIS, "tail", "a", Wrong.MISSING, 3)
    assert [str(finding) for finding in findings] == [
        "redis tail room a seq 3: missing",
        "cassandra room_log room r seq 4: differs (3 places): seq 4",
    ]
    assert msgspec.json.decode(next(iter(findings)).encode())["store"] == "redis"


def test_a_lost_store_does_not_fill_the_memory_with_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.verifying.findings.ROOMS_MAX", 10)
    findings = Findings()
    for number in range(50):
        findings.add(Store.CASSANDRA, "rooms", f"room{number}", Wrong.MISSING, 1)
    assert (len(list(findings)), findings.unlisted, len(findings)) == (10, 40, 50)
