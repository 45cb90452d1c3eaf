"""The server's end once it is connected: required headers, subscriptions, transactions, refusals, answers."""

from __future__ import annotations

import pytest

from chat.errors import Code, LocalProtocolError, Refused, RemoteProtocolError
from chat.stomp.connection import ServerConnection, State
from chat.stomp.events import (
    Abort,
    Begin,
    Commit,
    Connect,
    Disconnect,
    Send,
    Subscribe,
    Unsubscribe,
    Violation,
    reserved_header,
)
from chat.stomp.frames import AckMode, Frame, Version
from chat.stomp.limits import Limits
from tests.unit.chat.stomp.link import ALL, NEW, V10, V11, V12, Link, code_of, connected_server, new_server, only, raw

# ---------------------------------------------------------------- required headers

REQUIRED = [
    ("SEND", {}, ALL),
    ("SUBSCRIBE", {"id": "0"}, ALL),
    ("SUBSCRIBE", {"destination": "/room/a"}, NEW),
    ("UNSUBSCRIBE", {}, ALL),
    ("UNSUBSCRIBE", {"destination": "/room/a"}, NEW),
    ("ACK", {}, ALL),
    ("ACK", {"message-id": "a/1", "subscription": "0"}, (V12,)),
    ("ACK", {"message-id": "a/1"}, (V11,)),
    ("ACK", {"subscription": "0"}, (V10, V11)),
    ("NACK", {"message-id": "a/1", "subscription": "0"}, (V12,)),
    ("NACK", {"message-id": "a/1"}, (V11,)),
    ("BEGIN", {}, ALL),
    ("COMMIT", {}, ALL),
    ("ABORT", {}, ALL),
]


@pytest.mark.parametrize(
    ("command", "headers", "version"),
    [(command, headers, version) for command, headers, versions in REQUIRED for version in versions],
)
def test_a_frame_without_a_required_header_is_refused(command: str, headers: dict[str, str], version: Version) -> None:
    events = connected_server(version).receive_data(raw(command, {**headers, "receipt": "r"}))
    assert code_of(events) is Code.MISSING_HEADER
    assert isinstance(events[0], Violation)
    assert events[0].error.receipt_id == "r"


def test_1_0_has_no_nack() -> None:
    assert code_of(connected_server(V10).receive_data(raw("NACK", {"message-id": "a/1"}))) is Code.UNKNOWN_COMMAND


# ---------------------------------------------------------------- "SEND"


def test_a_send_is_taken_apart() -> None:
    headers = {
        "destination": "/room/a",
        "content-type": "text/plain",
        "x-client-id": "c-1",
        "receipt": "r-1",
        "content-length": "2",
        "login": "mina",
        "passcode": "x",
        "Authorization": "Bearer x",
        "priority": "9",
        "Receipt": "mine",
    }
    send = only(connected_server().receive_data(raw("SEND", headers, b"hi")))
    assert send == Send("/room/a", {"priority": "9", "Receipt": "mine"}, "text/plain", "c-1", b"hi", "r-1")


def test_passed_on_headers_are_bounded_in_bytes() -> None:
    limits = Limits(passed_headers_bytes_max=12)
    for value, taken in (("v" * 11, True), ("v" * 12, False), ("é" * 5, True), ("é" * 6, False)):
        events = connected_server(limits=limits).receive_data(raw("SEND", {"destination": "/room/a", "k": value}))
        assert code_of(events) == (None if taken else Code.HEADERS_TOO_LARGE), value
    unpassed = {"destination": "/room/a", "receipt": "r" * 50, "content-type": "t" * 50}
    assert code_of(connected_server(limits=limits).receive_data(raw("SEND", unpassed))) is None


def test_a_header_that_only_the_server_may_write_is_found() -> None:
    assert reserved_header({"priority": "9"}) is None
    assert reserved_header({"priority": "9", "x-seq": "1"}) == "x-seq"
    assert reserved_header({"message-id": "1"}) == "message-id"


# ---------------------------------------------------------------- "SUBSCRIBE", "UNSUBSCRIBE"


def subscribe(server: ServerConnection, **headers: str) -> Subscribe:
    event = only(server.receive_data(raw("SUBSCRIBE", headers)))
    assert isinstance(event, Subscribe)
    return event


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("ack", [None, *AckMode])
def test_a_subscribe_is_taken_apart(version: Version, ack: AckMode | None) -> None:
    headers = {"id": "s", "destination": "/room/a", "x-last": "5"} | ({"ack": ack.value} if ack else {})
    event = subscribe(connected_server(version), **headers, receipt="r")
    assert event == Subscribe("s", "s", 1, "/room/a", ack or AckMode.AUTO, {"x-last": "5"}, "r")
    assert (event.window is None) == (ack in (None, AckMode.AUTO))


@pytest.mark.parametrize("ack", ["", "maybe", "AUTO", "client "])
def test_an_unknown_ack_mode_is_refused(ack: str) -> None:
    data = raw("SUBSCRIBE", {"id": "0", "destination": "/room/a", "ack": ack})
    assert code_of(connected_server().receive_data(data)) is Code.UNKNOWN_ACK_MODE


def test_a_subscription_id_is_used_once_at_a_time() -> None:
    server = connected_server()
    data = raw("SUBSCRIBE", {"id": "0", "destination": "/room/a"})
    first = only(server.receive_data(data))
    assert isinstance(only(server.receive_data(raw("UNSUBSCRIBE", {"id": "0"}))), Unsubscribe)
    second = only(server.receive_data(data))
    assert isinstance(first, Subscribe)
    assert isinstance(second, Subscribe)
    assert (first.instance, second.instance) == (1, 2)
    assert code_of(server.receive_data(data)) is Code.SUBSCRIPTION_EXISTS


def test_a_1_0_subscription_without_id_goes_by_its_destination() -> None:
    server = connected_server(V10)
    event = subscribe(server, destination="/room/a")
    assert (event.id, event.key) == (None, "/room/a")
    assert code_of(server.receive_data(raw("SUBSCRIBE", {"destination": "/room/a"}))) is Code.SUBSCRIPTION_EXISTS


def test_a_1_0_unsubscribe_by_destination_ends_one_without_id_first_and_then_the_oldest() -> None:
    server = connected_server(V10)
    subscribe(server, id="1", destination="/room/a")
    subscribe(server, id="2", destination="/room/a")
    subscribe(server, destination="/room/a")
    subscribe(server, id="3", destination="/room/b")
    data = raw("UNSUBSCRIBE", {"destination": "/room/a"})
    keys = [event.key for _ in range(3) for event in server.receive_data(data) if isinstance(event, Unsubscribe)]
    assert keys == ["/room/a", "1", "2"]
    assert code_of(server.receive_data(data)) is Code.UNKNOWN_SUBSCRIPTION


@pytest.mark.parametrize("version", ALL)
def test_unsubscribe_from_nothing_is_refused(version: Version) -> None:
    assert code_of(connected_server(version).receive_data(raw("UNSUBSCRIBE", {"id": "0"}))) is Code.UNKNOWN_SUBSCRIPTION


def test_subscriptions_are_bounded() -> None:
    server = connected_server(limits=Limits(subscriptions_max=2))
    subscribe(server, id="0", destination="/room/a")
    subscribe(server, id="1", destination="/room/a")
    server.receive_data(raw("UNSUBSCRIBE", {"id": "0"}))
    subscribe(server, id="0", destination="/room/a")
    data = raw("SUBSCRIBE", {"id": "2", "destination": "/room/a"})
    assert code_of(server.receive_data(data)) is Code.TOO_MANY_SUBSCRIPTIONS


def test_unsubscribe_from_what_we_ended_is_no_violation_but_only_once() -> None:
    server = connected_server()
    event = subscribe(server, id="0", destination="/room/a")
    server.end_subscription("0", event.instance)
    server.end_subscription("0", event.instance)  # twice is once
    data = raw("UNSUBSCRIBE", {"id": "0", "receipt": "r"})
    assert only(server.receive_data(data)) == Unsubscribe("0", event.instance, "r")
    assert code_of(server.receive_data(data)) is Code.UNKNOWN_SUBSCRIPTION


def test_ending_an_earlier_instance_leaves_the_later_one() -> None:
    server = connected_server()
    first = subscribe(server, id="0", destination="/room/a")
    server.end_subscription("0", first.instance)
    second = subscribe(server, id="0", destination="/room/b")
    server.end_subscription("0", first.instance)
    assert only(server.receive_data(raw("UNSUBSCRIBE", {"id": "0"}))) == Unsubscribe("0", second.instance, None)


def test_what_we_ended_is_remembered_up_to_a_bound() -> None:
    server = connected_server(limits=Limits(subscriptions_max=2))
    for key in ("0", "1", "2"):
        server.end_subscription(key, subscribe(server, id=key, destination="/room/a").instance)
    assert isinstance(only(server.receive_data(raw("UNSUBSCRIBE", {"id": "2"}))), Unsubscribe)
    assert code_of(server.receive_data(raw("UNSUBSCRIBE", {"id": "0"}))) is Code.UNKNOWN_SUBSCRIPTION


# ---------------------------------------------------------------- "BEGIN", "COMMIT", "ABORT"


@pytest.mark.parametrize("version", ALL)
def test_a_transaction_gives_its_frames_at_commit_in_order(version: Version) -> None:
    link = Link(version)
    assert link.to_server(link.client.begin("t", receipt="b")) == [Begin("t", "b")]
    for n in range(3):
        assert link.to_server(link.client.send("/room/a", b"%d" % n, transaction="t", receipt=str(n))) == []
    (outside,) = link.to_server(link.client.send("/room/a", "now"))
    assert isinstance(outside, Send)
    (commit,) = link.to_server(link.client.commit("t", receipt="c"))
    sends = tuple(Send("/room/a", {}, None, None, b"%d" % n, str(n), "t") for n in range(3))
    assert commit == Commit("t", sends, "c")


def test_abort_drops_its_frames_and_the_id_may_be_used_again() -> None:
    link = Link()
    for end, expected in ((link.client.abort("t"), Abort("t", None)), (link.client.commit("t"), Commit("t", (), None))):
        link.to_server(link.client.begin("t"))
        if isinstance(expected, Abort):
            link.to_server(link.client.send("/room/a", "x", transaction="t"))
        assert link.to_server(end) == [expected]


def test_transactions_do_not_mix() -> None:
    link = Link()
    for name in ("a", "b"):
        link.to_server(link.client.begin(name))
    for name in ("a", "b", "a"):
        link.to_server(link.client.send("/room/x", name, transaction=name))
    (commit,) = link.to_server(link.client.commit("a"))
    assert isinstance(commit, Commit)
    assert [frame.body for frame in commit.frames if isinstance(frame, Send)] == [b"a", b"a"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([raw("COMMIT", {"transaction": "t"})], Code.UNKNOWN_TRANSACTION),
        ([raw("ABORT", {"transaction": "t"})], Code.UNKNOWN_TRANSACTION),
        ([raw("SEND", {"destination": "/room/a", "transaction": "t"})], Code.UNKNOWN_TRANSACTION),
        ([raw("BEGIN", {"transaction": "t"})] * 2, Code.TRANSACTION_EXISTS),
        ([raw("BEGIN", {"transaction": str(n)}) for n in range(4)], Code.TOO_MANY_TRANSACTIONS),
        (
            [raw("BEGIN", {"transaction": "t"}), *[raw("SEND", {"destination": "/a", "transaction": "t"})] * 6],
            Code.TRANSACTION_TOO_LONG,
        ),
        (
            [
                raw("BEGIN", {"transaction": "t"}),
                *[raw("SEND", {"destination": "/a", "transaction": "t"}, b"x" * 51)] * 2,
            ],
            Code.TRANSACTION_TOO_LONG,
        ),
        (
            [
                raw("BEGIN", {"transaction": "t"}),
                raw("SEND", {"destination": "/a", "transaction": "t", "k": "v" * 101}),
            ],
            Code.TRANSACTION_TOO_LONG,
        ),
    ],
)
def test_what_is_wrong_with_a_transaction_is_refused(frames: list[bytes], code: Code) -> None:
    limits = Limits(transactions_max=3, transaction_frames_max=5, transaction_bytes_max=100)
    server = connected_server(limits=limits)
    assert code_of([event for frame in frames for event in server.receive_data(frame)]) is code


def test_a_transaction_at_its_limits_is_taken() -> None:
    server = connected_server(limits=Limits(transaction_frames_max=5, transaction_bytes_max=250))
    server.receive_data(raw("BEGIN", {"transaction": "t"}))
    for _ in range(5):
        assert server.receive_data(raw("SEND", {"destination": "/a", "transaction": "t"}, b"x" * 50)) == []
    assert isinstance(only(server.receive_data(raw("COMMIT", {"transaction": "t"}))), Commit)


# ---------------------------------------------------------------- "RECEIPT", "ERROR", "DISCONNECT"


@pytest.mark.parametrize("version", ALL)
def test_a_receipt_names_its_frame(version: Version) -> None:
    link = Link(version)
    receipt = "r-1" if version is V10 else "r:1\n"
    (send,) = link.to_server(link.client.send("/room/a", receipt=receipt))
    assert isinstance(send, Send)
    assert send.receipt == receipt
    (frame,) = link.to_client(link.server.send_receipt(send.receipt, {"x-seq": "7"}))
    assert frame == Frame("RECEIPT", {"receipt-id": receipt, "x-seq": "7"})


def test_an_empty_receipt_is_a_receipt() -> None:
    send = only(connected_server().receive_data(raw("SEND", {"destination": "/room/a", "receipt": ""})))
    assert isinstance(send, Send)
    assert send.receipt == ""


@pytest.mark.parametrize("version", ALL)
def test_an_error_says_what_was_wrong_and_ends_the_connection(version: Version) -> None:
    link = Link(version)
    refused = Refused(Code.FORBIDDEN, "not here: ask\nthe owner")
    (error,) = link.to_client(link.server.send_error(refused, "r-1", {"x-room": "a"}))
    assert error.headers["message"] == ("not here: ask the owner" if version is V10 else refused.message)
    assert error.headers["error-code"] == "forbidden"
    assert error.headers["receipt-id"] == "r-1"
    assert error.headers["x-room"] == "a"
    assert error.headers["content-type"].startswith("text/plain")
    assert int(error.headers["content-length"]) == len(error.body)
    assert error.body == refused.message.encode()
    assert link.server.state is State.CLOSED
    assert link.to_server(link.client.send("/room/a")) == []


def test_an_error_before_connect_can_be_read_by_every_version() -> None:
    server = new_server()
    (violation,) = server.receive_data(b"HELLO\nreceipt:r\n\n\0")
    assert isinstance(violation, Violation)
    data = server.send_error(violation.error)
    assert data.startswith(b"ERROR\nmessage:")
    assert b"\nreceipt-id:r\n" in data
    assert b"\\" not in data


def test_frames_before_a_bad_one_are_given_and_none_after_it() -> None:
    server = connected_server()
    good = raw("SEND", {"destination": "/room/a"}, b"1")
    events = server.receive_data(good + raw("HELLO") + good)
    assert [type(event) for event in events] == [Send, Violation]
    assert server.receive_data(good) == []


def test_a_bad_frame_is_not_named_by_the_receipt_of_the_one_before_it() -> None:
    good = raw("SEND", {"destination": "/room/a", "receipt": "mine"})
    for bad in (raw("HELLO"), raw("BEGIN")):
        violation = connected_server().receive_data(good + bad)[-1]
        assert isinstance(violation, Violation)
        assert violation.error.receipt_id is None


def test_a_disconnect_is_the_last_event() -> None:
    server = connected_server()
    data = raw("DISCONNECT", {"receipt": "bye"})
    assert server.receive_data(data + raw("SEND", {"destination": "/room/a"}) + raw("HELLO")) == [Disconnect("bye")]
    assert server.receive_data(raw("HELLO")) == []
    assert server.send_receipt("bye") == b"RECEIPT\nreceipt-id:bye\n\n\0"
    assert not server.connected


def test_a_disconnect_behind_connect_is_still_answered_in_order() -> None:
    server = new_server()
    connect, leave = server.receive_data(
        raw("CONNECT", {"accept-version": "1.2"}) + raw("DISCONNECT", {"receipt": "r"})
    )
    assert isinstance(connect, Connect)
    assert leave == Disconnect("r")
    assert server.send_connected("s", "mina", "").startswith(b"CONNECTED")
    assert server.send_receipt("r").startswith(b"RECEIPT")


# ---------------------------------------------------------------- our own mistakes


def test_answers_out_of_place_are_our_own_mistakes() -> None:
    server = new_server()
    with pytest.raises(LocalProtocolError):
        server.send_connected("s", "mina", "")
    with pytest.raises(LocalProtocolError):
        server.send_receipt("r")
    server = connected_server()
    with pytest.raises(LocalProtocolError):
        server.send_connected("s", "mina", "")
    server.send_error(RemoteProtocolError(Code.BAD_FRAME, "x"))
    with pytest.raises(LocalProtocolError):
        server.send_error(RemoteProtocolError(Code.BAD_FRAME, "x"))
    with pytest.raises(LocalProtocolError):
        server.send_receipt("r")


# ---------------------------------------------------------------- the two ends, in pieces


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 30])
def test_the_two_ends_understand_each_other_in_pieces_of_any_size(version: Version, piece: int) -> None:
    link = Link(version, piece)
    sub = link.to_server(link.client.subscribe("/room/a", "s", ack=AckMode.CLIENT, headers={"x-last": "1"}))
    (send,) = link.to_server(link.client.send("/room/a", "안녕\n\n", headers={"k": "v"}, receipt="r"))
    assert isinstance(only(sub), Subscribe)
    assert send == Send("/room/a", {"k": "v"}, None, None, "안녕\n\n".encode(), "r")
    (receipt,) = link.to_client(link.server.send_receipt("r"))
    assert receipt.headers == {"receipt-id": "r"}
    assert link.to_server(link.client.unsubscribe("s")) == [Unsubscribe("s", 1, None)]
    assert link.to_server(link.client.disconnect(receipt="bye")) == [Disconnect("bye")]


def test_a_message_in_parts_ends_where_its_last_part_ends() -> None:
    server = connected_server()
    assert server.receive_data(b"SEND\ndestination:/room/a\ncontent-length:2\n\nhi", end_of_message=False) == []
    assert isinstance(only(server.receive_data(b"", end_of_message=True)), Send)
