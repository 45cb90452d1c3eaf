"""The server's end: states, negotiation, required headers, subscriptions, transactions, refusals, answers."""

from __future__ import annotations

import pytest

from chat.errors import Code, LocalProtocolError, Refused, RemoteProtocolError
from chat.stomp.codec import HEART_BEAT
from chat.stomp.connection import ServerConnection, State
from chat.stomp.events import (
    Abort,
    Begin,
    Commit,
    Connect,
    Disconnect,
    HeartBeat,
    Send,
    Subscribe,
    Unsubscribe,
    Violation,
    reserved_header,
)
from chat.stomp.frames import AckMode, Frame, Version
from chat.stomp.limits import Limits
from tests.unit.chat.stomp.link import ALL, NEW, V10, V11, V12, Link, code_of, connected_server, new_server, only, raw

# ---------------------------------------------------------------- "CONNECT or STOMP Frame", "Protocol Negotiation"


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize(
    ("accept", "agreed"),
    [
        (None, V10),
        ("1.0", V10),
        ("1.1", V11),
        ("1.2", V12),
        ("1.0,1.1,1.2", V12),
        ("1.2,1.1,1.0", V12),  # stompjs lists the highest first
        ("1.1,1.0,1.1", V11),
        ("1.0,1.1,2.0", V11),
        (" 1.2 , 1.1", V12),
    ],
)
def test_the_highest_common_version_is_agreed(command: str, accept: str | None, agreed: Version) -> None:
    server = new_server()
    headers = {} if accept is None else {"accept-version": accept}
    connect = only(server.receive_data(raw(command, headers)))
    assert isinstance(connect, Connect)
    assert connect.version is agreed is server.version
    assert f"\nversion:{agreed.value}\n".encode() in server.send_connected("s", "mina", "")


@pytest.mark.parametrize("accept", ["", "2.0", "1.3,9.9", "latest", "1", "12"])
def test_no_common_version_is_answered_with_those_that_are_spoken(accept: str) -> None:
    server = new_server()
    events = server.receive_data(raw("CONNECT", {"accept-version": accept}))
    violation = only(events)
    assert isinstance(violation, Violation)
    assert violation.error.code is Code.VERSION_MISMATCH
    (error,) = Link().to_client(server.send_error(violation.error))
    assert error.headers["version"] == "1.0,1.1,1.2"
    assert error.headers["error-code"] == "version_mismatch"


def test_connect_carries_who_the_client_says_it_is() -> None:
    headers = {"accept-version": "1.2", "login": "mina", "passcode": "a:b\\c", "Authorization": "Bearer x", "k": "v"}
    connect = only(new_server().receive_data(raw("CONNECT", {**headers, "host": "h", "heart-beat": "1,2"})))
    assert isinstance(connect, Connect)
    assert (connect.login, connect.passcode, connect.authorization) == ("mina", "a:b\\c", "Bearer x")
    assert (connect.host, connect.heart_beat, connect.headers) == ("h", (1, 2), {"k": "v"})
    assert "a:b" not in repr(connect)
    assert "Bearer" not in repr(connect)


def test_a_1_0_connect_is_trimmed_as_its_specification_writes_it() -> None:
    connect = only(new_server().receive_data(b"CONNECT\nlogin: mina\npasscode: x \nlogin: other\n\n\0"))
    assert isinstance(connect, Connect)
    assert (connect.login, connect.passcode) == ("mina", "x")


def test_a_newer_connect_is_not_trimmed() -> None:
    connect = only(new_server().receive_data(raw("CONNECT", {"accept-version": "1.1", "login": " mina"})))
    assert isinstance(connect, Connect)
    assert connect.login == " mina"


@pytest.mark.parametrize(("hosts", "host", "taken"), [
    ((), "any", True), ((), None, True), (("a",), "a", True), (("a",), None, True), (("a",), "b", False),
])  # fmt: skip
def test_host_is_optional_and_checked_only_against_a_list(
    hosts: tuple[str, ...], host: str | None, taken: bool
) -> None:
    headers = {"accept-version": "1.2"} | ({} if host is None else {"host": host})
    assert code_of(new_server(hosts=hosts).receive_data(raw("CONNECT", headers))) == (
        None if taken else Code.HOST_NOT_SERVED
    )


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "DISCONNECT", "ACK", "BEGIN"])
def test_any_other_frame_first_is_refused(command: str) -> None:
    assert code_of(new_server().receive_data(raw(command, {"destination": "/room/a"}))) is Code.CONNECT_EXPECTED


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_a_second_connect_is_refused(command: str) -> None:
    server = connected_server()
    assert (
        code_of(server.receive_data(raw(command, {"accept-version": "1.2", "receipt": "r"}))) is Code.UNEXPECTED_FRAME
    )


def test_a_body_on_connect_is_refused() -> None:
    assert code_of(new_server().receive_data(raw("CONNECT", {"accept-version": "1.2"}, b"x"))) is Code.BODY_NOT_ALLOWED


def test_line_ends_before_connect_are_heart_beats() -> None:
    server = new_server()
    assert server.receive_data(b"\n\r\n") == [HeartBeat()]
    assert isinstance(only(server.receive_data(b"\n" + raw("CONNECT"))), Connect)


def test_frames_behind_connect_are_read_in_the_version_that_it_agreed() -> None:
    data = raw("CONNECT", {"accept-version": "1.2"}) + raw("SEND", {"destination": "/room/a", "k": r"a\cb"}, b"hi")
    connect, send = new_server().receive_data(data)
    assert isinstance(connect, Connect)
    assert isinstance(send, Send)
    assert send.headers == {"k": "a:b"}


def test_more_than_the_limit_before_connect_is_refused() -> None:
    limits = Limits(connect_bytes_max=100)
    assert code_of(new_server(limits).receive_data(b"\n" * 101)) is Code.CONNECT_TOO_LARGE
    assert code_of(new_server(limits).receive_data(b"CONNECT\nk:" + b"v" * 100)) is Code.CONNECT_TOO_LARGE
    assert code_of(new_server(limits).receive_data(raw("CONNECT", {"k": "v" * 100}))) is Code.CONNECT_TOO_LARGE
    server = new_server(limits)
    events = [event for _ in range(101) for event in server.receive_data(b"\n")]
    assert code_of(events) is Code.CONNECT_TOO_LARGE


def test_what_is_behind_connect_does_not_count_as_before_it() -> None:
    data = raw("CONNECT", {"accept-version": "1.2"}) + raw("SEND", {"destination": "/room/a"}, b"x" * 200)
    assert code_of(new_server(Limits(connect_bytes_max=100)).receive_data(data)) is None


# ---------------------------------------------------------------- "Heart-beating"


@pytest.mark.parametrize(
    ("header", "client_ms", "server_ms"),
    [
        (None, 0, 0),
        ("0,0", 0, 0),
        ("10000,10000", 10_000, 10_000),
        ("4000,60000", 10_000, 60_000),
        ("60000,4000", 60_000, 10_000),
        ("1,1", 10_000, 10_000),
        ("0,20000", 0, 20_000),
        ("20000,0", 20_000, 0),
        ("9999999999,0", 9_999_999_999, 0),
    ],
)
def test_heart_beats_are_the_larger_of_both_wishes(header: str | None, client_ms: int, server_ms: int) -> None:
    server = new_server()
    server.receive_data(raw("CONNECT", {"accept-version": "1.2"} | ({"heart-beat": header} if header else {})))
    assert (server.client_period_ms, server.server_period_ms) == (client_ms, server_ms)
    assert b"\nheart-beat:10000,10000\n" in server.send_connected("s", "mina", "")


def test_a_client_gets_no_beats_faster_than_one_a_second() -> None:
    server = ServerConnection(Limits(), server="roomlog/0.1", heart_beat_ms=10)
    server.receive_data(raw("CONNECT", {"accept-version": "1.2", "heart-beat": "1,1"}))
    assert (server.client_period_ms, server.server_period_ms) == (1_000, 1_000)


def test_a_server_without_beats_agrees_to_none() -> None:
    server = ServerConnection(Limits(), server="roomlog/0.1", heart_beat_ms=0)
    server.receive_data(raw("CONNECT", {"accept-version": "1.2", "heart-beat": "5000,5000"}))
    assert (server.client_period_ms, server.server_period_ms) == (0, 0)


def test_1_0_has_no_heart_beats() -> None:
    server = new_server()
    server.receive_data(raw("CONNECT", {"heart-beat": "5000,5000"}))
    assert (server.client_period_ms, server.server_period_ms) == (0, 0)
    assert b"\nheart-beat:0,0\n" in server.send_connected("s", "mina", "")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize(
    "header",
    ["", "1", "1,", ",1", "1,2,3", "-1,0", "+1,0", "a,b", "1.5,0", "1 ,2", "1, 2", "٣,٣", "0x1,0", "9" * 11 + ",0"],
)
def test_a_bad_heart_beat_is_refused(header: str, version: str) -> None:
    headers = {"accept-version": version, "heart-beat": header}
    assert code_of(new_server().receive_data(raw("CONNECT", headers))) is Code.BAD_HEART_BEAT


@pytest.mark.parametrize("data", [b"\n", b"\r\n", b"\n\n\n", b"\0\n"])
def test_a_message_of_line_ends_is_a_heart_beat(data: bytes) -> None:
    assert connected_server().receive_data(data) == [HeartBeat()]


def test_part_of_a_frame_is_no_heart_beat() -> None:
    server = connected_server()
    assert server.receive_data(b"SEND\ndestination:/room/a\n\na\n") == []
    assert server.receive_data(b"\n") == []
    assert only(server.receive_data(b"\0")) == Send("/room/a", {}, None, None, b"a\n\n", None)
    assert server.receive_data(b"") == []


def test_our_heart_beat_is_one_line_end() -> None:
    assert HEART_BEAT == b"\n"


# ---------------------------------------------------------------- "CONNECTED Frame"


@pytest.mark.parametrize("version", ALL)
def test_connected_says_everything_and_escapes_nothing(version: Version) -> None:
    server = new_server()
    server.receive_data(raw("CONNECT", {"accept-version": version.value}))
    beats = "0,0" if version is V10 else "10000,10000"
    assert (
        server.send_connected("s:1", "mi:na\\\r\nadmin:yes", "rooms")
        == (
            f"CONNECTED\nversion:{version.value}\nheart-beat:{beats}\nserver:roomlog/0.1\nsession:s:1\n"
            "user-name:mi:na\\  admin:yes\nx-features:rooms\n\n\0"
        ).encode()
    )
    assert server.connected


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
