"""The server's end until it has answered CONNECT: versions, logins, hosts, limits, heart-beats, CONNECTED."""

from __future__ import annotations

import pytest

from chat.errors import Code
from chat.stomp.codec import HEART_BEAT
from chat.stomp.connection import ServerConnection
from chat.stomp.events import (
    Connect,
    HeartBeat,
    Send,
    Violation,
)
from chat.stomp.frames import Version
from chat.stomp.limits import Limits
from tests.unit.chat.stomp.link import ALL, V10, V11, V12, Link, code_of, connected_server, new_server, only, raw

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
