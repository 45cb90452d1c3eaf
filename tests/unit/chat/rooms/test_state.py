from __future__ import annotations

import msgspec
import pytest

from chat.errors import LogHole
from chat.records import Event, Membership, Opens
from chat.rooms.state import RECENT_PER_SENDER, Member, Sender, fold_head, fold_member, fold_sender


def event(seq: int, *, sender: str = "ann", client_id: str | None = None, member=None, members: int = 1) -> Event:
    return Event(
        v=1,
        room="lobby",
        seq=seq,
        epoch="e",
        kind="message",
        at=1000 + seq,
        sender=sender,
        msg_no=seq,
        members=members,
        chain=f"chain-{seq}",
        client_id=client_id,
        opens=Opens(kind="open", owner="ann", name="n") if seq == 1 else None,
        member=member,
    )


def test_head_follows_the_events() -> None:
    head = fold_head(fold_head(None, event(1)), event(2, members=3))
    assert (head.seq, head.first_seq, head.msg_no, head.chain, head.members, head.owner, head.name) == (
        2,
        1,
        2,
        "chain-2",
        3,
        "ann",
        "n",
    )


def test_head_that_is_newer_than_the_log_is_left_as_it_is() -> None:
    head = fold_head(fold_head(None, event(1)), event(2))
    assert fold_head(head, event(1)) is head
    assert fold_head(head, event(2)) is head


def test_missing_event_is_a_hole() -> None:
    head = fold_head(None, event(1))
    with pytest.raises(LogHole):
        fold_head(head, event(3))


def test_room_that_begins_in_the_middle_is_a_hole() -> None:
    with pytest.raises(LogHole):
        fold_head(None, event(2))


def test_membership_is_what_the_last_event_about_it_says() -> None:
    joined = fold_member(None, event(2, member=Membership(user="bob", role="member")))
    left = fold_member(joined, event(5, member=Membership(user="bob", role="none")))
    assert left == Member(role="none", seq=5)


def test_late_copy_of_a_join_does_not_bring_somebody_back() -> None:
    left = Member(role="none", seq=5)
    assert fold_member(left, event(2, member=Membership(user="bob", role="member"))) is left


def test_event_about_nobody_leaves_memberships_alone() -> None:
    member = Member(role="member", seq=2)
    assert fold_member(member, event(3)) is member


def test_refold_of_a_sender_changes_nothing() -> None:
    row = fold_sender(fold_sender(None, event(1, client_id="a")), event(2, client_id="b"))
    assert fold_sender(row, event(1, client_id="a")).recent == {"a": 1, "b": 2}


def test_refold_from_an_old_checkpoint_brings_back_no_forgotten_id() -> None:
    row: Sender | None = None
    for seq in range(1, RECENT_PER_SENDER + 10):
        row = fold_sender(row, event(seq, client_id=f"id-{seq}"))
    assert row is not None
    before = dict(row.recent)
    for seq in range(1, RECENT_PER_SENDER + 10):
        row = fold_sender(row, event(seq, client_id=f"id-{seq}"))
    assert row.recent == before
    assert len(before) == RECENT_PER_SENDER


def renumbered(seq: int, epoch: str = "f", **more) -> Event:
    opens = Opens(kind="open", owner="ann", name="n")
    return msgspec.structs.replace(event(seq), kind="room.renumbered", epoch=epoch, opens=opens, **more)


def test_numbering_anew_may_jump_and_nothing_else_may() -> None:
    head = fold_head(fold_head(None, event(1)), event(2, members=3))
    anew = fold_head(head, renumbered(1001, msg_no=2, members=3))
    assert (anew.seq, anew.first_seq, anew.epoch, anew.msg_no, anew.members) == (1001, 1001, "f", 2, 3)
    after = fold_head(anew, msgspec.structs.replace(event(1002), epoch="f"))
    assert (after.seq, after.first_seq, after.epoch) == (1002, 1001, "f")
    assert fold_head(after, renumbered(1001)) is after
    assert fold_head(after, event(2)) is after


def test_an_event_of_another_epoch_is_a_hole() -> None:
    head = fold_head(None, event(1))
    with pytest.raises(LogHole):
        fold_head(head, msgspec.structs.replace(event(2), epoch="f"))


def test_a_reader_that_has_lost_everything_may_begin_with_a_new_epoch() -> None:
    head = fold_head(None, renumbered(1001, msg_no=7))
    assert (head.seq, head.first_seq, head.epoch, head.msg_no, head.owner, head.name) == (
        1001,
        1001,
        "f",
        7,
        "ann",
        "n",
    )
