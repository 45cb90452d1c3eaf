from __future__ import annotations

import msgspec
import pytest

from agents.sequencing import rows as module
from agents.sequencing.rows import (
    TABLES,
    Checkpoint,
    Rows,
    check_row,
    load_rows,
    physical_key,
    split_key,
)
from chat.errors import Code, Refused, UnknownVersion
from chat.log.taking import Position
from chat.records import Event, JoinRoom, LeaveRoom, PostMessage
from chat.rooms.decide import decide


def tables():
    return {table: {} for table in TABLES}


def checkpoint(src: int, term: int) -> Checkpoint:
    return Checkpoint(offset=src + 10, src=src, term=term, at=src)


def do(rows: Rows, *commands, at: int = 1000) -> None:
    for n, command in enumerate(commands):
        answer = decide(rows.of(command.room), command, at + n)
        assert isinstance(answer, Event)
        rows.fold(answer)


def post(room: str = "lobby", sender: str = "ann", **more) -> PostMessage:
    return PostMessage(v=1, room=room, sender=sender, nonce="n", create=True, **more)


def reloaded(data) -> Rows:
    return load_rows([3], data)[3]


def test_what_was_captured_is_read_back() -> None:
    data = tables()
    rows = Rows(3, data)
    do(rows, post(client_id="a"), JoinRoom(v=1, room="lobby", sender="bob"), post("other", "bob"))
    rows.capture(checkpoint(2, 7))
    again = reloaded(data)
    for room in ("lobby", "other"):
        assert again.of(room).head == rows.of(room).head is not None
    assert again.of("lobby").members.get("bob") == rows.of("lobby").members.get("bob") is not None
    assert again.of("lobby").senders.get("ann").recent == {"a": 1}
    assert again.checkpoint == msgspec.structs.replace(checkpoint(2, 7), rows=again.count)
    assert again.checkpoint.position == Position(12, 2, 7)


def test_a_checkpoint_counts_the_rows_that_it_vouches_for_by_logical_key() -> None:
    data = tables()
    old = Rows(3, data)
    do(old, post("one"), post("two"))
    old.capture(checkpoint(1, 4))
    assert old.checkpoint.rows == 6  # a head, an owner, a sender each
    new = reloaded(data)
    do(new, post("two", "bob"), at=2000)  # an older term's row of "two" stands beside the new one
    new.capture(checkpoint(2, 9))
    assert new.checkpoint.rows == reloaded(data).count == 7
    del data["rooms"][physical_key(3, 4, "one")]
    assert reloaded(data).count < reloaded(data).checkpoint.rows


def test_a_checkpoint_of_an_older_roomlog_counts_nothing() -> None:
    data = tables()
    data["checkpoints"][physical_key(3, 4, "")] = b'{"v":1,"term":4,"src":1,"row":{"offset":2,"src":1,"term":4,"at":9}}'
    assert reloaded(data).checkpoint.rows == 0


def test_only_what_changed_is_captured_again() -> None:
    rows = Rows(3, tables())
    do(rows, post("one"), post("two"))
    rows.capture(checkpoint(1, 7))
    do(rows, post("two"), at=2000)
    changes, _ = rows.capture(checkpoint(2, 7))
    assert {split_key(change.key)[2] for change in changes} == {"two", "two/ann"}


def test_nothing_new_is_a_checkpoint_alone() -> None:
    rows = Rows(3, tables())
    changes, last = rows.capture(checkpoint(0, 7))
    assert changes == []
    assert last.table == "checkpoints"


def test_a_row_that_only_the_recovery_fold_changed_is_new() -> None:
    data = tables()
    rows = Rows(3, data)
    do(rows, post())
    rows.capture(checkpoint(0, 7))
    do(rows, post(), at=2000)  # folded, acknowledged, never captured: the writer died
    event = decide(reloaded(data).of("lobby"), post(), 2000)
    assert isinstance(event, Event)
    again = reloaded(data)
    again.fold(event)
    changes, _ = again.capture(checkpoint(1, 9))
    assert {change.table for change in changes} == {"rooms", "senders"}


def test_a_row_newer_than_the_log_that_is_folded_is_not_new() -> None:
    data = tables()
    rows = Rows(3, data)
    event = decide(rows.of("lobby"), post(), 1000)
    assert isinstance(event, Event)
    rows.fold(event)
    rows.capture(checkpoint(0, 7))
    again = reloaded(data)
    again.fold(event)
    changes, _ = again.capture(checkpoint(0, 9))
    assert changes == []


def test_of_two_terms_rows_the_higher_one_counts_whichever_came_last() -> None:
    for order in ((4, 9), (9, 4)):
        data = tables()
        for term in order:
            rows = Rows(3, {table: {} for table in TABLES} if term == 4 else data)
            do(rows, *([post()] * term))
            changes, last = rows.capture(checkpoint(term, term))
            for change in (*changes, last):
                data[change.table][change.key] = change.value
        assert reloaded(data).of("lobby").head.seq == 9
        assert reloaded(data).checkpoint.term == 9


def test_a_row_of_an_older_term_is_named_for_deletion_by_the_row_that_replaces_it() -> None:
    data = tables()
    old = Rows(3, data)
    do(old, post("one"), post("two"))
    old.capture(checkpoint(1, 4))
    new = reloaded(data)
    do(new, post("two"), at=2000)
    changes, last = new.capture(checkpoint(2, 9))
    obsolete = {key for change in (*changes, last) for key in change.obsolete}
    assert obsolete == {physical_key(3, 4, "two"), physical_key(3, 4, "two/ann"), physical_key(3, 4, "")}
    # In memory it is gone at once. What nobody replaced stays: it is the row.
    assert not any(key in data[change.table] for change in (*changes, last) for key in change.obsolete)
    assert reloaded(data).of("one").head is not None


def test_every_older_terms_row_goes_not_only_the_last() -> None:
    data = tables()
    for term in (2, 4, 6):
        rows = Rows(3, tables())
        do(rows, post())
        changes, _ = rows.capture(checkpoint(0, term))
        for change in changes:
            data[change.table][change.key] = change.value
    new = reloaded(data)
    do(new, post(), at=2000)
    changes, _ = new.capture(checkpoint(1, 9))
    head = next(change for change in changes if change.table == "rooms")
    assert set(head.obsolete) == {physical_key(3, term, "lobby") for term in (2, 4, 6)}


def test_a_member_who_left_stays_a_row() -> None:
    data = tables()
    rows = Rows(3, data)
    do(rows, post(), JoinRoom(v=1, room="lobby", sender="bob"), LeaveRoom(v=1, room="lobby", sender="bob"))
    rows.capture(checkpoint(2, 7))
    assert reloaded(data).of("lobby").members.get("bob").role == "none"


def test_rows_beyond_the_bound_are_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.DECODED_MAX, "rooms", 2)
    rows = Rows(3, tables())
    do(rows, *(post(f"room-{n}") for n in range(5)))
    rows.capture(checkpoint(4, 7))
    assert [rows.of(f"room-{n}").head.seq for n in range(5)] == [1] * 5


def test_rows_of_a_partition_that_moved_away_leave_the_tables() -> None:
    data = tables()
    mine, other = Rows(3, data), Rows(4, data)
    do(mine, post())
    do(other, post("elsewhere"))
    mine.capture(checkpoint(0, 7))
    other.capture(checkpoint(0, 8))
    mine.drop()
    assert {key for table in data.values() for key in table} == {
        physical_key(4, 8, key) for key in ("elsewhere", "elsewhere/ann", "")
    }


@pytest.mark.parametrize(
    "key", [b"", b"3", b"3:4", b"x:4:k", b"3:x:k", b"-3:4:k", b"3:4:\xff", b"3:" + b"9" * 30 + b":k"]
)
def test_a_key_that_is_none_of_ours(key: bytes) -> None:
    with pytest.raises(Refused):
        split_key(key)


def test_a_key_may_hold_colons() -> None:
    assert split_key(physical_key(3, 4, "a:b/c:d")) == (3, 4, "a:b/c:d")


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (b"junk", b'{"v":1,"term":4,"src":1}', Code.UNDECODABLE),
        (b"3:4:k", b"junk", Code.UNDECODABLE),
        (b"3:4:k", b"{}", Code.UNDECODABLE),
        (b"3:4:k", b'{"v":1,"term":5,"src":1}', Code.IMPOSSIBLE),
        (b"2:4:k", b'{"v":1,"term":4,"src":1}', Code.IMPOSSIBLE),
    ],
)
def test_what_is_no_row_is_refused(key: bytes, value: bytes, code: Code) -> None:
    with pytest.raises(Refused) as refused:
        check_row(3, key, value)
    assert refused.value.code is code


def test_a_row_of_a_newer_version_stops() -> None:
    with pytest.raises(UnknownVersion):
        check_row(3, b"3:4:k", b'{"v":2,"term":4,"src":1}')


def test_our_own_rows_pass() -> None:
    rows = Rows(3, tables())
    do(rows, post())
    changes, last = rows.capture(checkpoint(0, 7))
    for change in (*changes, last):
        check_row(3, change.key, change.value)
