from __future__ import annotations

import pytest

from chat.errors import Code
from chat.records import (
    CreateRoom,
    Event,
    JoinRoom,
    LeaveRoom,
    Membership,
    Opens,
    PostMessage,
    RenumberRoom,
    Tick,
    Verdict,
    WatchRoom,
    decode_event,
    encode,
)
from chat.rooms.chain import genesis, verify
from chat.rooms.decide import MICROSECONDS, decide, log_time, refuse_undecodable
from chat.rooms.state import RECENT_PER_SENDER, Head, Member, Sender, fold_head, fold_member, fold_sender

AT = 1_700_000_000 * MICROSECONDS


class Room:
    """A room's rows in dictionaries."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.members: dict[str, Member] = {}
        self.senders: dict[str, Sender] = {}
        self.at = AT
        self.events: list[Event] = []

    def do(self, command) -> Event | Verdict:
        self.at += 1000
        answer = decide(self, command, self.at)
        if isinstance(answer, Event):
            self.events.append(answer)
            self.head = fold_head(self.head, answer)
            if answer.member is not None:
                member = fold_member(self.members.get(answer.member.user), answer)
                assert member is not None
                self.members[answer.member.user] = member
            self.senders[answer.sender] = fold_sender(self.senders.get(answer.sender), answer)
        return answer


def post(sender: str = "ann", *, create: bool = True, **more) -> PostMessage:
    return PostMessage(v=1, room="lobby", sender=sender, nonce="salt", create=create, **more)


def test_first_message_opens_the_room_and_makes_its_sender_the_owner() -> None:
    event = Room().do(post(body="hello"))
    assert isinstance(event, Event)
    assert (event.seq, event.msg_no, event.members, event.kind) == (1, 1, 1, "message")
    assert event.opens == Opens(kind="open", owner="ann")
    assert event.member == Membership(user="ann", role="owner")


def test_epoch_is_the_log_time_of_the_first_event_and_stays() -> None:
    room = Room()
    first, second = room.do(post()), room.do(post())
    assert first.epoch == second.epoch == format(AT + 1000, "x")


def test_posts_get_the_next_seq_and_count_as_messages() -> None:
    room = Room()
    room.do(CreateRoom(v=1, room="lobby", sender="ann"))
    assert [room.do(post()).seq for _ in range(3)] == [2, 3, 4]
    assert room.head is not None
    assert room.head.msg_no == 3


def test_post_into_a_room_that_does_not_exist_is_refused_where_rooms_must_be_made() -> None:
    room = Room()
    verdict = room.do(post(create=False))
    assert isinstance(verdict, Verdict)
    assert (verdict.outcome, verdict.code) == ("refused", Code.ROOM_NOT_FOUND)
    assert room.head is None


def test_what_a_client_said_stands_in_the_event_untouched() -> None:
    event = Room().do(post(body="héllo\u0000", content_type="text/x", headers={"a": "b"}, client_id="c-1"))
    assert isinstance(event, Event)
    assert (event.body, event.content_type, event.headers, event.client_id) == (
        "héllo\u0000",
        "text/x",
        {"a": "b"},
        "c-1",
    )


def test_octets_that_are_no_text_pass_through() -> None:
    event = Room().do(post(body_b64="/w=="))
    assert isinstance(event, Event)
    assert event.body_bytes() == b"\xff"


def test_repeated_client_id_is_answered_with_the_first_number() -> None:
    room = Room()
    room.do(post(client_id="a"))
    first = room.do(post(client_id="b"))
    room.do(post(client_id="c"))
    again = room.do(post(client_id="b", body="other words"))
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq, again.epoch) == ("duplicate", first.seq, first.epoch)


def test_client_ids_of_two_people_do_not_meet() -> None:
    room = Room()
    room.do(post("ann", client_id="a"))
    assert isinstance(room.do(post("bob", client_id="a")), Event)


def test_the_last_256_events_of_a_sender_are_remembered_and_no_more() -> None:
    room = Room()
    for n in range(RECENT_PER_SENDER + 1):
        room.do(post(client_id=f"id-{n}"))
    assert isinstance(room.do(post(client_id="id-1")), Verdict)
    assert isinstance(room.do(post(client_id="id-0")), Event)


def test_events_without_a_client_id_count_among_the_256() -> None:
    room = Room()
    room.do(post(client_id="early"))
    for _ in range(RECENT_PER_SENDER):
        room.do(post())
    assert isinstance(room.do(post(client_id="early")), Event)


def test_a_refusal_is_not_remembered() -> None:
    room = Room()
    room.do(post(create=False, client_id="a"))
    assert isinstance(room.do(post(client_id="a")), Event)


def test_repeated_join_and_leave_are_answered_with_their_numbers_too() -> None:
    room = Room()
    room.do(post())
    joined = room.do(JoinRoom(v=1, room="lobby", sender="bob", client_id="j"))
    room.do(LeaveRoom(v=1, room="lobby", sender="bob", client_id="l"))
    again = room.do(JoinRoom(v=1, room="lobby", sender="bob", client_id="j"))
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq) == ("duplicate", joined.seq)


def test_create_makes_a_room_once() -> None:
    room = Room()
    event = room.do(CreateRoom(v=1, room="lobby", sender="ann", name="The Lobby"))
    assert isinstance(event, Event)
    assert (event.kind, event.seq, event.msg_no) == ("room.created", 1, 0)
    again = room.do(CreateRoom(v=1, room="lobby", sender="bob"))
    assert isinstance(again, Verdict)
    assert again.code is Code.ROOM_EXISTS
    assert room.head is not None
    assert (room.head.owner, room.head.name) == ("ann", "The Lobby")


def test_join_and_leave_count_members() -> None:
    room = Room()
    room.do(post("ann"))
    joined = room.do(JoinRoom(v=1, room="lobby", sender="bob"))
    left = room.do(LeaveRoom(v=1, room="lobby", sender="bob"))
    assert isinstance(joined, Event)
    assert isinstance(left, Event)
    assert (joined.members, left.members) == (2, 1)
    assert left.member == Membership(user="bob", role="none")


def test_join_twice_and_leave_twice_change_nothing() -> None:
    room = Room()
    room.do(post("ann"))
    joined = room.do(JoinRoom(v=1, room="lobby", sender="bob"))
    again = room.do(JoinRoom(v=1, room="lobby", sender="bob"))
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq) == ("unchanged", joined.seq)
    left = room.do(LeaveRoom(v=1, room="lobby", sender="bob"))
    again = room.do(LeaveRoom(v=1, room="lobby", sender="bob"))
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq) == ("unchanged", left.seq)


def test_leaving_a_room_that_one_never_joined_changes_nothing() -> None:
    room = Room()
    room.do(post("ann"))
    verdict = room.do(LeaveRoom(v=1, room="lobby", sender="eve"))
    assert isinstance(verdict, Verdict)
    assert verdict.outcome == "unchanged"


def test_join_opens_a_room_only_where_first_use_does() -> None:
    assert isinstance(Room().do(JoinRoom(v=1, room="lobby", sender="ann", create=True)), Event)
    verdict = Room().do(JoinRoom(v=1, room="lobby", sender="ann"))
    assert isinstance(verdict, Verdict)
    assert verdict.code is Code.ROOM_NOT_FOUND


def test_watch_says_where_the_room_stands() -> None:
    room = Room()
    room.do(post())
    room.do(post())
    verdict = room.do(WatchRoom(v=1, room="lobby", users=("ann", "bob")))
    assert isinstance(verdict, Verdict)
    assert verdict.watch is not None
    assert (verdict.watch.head_seq, verdict.watch.first_seq, verdict.watch.msg_no) == (2, 1, 2)
    assert verdict.watch.denied == {}


def test_watch_of_a_room_that_does_not_exist_yet() -> None:
    allowed = Room().do(WatchRoom(v=1, room="lobby", users=("ann",), create=True))
    denied = Room().do(WatchRoom(v=1, room="lobby", users=("ann",)))
    assert isinstance(allowed, Verdict)
    assert isinstance(denied, Verdict)
    assert allowed.watch is not None
    assert denied.watch is not None
    assert (allowed.watch.head_seq, allowed.watch.denied) == (0, {})
    assert denied.watch.denied == {"ann": Code.ROOM_NOT_FOUND}


def test_a_tick_is_answered_and_changes_nothing() -> None:
    room = Room()
    verdict = room.do(Tick(v=1))
    assert isinstance(verdict, Verdict)
    assert verdict.outcome == "tick"


def test_every_event_is_chained_to_the_one_before() -> None:
    room = Room()
    room.do(post(client_id="a", body="one"))
    room.do(JoinRoom(v=1, room="lobby", sender="bob"))
    room.do(LeaveRoom(v=1, room="lobby", sender="bob"))
    room.do(post(body_b64="/w==", headers={"x": "y"}, content_type="a/b"))
    previous = genesis("lobby", room.events[0].epoch)
    for event in room.events:
        stored = decode_event(encode(event))
        assert verify(previous, stored)
        previous = stored.chain


def test_two_writers_of_one_command_write_the_same_bytes() -> None:
    one, other = Room(), Room()
    for command in (post(client_id="a"), JoinRoom(v=1, room="lobby", sender="bob"), post("bob", body="x")):
        assert encode(one.do(command)) == encode(other.do(command))


@pytest.mark.parametrize(
    ("stamp_ms", "previous", "at"),
    [
        (5, 0, 5000),
        (5, 5000, 5001),
        (5, 9000, 9001),  # the broker's clock went back
    ],
)
def test_log_time_never_stands_still(stamp_ms: int, previous: int, at: int) -> None:
    assert log_time(stamp_ms, previous) == at


def test_refusal_of_bytes_names_its_code() -> None:
    verdict = refuse_undecodable("", Code.UNDECODABLE, "not a command", AT)
    assert (verdict.outcome, verdict.code, verdict.room) == ("refused", Code.UNDECODABLE, "")


def renumber(room: Room, above: int = 0) -> RenumberRoom:
    assert room.head is not None
    return RenumberRoom(v=1, room="lobby", sender="~roomlog", epoch=room.head.epoch, above=above)


def test_numbering_anew_goes_on_above_everything_with_a_chain_of_its_own() -> None:
    room = Room()
    for n in range(3):
        room.do(post(client_id=f"{n}"))
    before = room.head
    event = room.do(renumber(room, above=1000))
    assert isinstance(event, Event)
    assert before is not None
    assert (event.kind, event.seq, event.epoch, event.msg_no, event.members) == (
        "room.renumbered", 1001, format(event.at, "x"), 3, 1,
    )  # fmt: skip
    assert event.opens == Opens(kind="open", owner="ann")
    assert verify(genesis("lobby", event.epoch), event)
    following = room.do(post(body="next"))
    assert isinstance(following, Event)
    assert (following.seq, following.epoch, following.msg_no) == (1002, event.epoch, 4)
    assert verify(event.chain, following)


def test_numbering_anew_never_gives_a_number_that_is_known() -> None:
    room = Room()
    for _ in range(5):
        room.do(post())
    event = room.do(renumber(room, above=2))
    assert isinstance(event, Event)
    assert event.seq == 6


def test_numbering_anew_twice_is_done_once() -> None:
    room = Room()
    room.do(post())
    command = renumber(room, above=10)
    room.do(command)
    again = room.do(command)
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq) == ("unchanged", 11)


def test_a_room_that_is_not_there_is_not_numbered_anew() -> None:
    answer = Room().do(RenumberRoom(v=1, room="lobby", sender="~roomlog", epoch="e"))
    assert isinstance(answer, Verdict)
    assert answer.code is Code.ROOM_NOT_FOUND


def test_an_id_from_before_the_new_epoch_is_still_a_repeat() -> None:
    room = Room()
    room.do(post(client_id="a"))
    room.do(renumber(room, above=100))
    again = room.do(post(client_id="a"))
    assert isinstance(again, Verdict)
    assert (again.outcome, again.seq) == ("duplicate", 1)
    assert room.head is not None
    assert again.epoch == room.head.epoch
