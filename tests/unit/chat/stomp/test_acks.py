"""ACK and NACK as flow control, and what they name in each version ("ACK", "NACK", "SUBSCRIBE ack Header")."""

from __future__ import annotations

import pytest

from chat.errors import Code
from chat.stomp.acks import NACKS_MAX, AckTarget, AckWindow, Position, Resend, Settled
from chat.stomp.codec import ack_line, message_prefix, message_suffix
from chat.stomp.events import Ack, Commit, Nack, Subscribe, Unsubscribe
from chat.stomp.frames import AckMode, Frame, Version
from chat.stomp.limits import Limits
from tests.unit.chat.stomp.link import ALL, NEW, V10, V11, V12, Link, code_of, only, raw

CLIENT, INDIVIDUAL = AckMode.CLIENT, AckMode.CLIENT_INDIVIDUAL


def window(mode: AckMode = CLIENT, size: int = 8, *, sent: int = 0) -> AckWindow:
    one = AckWindow(mode, size, 1)
    for seq in range(1, sent + 1):
        one.sent("a", seq)
    return one


# ---------------------------------------------------------------- one window


def test_a_window_is_open_until_it_is_full() -> None:
    one = window(size=2)
    assert one.is_open
    assert [one.sent("a", seq) for seq in (1, 2)] == ["1-1", "1-2"]
    assert not one.is_open


def test_an_ack_in_client_mode_counts_for_all_before_it() -> None:
    one = window(sent=5)
    assert one.ack(3)
    assert one.outstanding == 2
    assert not one.ack(3)
    assert not one.ack(2)
    assert one.outstanding == 2


def test_an_ack_in_client_individual_mode_counts_for_one() -> None:
    one = window(INDIVIDUAL, sent=5)
    assert one.ack(3)
    assert not one.ack(3)
    assert one.outstanding == 4


def test_a_nack_in_client_mode_sends_it_and_what_follows_again() -> None:
    one = window(sent=5)
    assert one.nack(3) == (Position("a", 3),)
    assert one.outstanding == 2
    assert [one.sent("a", seq) for seq in (3, 4, 5)] == ["1-6", "1-7", "1-8"]
    assert one.outstanding == 5


def test_a_second_nack_of_what_is_on_its_way_again_changes_nothing() -> None:
    one = window(sent=5)
    one.nack(3)
    assert one.nack(3) == ()
    assert one.nack(4) == ()
    one.sent("a", 3)
    assert one.nack(3) == ()
    assert one.outstanding == 3


def test_a_message_is_sent_again_three_times_and_then_counts_as_acknowledged() -> None:
    one = window(sent=3)
    for _ in range(NACKS_MAX):
        delivery = one.delivery_of(Position("a", 2))
        assert delivery
        assert one.nack(delivery) == (Position("a", 2),)
        for seq in (2, 3):
            one.sent("a", seq)
    delivery = one.delivery_of(Position("a", 2))
    assert delivery
    assert one.nack(delivery) == ()
    assert one.outstanding == 1, "2 and 1 before it are settled, 3 is not"


def test_nacks_are_counted_for_each_message_alone() -> None:
    one = window(sent=2)
    for seq in (1, 2, 1, 2, 1, 2):
        delivery = one.delivery_of(Position("a", seq))
        assert delivery
        assert one.nack(delivery)
        for again in range(seq, 3):
            one.sent("a", again)
    assert one.outstanding == 2


def test_a_nack_in_client_individual_mode_skips_one() -> None:
    one = window(INDIVIDUAL, sent=5)
    assert one.nack(3) == ()
    assert one.outstanding == 4
    assert one.delivery_of(Position("a", 3)) == 0
    assert one.delivery_of(Position("a", 2)) == 2


def test_a_nack_over_several_sources_goes_back_in_each() -> None:
    one = window()
    for source, seq in (("a", 1), ("b", 7), ("a", 2), ("b", 8)):
        one.sent(source, seq)
    assert one.nack(2) == (Position("b", 7), Position("a", 2))


def test_a_window_stays_small_however_much_goes_through_it() -> None:
    one = window(size=4)
    for seq in range(1, 10_001):
        one.sent("a", seq)
        one.ack(seq)
    assert one.outstanding == 0
    assert [len(part) for part in (one._outstanding, one._where, one._nacks, one._issued)] == [0, 0, 0, 1]


# ---------------------------------------------------------------- over the link


class Room(Link):
    """A link whose server delivers numbered MESSAGEs, as the gateway does."""

    def subscribe(self, key: str, ack: AckMode = CLIENT, room: str = "a") -> Subscribe:
        event = only(self.to_server(self.client.subscribe(f"/room/{room}", key, ack=ack)))
        assert isinstance(event, Subscribe)
        return event

    def deliver(self, to: Subscribe, seq: int, room: str = "a") -> Frame:
        version = self.server.version
        assert version is not None
        line = b"" if to.window is None else ack_line(version, to.window.sent(room, seq))
        suffix = message_suffix(version, {"message-id": f"{room}/{seq}"}, b"hi")
        return only(self.to_client(message_prefix(version, to.id, to.destination) + line + suffix))  # type: ignore[arg-type, return-value]

    def ack(self, message: Frame) -> Settled:
        event = only(self.to_server(self.client.ack(message)))
        assert isinstance(event, Ack)
        return self.server.acks.ack(event.targets)

    def nack(self, message: Frame) -> Settled:
        event = only(self.to_server(self.client.nack(message)))
        assert isinstance(event, Nack)
        return self.server.acks.nack(event.targets)


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("mode", [CLIENT, INDIVIDUAL])
def test_an_ack_names_its_message_in_every_version(version: Version, mode: AckMode) -> None:
    link = Room(version)
    subscription = link.subscribe("s", mode)
    messages = [link.deliver(subscription, seq) for seq in (1, 2, 3)]
    assert ("ack" in messages[0].headers) == (version is V12)
    assert link.ack(messages[1]) == Settled(("s",))
    assert subscription.window is not None
    assert subscription.window.outstanding == (1 if mode is CLIENT else 2)


@pytest.mark.parametrize("version", ALL)
def test_an_ack_frees_a_full_window(version: Version) -> None:
    link = Room(version, limits=Limits(ack_window=2))
    subscription = link.subscribe("s")
    link.deliver(subscription, 1)
    last = link.deliver(subscription, 2)
    assert subscription.window is not None
    assert not subscription.window.is_open
    link.ack(last)
    assert subscription.window.is_open


@pytest.mark.parametrize("version", NEW)
def test_a_nack_says_from_where_to_send_again(version: Version) -> None:
    link = Room(version)
    subscription = link.subscribe("s")
    messages = [link.deliver(subscription, seq) for seq in (1, 2, 3)]
    assert link.nack(messages[1]) == Settled(("s",), (Resend("s", 1, Position("a", 2)),))


@pytest.mark.parametrize("version", NEW)
def test_a_nack_in_client_individual_mode_only_makes_room(version: Version) -> None:
    link = Room(version)
    subscription = link.subscribe("s", INDIVIDUAL)
    messages = [link.deliver(subscription, seq) for seq in (1, 2, 3)]
    assert link.nack(messages[1]) == Settled(("s",))


def test_a_1_0_ack_counts_for_every_subscription_that_got_the_message() -> None:
    link = Room(V10)
    one, two, other = (link.subscribe(key) for key in ("1", "2", "3"))
    message = link.deliver(one, 7)
    link.deliver(two, 7)
    link.deliver(other, 8)
    assert link.ack(message) == Settled(("1", "2"))


def test_a_1_1_ack_counts_for_the_subscription_it_names() -> None:
    link = Room(V11)
    one, two = link.subscribe("1"), link.subscribe("2")
    link.deliver(one, 7)
    message = link.deliver(two, 7)
    assert link.ack(message) == Settled(("2",))
    assert one.window is not None
    assert one.window.outstanding == 1


@pytest.mark.parametrize("version", ALL)
def test_an_ack_of_what_is_settled_already_is_ignored(version: Version) -> None:
    link = Room(version)
    subscription = link.subscribe("s")
    message = link.deliver(subscription, 1)
    link.ack(message)
    assert link.ack(message) == Settled()


@pytest.mark.parametrize("version", ALL)
def test_an_ack_that_crosses_an_unsubscribe_is_ignored(version: Version) -> None:
    link = Room(version)
    message = link.deliver(link.subscribe("s"), 1)
    assert isinstance(only(link.to_server(link.client.unsubscribe("s"))), Unsubscribe)
    assert link.ack(message) == Settled()


@pytest.mark.parametrize("version", ALL)
def test_an_ack_of_an_earlier_instance_does_not_touch_the_later_one(version: Version) -> None:
    link = Room(version)
    message = link.deliver(link.subscribe("s"), 1)
    link.to_server(link.client.unsubscribe("s"))
    again = link.subscribe("s")
    link.deliver(again, 5)
    assert link.ack(message) == Settled()
    assert again.window is not None
    assert again.window.outstanding == 1


def test_an_ack_resolved_before_the_subscription_ended_settles_nothing_after_it() -> None:
    link = Room()
    message = link.deliver(link.subscribe("s"), 1)
    ack, _ = link.to_server(link.client.ack(message) + link.client.unsubscribe("s"))
    assert isinstance(ack, Ack)
    assert ack.targets == (AckTarget("s", 1, 1),)
    assert link.server.acks.ack(ack.targets) == Settled()
    assert link.server.acks.nack(ack.targets) == Settled()


UNKNOWN = [
    (V12, {"id": "1-4"}),
    (V12, {"id": "1-0"}),
    (V12, {"id": "2-1"}),
    (V12, {"id": "0-1"}),
    (V12, {"id": "9-1"}),
    (V12, {"id": "a/1"}),
    (V12, {"id": ""}),
    (V12, {"id": "-"}),
    (V12, {"id": "1-1-1"}),
    (V12, {"id": "1-" + "9" * 5000}),
    (V12, {"id": "nonsense"}),
    (V11, {"message-id": "a/4", "subscription": "s"}),
    (V11, {"message-id": "a/0", "subscription": "s"}),
    (V11, {"message-id": "b/1", "subscription": "s"}),
    (V11, {"message-id": "a/1", "subscription": "t"}),
    (V11, {"message-id": "nonsense", "subscription": "s"}),
    (V11, {"message-id": "/1", "subscription": "s"}),
    (V11, {"message-id": "a/", "subscription": "s"}),
    (V11, {"message-id": "a/" + "9" * 5000, "subscription": "s"}),
    (V10, {"message-id": "a/4"}),
    (V10, {"message-id": "b/1"}),
    (V10, {"message-id": "nonsense"}),
]


@pytest.mark.parametrize(("version", "headers"), UNKNOWN)
def test_an_id_that_was_never_issued_is_refused(version: Version, headers: dict[str, str]) -> None:
    for command in ("ACK",) if version is V10 else ("ACK", "NACK"):
        link = Room(version)
        subscription = link.subscribe("s")
        for seq in (1, 2, 3):
            link.deliver(subscription, seq)
        assert code_of(link.to_server(raw(command, headers))) is Code.UNKNOWN_ACK


@pytest.mark.parametrize(
    ("version", "headers", "code"),
    [
        (V12, {"id": "a/1"}, None),
        (V12, {"id": "nonsense"}, Code.UNKNOWN_ACK),
        (V12, {"id": "1-1"}, Code.UNKNOWN_ACK),
        (V11, {"message-id": "a/1", "subscription": "s"}, None),
        (V11, {"message-id": "nonsense", "subscription": "s"}, Code.UNKNOWN_ACK),
        (V11, {"message-id": "a/1", "subscription": "t"}, Code.UNKNOWN_ACK),
        (V10, {"message-id": "a/1"}, None),
        (V10, {"message-id": "nonsense"}, Code.UNKNOWN_ACK),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_an_ack_in_auto_mode_means_nothing(
    version: Version, headers: dict[str, str], code: Code | None, *, ended: bool
) -> None:
    link = Room(version)
    link.deliver(link.subscribe("s", AckMode.AUTO), 1)
    if ended:
        link.to_server(link.client.unsubscribe("s"))
        if headers == {"id": "1-1"}:
            code = None  # an instance that is gone is not asked for its mode
    events = link.to_server(raw("ACK", {**headers, "receipt": "r"}))
    assert code_of(events) is code
    if code is None:
        assert events == [Ack((), "r")]


@pytest.mark.parametrize("version", NEW)
def test_acks_in_a_transaction_are_applied_at_commit(version: Version) -> None:
    link = Room(version)
    subscription = link.subscribe("s", INDIVIDUAL)
    messages = [link.deliver(subscription, seq) for seq in (1, 2, 3)]
    link.to_server(link.client.begin("t"))
    assert link.to_server(link.client.ack(messages[0], transaction="t", receipt="r")) == []
    assert link.to_server(link.client.nack(messages[2], transaction="t")) == []
    assert subscription.window is not None
    assert subscription.window.outstanding == 3
    (commit,) = link.to_server(link.client.commit("t"))
    assert isinstance(commit, Commit)
    assert [type(frame) for frame in commit.frames] == [Ack, Nack]
    assert commit.frames[0].receipt == "r"


def test_an_ack_in_a_transaction_that_is_not_open_is_refused() -> None:
    link = Room()
    message = link.deliver(link.subscribe("s"), 1)
    assert code_of(link.to_server(link.client.ack(message, transaction="t"))) is Code.UNKNOWN_TRANSACTION


def test_ended_subscriptions_are_remembered_up_to_a_bound() -> None:
    link = Room(V11, limits=Limits(subscriptions_max=2))
    messages = []
    for key in ("1", "2", "3"):
        messages.append(link.deliver(link.subscribe(key), 1))
        link.to_server(link.client.unsubscribe(key))
    assert link.ack(messages[2]) == Settled()
    assert code_of(link.to_server(link.client.ack(messages[0]))) is Code.UNKNOWN_ACK
