"""STOMP 1.0, 1.1 and 1.2, paragraph by paragraph: what is refused, with which code, and what is not.

Each row of the tables is one client that sends bytes. A refused one must get ERROR with the code, flushed before a close
with the right WebSocket code, and a bystander on another connection must notice nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.conformance.wire import BINARY, TEXT, Frame, Peer, connected, frame, upgraded
from tests.engines import Worker

ALL = ("1.0", "1.1", "1.2")
NEW = ("1.1", "1.2")
PROTOCOL_ERROR, NOT_UTF8, TOO_BIG, TOO_MANY = 1002, 1007, 1009, 4029


class Bad(NamedTuple):
    """Bytes that end the connection of a connected client."""

    name: str
    sends: bytes | list[bytes]
    code: str
    close: int = PROTOCOL_ERROR
    versions: tuple[str, ...] = ALL
    receipt_id: str | None = None
    binary: bool = False


def send(room: str = "lobby", body: bytes | str = "hi", **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return frame("SEND", {"destination": f"/room/{room}", **names}, body)


SUBSCRIBE = frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby"})
BEGIN = frame("BEGIN", {"transaction": "t"})

BAD = [
    # ---- 1.2 "STOMP Frames", 1.1 the same, 1.0 "Frames"
    Bad("a command that does not exist", frame("HELLO"), "unknown_command"),
    Bad("a command in small letters", frame("send", {"destination": "/room/lobby"}), "unknown_command"),
    Bad("a command with a space behind it", frame("SEND ", {"destination": "/room/lobby"}), "unknown_command"),
    Bad("a first line without end", b"A" * 100, "unknown_command"),
    Bad("bytes that are no frame", b"\x01\x02\x03\x04\n\n\0", "unknown_command", binary=True),
    Bad("NUL in the middle of the headers", b"SEND\ndestination:/room/lobby\0\n\n\0", "bad_frame"),
    Bad("a frame of the server: MESSAGE", frame("MESSAGE", {"destination": "/room/lobby"}, "x"), "unexpected_frame"),
    Bad("a frame of the server: RECEIPT", frame("RECEIPT", {"receipt-id": "1"}), "unexpected_frame"),
    Bad("a frame of the server: CONNECTED", frame("CONNECTED", {"version": "1.2"}), "unexpected_frame"),
    Bad("a frame of the server: ERROR", frame("ERROR", {"message": "you"}), "unexpected_frame"),
    Bad("a header line without a colon", b"SEND\ndestination:/room/lobby\nnonsense\n\nhi\0", "bad_header"),
    Bad("a header line without a name", b"SEND\ndestination:/room/lobby\n:value\n\nhi\0", "bad_header"),
    Bad("a carriage return inside a header", b"SEND\ndestination:/room/lob\rby\n\nhi\0", "bad_header", versions=("1.2",)),
    Bad("headers that are not UTF-8", b"SEND\ndestination:/room/\xff\n\nhi\0", "not_utf8", NOT_UTF8, binary=True),
    # ---- 1.2 "Value Encoding": undefined escape sequences MUST be treated as a fatal protocol error
    Bad("the escape \\t", send(k="a\\tb"), "bad_escape", versions=NEW),
    Bad("the escape \\0", send(k="a\\0b"), "bad_escape", versions=NEW),
    Bad("the escape \\C in capitals", send(k="a\\Cb"), "bad_escape", versions=NEW),
    Bad("a backslash at the end of a value", send(k="a\\"), "bad_escape", versions=NEW),
    Bad("an undefined escape in a name", send(**{"k\\q": "v"}), "bad_escape", versions=NEW),
    Bad("\\r, which 1.1 does not know", send(k="a\\rb"), "bad_escape", versions=("1.1",)),
    # ---- 1.2 "Header content-length"
    Bad("content-length that is a word", send(content_length="two"), "bad_content_length"),
    Bad("content-length below zero", send(content_length="-1"), "bad_content_length"),
    Bad("content-length with a sign", send(content_length="+2"), "bad_content_length"),
    Bad("content-length with a point", send(content_length="2.0"), "bad_content_length"),
    Bad("content-length in other digits", send(content_length="٢"), "bad_content_length"),
    Bad("content-length that is empty", send(content_length=""), "bad_content_length"),
    Bad("content-length of 400 digits", send(content_length="9" * 400), "bad_content_length"),
    Bad("content-length that is too short", send(body="hello", content_length="2"), "bad_content_length"),
    Bad("content-length that counts characters", send(body="안녕", content_length="2"), "bad_content_length"),
    # ---- 1.2 "Body": only SEND, MESSAGE and ERROR may have one
    Bad("a body on SUBSCRIBE", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby"}, "x"), "body_not_allowed", versions=NEW),
    Bad("a body on BEGIN", frame("BEGIN", {"transaction": "t"}, "x"), "body_not_allowed"),
    Bad("a body on DISCONNECT", frame("DISCONNECT", {}, "x"), "body_not_allowed"),
    Bad("a body announced on UNSUBSCRIBE", frame("UNSUBSCRIBE", {"id": "0", "content-length": "3"}, "abc"), "body_not_allowed"),
    # ---- required headers of each frame
    Bad("SEND without destination", frame("SEND", {"receipt": "r"}, "x"), "missing_header", receipt_id="r"),
    Bad("SUBSCRIBE without destination", frame("SUBSCRIBE", {"id": "0"}), "missing_header"),
    Bad("SUBSCRIBE without id", frame("SUBSCRIBE", {"destination": "/room/lobby"}), "missing_header", versions=NEW),
    Bad("UNSUBSCRIBE without id", [SUBSCRIBE, frame("UNSUBSCRIBE", {"destination": "/room/lobby"})], "missing_header", versions=NEW),
    Bad("UNSUBSCRIBE without anything", [SUBSCRIBE, frame("UNSUBSCRIBE")], "missing_header"),
    Bad("ACK without id", frame("ACK", {"message-id": "lobby/1", "subscription": "0"}), "missing_header", versions=("1.2",)),
    Bad("NACK without id", frame("NACK", {"message-id": "lobby/1", "subscription": "0"}), "missing_header", versions=("1.2",)),
    Bad("ACK without message-id", frame("ACK", {"subscription": "0"}), "missing_header", versions=("1.0", "1.1")),
    Bad("ACK without subscription", frame("ACK", {"message-id": "lobby/1"}), "missing_header", versions=("1.1",)),
    Bad("NACK without subscription", frame("NACK", {"message-id": "lobby/1"}), "missing_header", versions=("1.1",)),
    Bad("BEGIN without transaction", frame("BEGIN"), "missing_header"),
    Bad("COMMIT without transaction", frame("COMMIT"), "missing_header"),
    Bad("ABORT without transaction", frame("ABORT"), "missing_header"),
    # ---- frames at the wrong time, ids that mean nothing
    Bad("a second CONNECT", frame("CONNECT", {"accept-version": "1.2"}), "unexpected_frame"),
    Bad("a second CONNECT called STOMP", frame("STOMP", {"accept-version": "1.2"}), "unexpected_frame"),
    Bad("NACK, which 1.0 does not know", frame("NACK", {"message-id": "lobby/1"}), "unknown_command", versions=("1.0",)),
    Bad("an ack mode that does not exist", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby", "ack": "maybe"}), "unknown_ack_mode"),
    Bad("ACK of nothing", frame("ACK", {"id": "7-7"}), "unknown_ack", versions=("1.2",)),
    Bad("ACK of nonsense", frame("ACK", {"id": "nonsense"}), "unknown_ack", versions=("1.2",)),
    Bad("NACK of nothing", frame("NACK", {"id": "7-7"}), "unknown_ack", versions=("1.2",)),
    Bad("ACK of a message that never came", frame("ACK", {"message-id": "lobby/9", "subscription": "0"}), "unknown_ack", versions=("1.0", "1.1")),
    Bad("UNSUBSCRIBE of nothing", frame("UNSUBSCRIBE", {"id": "9"}), "unknown_subscription"),
    Bad("SUBSCRIBE with an id in use", [SUBSCRIBE, SUBSCRIBE], "subscription_exists"),
    Bad("COMMIT of nothing", frame("COMMIT", {"transaction": "t", "receipt": "r"}), "unknown_transaction", receipt_id="r"),
    Bad("ABORT of nothing", frame("ABORT", {"transaction": "t"}), "unknown_transaction"),
    Bad("SEND in a transaction that is not open", send(transaction="t"), "unknown_transaction"),
    Bad("COMMIT twice", [BEGIN, frame("COMMIT", {"transaction": "t"}), frame("COMMIT", {"transaction": "t"})], "unknown_transaction"),
    Bad("SEND in a transaction that was aborted", [BEGIN, frame("ABORT", {"transaction": "t"}), send(transaction="t")], "unknown_transaction"),
    Bad("BEGIN twice", [BEGIN, BEGIN], "transaction_exists"),
    Bad("a transaction over two rooms", [BEGIN, send("a", transaction="t"), send("b", transaction="t"), frame("COMMIT", {"transaction": "t"})], "transaction_spans_rooms"),
    # ---- 1.2 "Size Limits"
    Bad("65 headers", send(**{f"h{n}": "v" for n in range(64)}), "too_many_headers", TOO_BIG),
    Bad("headers without end", b"SEND\n" + b"a:b\n" * 100, "too_many_headers", TOO_BIG),
    Bad("a header line of 9,000 bytes", send(k="v" * 9_000), "header_too_long", TOO_BIG),
    Bad("a header line without end", b"SEND\nk:" + b"v" * 9_000, "header_too_long", TOO_BIG),
    Bad("14,000 bytes of headers to pass on", send(a="v" * 7_000, b="v" * 7_000), "headers_too_large", TOO_BIG),
    Bad("a body over the limit", send(body="x" * 49_153), "body_too_large", TOO_BIG),
    Bad("a body without end", b"SEND\ndestination:/room/lobby\n\n" + b"x" * 60_000, "body_too_large", TOO_BIG),
    Bad("a body announced over the limit", send(content_length="49153"), "body_too_large", TOO_BIG),
    Bad("129 subscriptions", [frame("SUBSCRIBE", {"id": str(n), "destination": f"/room/r{n}"}) for n in range(129)], "too_many_subscriptions", TOO_MANY),
    Bad("17 transactions", [frame("BEGIN", {"transaction": str(n)}) for n in range(17)], "too_many_transactions", TOO_MANY),
    Bad("101 frames in a transaction", [BEGIN, *[send(transaction="t")] * 101], "transaction_too_long", TOO_BIG),
    Bad("600 KB in a transaction", [BEGIN, *[send(transaction="t", body="x" * 40_000)] * 15], "transaction_too_long", TOO_BIG),
    # ---- requests that cannot be served, without /user/queue/errors
    Bad("SEND to nowhere", frame("SEND", {"destination": "/nowhere", "receipt": "r"}), "unknown_destination", receipt_id="r"),
    Bad("SEND to a destination without a slash", frame("SEND", {"destination": "room/lobby"}), "unknown_destination"),
    Bad("SUBSCRIBE to nowhere", frame("SUBSCRIBE", {"id": "0", "destination": "/nowhere", "receipt": "r"}), "unknown_destination", receipt_id="r"),
    Bad("SUBSCRIBE to a queue that does not exist", frame("SUBSCRIBE", {"id": "0", "destination": "/user/queue/secrets"}), "unknown_destination"),
    Bad("SEND to one's own queue", frame("SEND", {"destination": "/user/queue/errors"}), "unknown_destination"),
    Bad("a path behind an action", frame("SEND", {"destination": "/room/lobby/join/now"}), "unknown_destination"),
    Bad("an action that is not built", frame("SEND", {"destination": "/room/lobby/fly"}), "unknown_action"),
    Bad("an action that comes later", frame("SEND", {"destination": "/room/lobby/edit"}, "{}"), "unknown_action"),
    Bad("a room id with a space", frame("SEND", {"destination": "/room/my room"}), "bad_room_id"),
    Bad("a room id in Korean", frame("SEND", {"destination": "/room/로비"}), "bad_room_id"),
    Bad("a room id of 129 characters", send("r" * 129), "bad_room_id"),
    Bad("a room id that is empty", frame("SUBSCRIBE", {"id": "0", "destination": "/room/"}), "bad_room_id"),
    Bad("a client id of 129 bytes", send(x_client_id="c" * 129), "bad_client_id"),
    Bad("a client id that is empty", send(x_client_id=""), "bad_client_id"),
    Bad("a position that is a word", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby", "x-from-seq": "first"}), "bad_position"),
    Bad("a position below zero", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby", "x-after-seq": "-1"}), "bad_position"),
    Bad("two positions", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby", "x-from-seq": "1", "x-last": "3"}), "bad_position"),
    Bad("an epoch that never was", frame("SUBSCRIBE", {"id": "0", "destination": "/room/lobby", "x-from-seq": "1", "x-epoch": "abc"}), "epoch_changed"),
    Bad("x-seq on SEND", send(x_seq="7"), "reserved_header"),
    Bad("message-id on SEND", send(message_id="lobby/7"), "reserved_header"),
    Bad("subscription on SEND", send(subscription="0"), "reserved_header"),
    Bad("x-sender on SEND", send(x_sender="somebody"), "reserved_header"),
    Bad("a room made from no JSON", frame("SEND", {"destination": "/rooms"}, "lobby"), "bad_body"),
    Bad("a room made from a list", frame("SEND", {"destination": "/rooms"}, "[]"), "bad_body"),
    Bad("a room with a property unknown", frame("SEND", {"destination": "/rooms"}, '{"colour":"red"}'), "bad_body"),
    Bad("a room with a bad id", frame("SEND", {"destination": "/rooms"}, '{"room":"my room"}'), "bad_room_id"),
    Bad("a room with the id of a direct room", frame("SEND", {"destination": "/rooms"}, '{"room":"~abc"}'), "bad_room_id"),
]  # fmt: skip


def cases() -> list[object]:
    return [pytest.param(bad, version, id=f"{version} {bad.name}") for bad in BAD for version in bad.versions]


@pytest.mark.parametrize(("bad", "version"), cases())
async def test_bad_input_gets_its_code_and_close_and_nobody_else_notices(
    port: int, room: str, bad: Bad, version: str
) -> None:
    async with connected(port, "bystander") as bystander, connected(port, "clumsy", version) as clumsy:
        await bystander.send("SUBSCRIBE", id="b", destination=f"/room/{room}", receipt="ready")
        await bystander.receipt("ready")

        for data in [bad.sends] if isinstance(bad.sends, bytes) else bad.sends:
            await clumsy.ws(BINARY if bad.binary else TEXT, data.replace(b"lobby", room.encode()))
        error = await clumsy.find("ERROR")
        assert error.headers["error-code"] == bad.code, error
        assert error.headers["message"]
        assert error.headers["content-length"] == str(len(error.body))
        if bad.receipt_id is not None:
            assert error.headers["receipt-id"] == bad.receipt_id
        assert await clumsy.closed() == bad.close

        await bystander.send("SEND", "still here", destination=f"/room/{room}", receipt="r")
        await bystander.find("MESSAGE", x_sender="bystander")
        await bystander.receipt("r")


# ---------------------------------------------------------------- CONNECT


class BadConnect(NamedTuple):
    name: str
    sends: bytes
    code: str
    close: int = PROTOCOL_ERROR


CONNECT = {"accept-version": "1.0,1.1,1.2", "host": "localhost", "login": "mina"}

BAD_CONNECTS = [
    BadConnect("SEND first", send(), "connect_expected"),
    BadConnect("SUBSCRIBE first", SUBSCRIBE, "connect_expected"),
    BadConnect("a frame of the server first", frame("CONNECTED"), "unexpected_frame"),
    BadConnect("HTTP on the socket", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown_command"),
    BadConnect("no common version", frame("CONNECT", {**CONNECT, "accept-version": "2.0,9.9"}), "version_mismatch"),
    BadConnect("a version that is a word", frame("CONNECT", {**CONNECT, "accept-version": "latest"}), "version_mismatch"),
    BadConnect("an empty accept-version", frame("CONNECT", {**CONNECT, "accept-version": ""}), "version_mismatch"),
    *(
        BadConnect(f"heart-beat {beats!r}", frame("CONNECT", {**CONNECT, "heart-beat": beats}), "bad_heart_beat")
        for beats in ("soon", "1", "1,", ",1", "1,2,3", "-1,0", "1.5,0", "0x10,0", "1 000,0", "٣,٣")
    ),
    BadConnect("a body", frame("CONNECT", CONNECT, "x"), "body_not_allowed"),
    BadConnect("a login that is no user id", frame("CONNECT", {**CONNECT, "login": "mina kim"}), "login_refused", 4001),
    BadConnect("17 KB before it is complete", frame("CONNECT", {**CONNECT, "a": "v" * 8_000, "b": "v" * 8_000, "c": "v" * 1_000}), "connect_too_large", TOO_BIG),
    BadConnect("17 KB of line ends", b"\n" * 17_000, "connect_too_large", TOO_BIG),
    BadConnect("65 headers", frame("CONNECT", {**CONNECT, **{f"h{n}": "v" for n in range(64)}}), "too_many_headers", TOO_BIG),
]  # fmt: skip


@pytest.mark.parametrize("bad", [pytest.param(bad, id=bad.name) for bad in BAD_CONNECTS])
async def test_a_bad_connect_gets_its_code_and_close(port: int, bad: BadConnect) -> None:
    async with upgraded(port) as peer:
        await peer.text(bad.sends)
        error = await peer.expect("ERROR", error_code=bad.code)
        if bad.code == "version_mismatch":
            assert set(error.headers["version"].split(",")) == {"1.0", "1.1", "1.2"}
        assert await peer.closed() == bad.close


CONNECTS = [
    ("CONNECT", {"login": "mina"}, "1.0"),
    ("STOMP", {"login": "mina"}, "1.0"),
    ("CONNECT", {"accept-version": "1.0"}, "1.0"),
    ("CONNECT", {"accept-version": "1.0,1.1", "host": "x"}, "1.1"),
    ("CONNECT", {"accept-version": "1.2,1.1,1.0"}, "1.2"),
    ("STOMP", {"accept-version": "1.1,1.2", "host": "x"}, "1.2"),
    ("STOMP", {"accept-version": "1.2", "host": "any.example", "heart-beat": "0,0"}, "1.2"),
    ("CONNECT", {"accept-version": "1.2,2.0"}, "1.2"),
    ("CONNECT", {"accept-version": "1.1", "x-of-my-own": "a\\qb"}, "1.1"),
    ("CONNECT", {"accept-version": "1.2", "passcode": "a:b:c"}, "1.2"),
]


@pytest.mark.parametrize(("command", "headers", "version"), CONNECTS)
async def test_connect_is_answered_with_the_highest_common_version(
    port: int, command: str, headers: dict[str, str], version: str
) -> None:
    async with upgraded(port) as peer:
        await peer.text(frame(command, headers))
        answer = await peer.expect("CONNECTED", version=version)
        assert answer.headers["server"].startswith("roomlog/")
        assert answer.headers["session"]
        assert answer.headers["user-name"] == headers.get("login", answer.headers["user-name"])
        assert answer.headers["user-name"].startswith("mina" if "login" in headers else "guest-")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v12.stomp, v11.stomp, v10.stomp", "v12.stomp"),
        ("v10.stomp, v11.stomp", "v11.stomp"),
        ("v10.stomp", "v10.stomp"),
        ("soap, v11.stomp", "v11.stomp"),
        ("soap", None),
        ("", None),
    ],
)
async def test_the_highest_common_sub_protocol_is_chosen(port: int, offered: str, chosen: str | None) -> None:
    async with upgraded(port, protocols=offered) as peer:
        assert peer.upgrade.get("sec-websocket-protocol") == chosen
        await peer.text(frame("CONNECT", {"accept-version": "1.2"}))
        await peer.expect("CONNECTED", version="1.2")


# ---------------------------------------------------------------- what must be taken


async def subscribed(peer: Peer, room: str) -> None:
    await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", receipt="subscribed")
    await peer.receipt("subscribed")


async def echo(peer: Peer, room: str, data: bytes | list[bytes], *, binary: bool = False) -> Frame:
    """What comes back of a SEND to a room that the peer is subscribed to."""
    await subscribed(peer, room)
    for part in [data] if isinstance(data, bytes) else data:
        await peer.ws(BINARY if binary else TEXT, part.replace(b"lobby", room.encode()))
    (message,) = await peer.messages(1)
    return message


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("sends", "body"),
    [
        pytest.param(b"SEND\r\ndestination:/room/lobby\r\n\r\nhi\0", b"hi", id="CRLF"),
        pytest.param(b"SEND\r\ndestination:/room/lobby\n\r\nhi\0", b"hi", id="LF and CRLF mixed"),
        pytest.param(b"\n\n\n" + send(), b"hi", id="EOLs before a frame"),
        pytest.param(b"\r\n\r\n" + send(), b"hi", id="CRLFs before a frame"),
        pytest.param(b"\0\n\0" + send(), b"hi", id="stray NULs before a frame"),
        pytest.param(send() + b"\n\n\n", b"hi", id="EOLs after a frame"),
        pytest.param(send(body=""), b"", id="an empty body"),
        pytest.param(send(body="a\nb\n\nc\n"), b"a\nb\n\nc\n", id="line ends in the body"),
        pytest.param(send(body="a\0b", content_length="3"), b"a\0b", id="NUL in the body, counted"),
        pytest.param(send(body="안녕하세요", content_length="15"), "안녕하세요".encode(), id="octets counted"),
        pytest.param(send(content_length="002"), b"hi", id="content-length with zeros"),
        pytest.param(b"SEND\ndestination:/room/lobby\ncontent-length:2\n\nhi", b"hi", id="the final NUL cut off"),
        pytest.param(b"SEND\ndestination:/topic/lobby\n\nhi\0", b"hi", id="the alias /topic"),
        pytest.param(b"SEND\ndestination:/app/lobby\n\nhi\0", b"hi", id="the alias /app"),
        pytest.param(send(body="x" * 49_152), b"x" * 49_152, id="the largest body"),
    ],
)
async def test_good_input_is_taken_and_passed_on(port: int, room: str, version: str, sends: bytes, body: bytes) -> None:
    async with connected(port, "mina", version) as peer:
        message = await echo(peer, room, sends)
        assert message.body == body
        assert message.headers["content-length"] == str(len(body))
        assert message.headers["destination"] == f"/room/{room}", "a MESSAGE echoes what was subscribed"
        assert message.headers["subscription"] == "s"


@pytest.mark.parametrize(
    ("version", "written", "read"),
    [
        ("1.2", "a\\nb", "a\nb"),
        ("1.2", "a\\rb", "a\rb"),
        ("1.2", "a\\cb", "a:b"),
        ("1.2", "a\\\\nb", "a\\nb"),
        ("1.2", "a:b:c", "a:b:c"),
        ("1.2", "  spaces  ", "  spaces  "),
        ("1.2", "", ""),
        ("1.2", "안녕", "안녕"),
        ("1.1", "a\\nb\\cc\\\\d", "a\nb:c\\d"),
        ("1.1", "  spaces  ", "  spaces  "),
        ("1.0", "a\\nb", "a\\nb"),
        ("1.0", "  spaces  ", "spaces"),
        ("1.0", "a:b", "a:b"),
    ],
)
async def test_a_header_value_arrives_as_it_was_meant(
    port: int, room: str, version: str, written: str, read: str
) -> None:
    async with connected(port, "mina", version) as peer:
        assert (await echo(peer, room, send(my_header=written))).headers["my-header"] == read


async def test_the_first_of_a_repeated_header_wins_and_only_it_is_passed_on(port: int, room: str) -> None:
    async with connected(port) as peer:
        headers = [("destination", f"/room/{room}"), ("k", "first"), ("k", "second"), ("destination", "/nowhere")]
        await subscribed(peer, room)
        await peer.text(frame("SEND", headers, "hi"))
        (message,) = await peer.messages(1)
        assert message.headers["k"] == "first"


async def test_a_header_of_1_2_cannot_write_headers_of_a_1_0_reader(port: int, room: str) -> None:
    async with connected(port, "mina", "1.2") as writer, connected(port, "jun", "1.0") as reader:
        await subscribed(reader, room)
        await writer.text(send(room, k="a\\nx-sender\\cboss"))
        (message,) = await reader.messages(1)
        assert message.headers["x-sender"] == "mina"


async def test_secrets_and_transport_headers_are_not_passed_on(port: int, room: str) -> None:
    async with connected(port) as peer:
        secrets = {"login": "l", "passcode": "p", "authorization": "a", "receipt": "r", "content-length": "2"}
        message = await echo(peer, room, send(room, **secrets, mine="m"))
        assert message.headers["mine"] == "m"
        assert not {"login", "passcode", "authorization", "receipt", "transaction"} & message.headers.keys()


async def test_one_frame_split_over_messages_at_every_byte(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribed(peer, room)
        data = send(room, body="a\0b\n", content_length="4", k="v\\nw", receipt="r")
        for at in range(1, len(data)):
            await peer.text(data[:at])
            await peer.text(data[at:])
        messages = await peer.messages(len(data) - 1)
        assert {message.body for message in messages} == {b"a\0b\n"}
        assert [message.seq for message in messages] == list(range(1, len(data)))


async def test_one_frame_in_messages_of_one_byte(port: int, room: str) -> None:
    async with connected(port) as peer:
        assert (await echo(peer, room, [bytes([octet]) for octet in send(room)])).body == b"hi"


async def test_several_frames_in_one_message(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribed(peer, room)
        await peer.text(b"\n".join(send(room, body=str(n)) for n in range(50)))
        assert [message.body for message in await peer.messages(50)] == [b"%d" % n for n in range(50)]


async def test_a_frame_before_connected_was_read_is_served(port: int, room: str) -> None:
    async with upgraded(port) as peer:
        subscribe = frame("SUBSCRIBE", {"id": "s", "destination": f"/room/{room}"})
        await peer.text(frame("CONNECT", CONNECT) + subscribe + send(room))
        await peer.expect("CONNECTED")
        assert (await peer.messages(1))[0].body == b"hi"


@pytest.mark.parametrize("binary", [False, True])
async def test_text_is_answered_with_text_and_binary_with_binary(port: int, room: str, *, binary: bool) -> None:
    async with connected(port, binary=binary) as peer:
        kind = BINARY if binary else TEXT
        assert peer.connected
        assert peer.connected.opcode == kind
        await peer.ws(kind, frame("SUBSCRIBE", {"id": "s", "destination": f"/room/{room}", "receipt": "1"}))
        assert (await peer.expect("RECEIPT")).opcode == kind
        await peer.ws(kind, send(room))
        assert (await peer.messages(1))[0].opcode == kind
        await peer.ws(kind, frame("NONSENSE"))
        assert (await peer.expect("ERROR")).opcode == kind


async def test_a_body_that_is_not_utf8_goes_as_binary_to_everybody(port: int, room: str) -> None:
    async with connected(port, "mina") as text, connected(port, "jun", binary=True) as binary:
        await subscribed(text, room)
        await binary.binary(send(room, body=b"\xff\x00\xfe", content_length="3"))
        (message,) = await text.messages(1)
        assert (message.body, message.opcode) == (b"\xff\x00\xfe", BINARY)


async def test_the_1_0_forms_without_ids_work(port: int, room: str) -> None:
    async with connected(port, "mina", "1.0") as peer:
        await peer.send("SUBSCRIBE", destination=f"/room/{room}", receipt="1")
        await peer.receipt("1")
        await peer.text(send(room))
        (message,) = await peer.messages(1)
        assert "subscription" not in message.headers
        await peer.send("UNSUBSCRIBE", destination=f"/room/{room}", receipt="2")
        await peer.receipt("2")
        await peer.text(send(room, receipt="3"))
        await peer.expect("RECEIPT", receipt_id="3")


@pytest.mark.parametrize("version", ALL)
async def test_every_frame_with_a_receipt_gets_one_in_order(port: int, room: str, version: str) -> None:
    async with connected(port, "mina", version) as peer:
        asked = [
            ("SUBSCRIBE", {"id": "s", "destination": f"/room/{room}"}),
            ("BEGIN", {"transaction": "t"}),
            ("ABORT", {"transaction": "t"}),
            ("UNSUBSCRIBE", {"id": "s"}),
            ("DISCONNECT", {}),
        ]
        for n, (command, headers) in enumerate(asked):
            await peer.text(frame(command, {**headers, "receipt": str(n)}))
            await peer.expect("RECEIPT", receipt_id=str(n))
        assert await peer.closed() == 1000


async def test_disconnect_without_a_receipt_closes(port: int) -> None:
    async with connected(port) as peer:
        await peer.send("DISCONNECT")
        assert await peer.closed() == 1000


async def test_what_follows_a_disconnect_is_ignored(port: int, room: str) -> None:
    async with connected(port, "jun") as reader, connected(port) as peer:
        await subscribed(reader, room)
        await peer.text(frame("DISCONNECT", {"receipt": "bye"}) + send(room, body="too late") + frame("NONSENSE"))
        await peer.expect("RECEIPT", receipt_id="bye")
        assert await peer.closed() == 1000
        await reader.text(send(room, body="mine"))
        assert (await reader.messages(1))[0].body == b"mine"


async def test_unsubscribe_ends_delivery_and_frees_the_id(port: int, room: str) -> None:
    async with connected(port) as peer:
        await subscribed(peer, room)
        await peer.send("UNSUBSCRIBE", id="s", receipt="u")
        await peer.expect("RECEIPT", receipt_id="u")
        await peer.text(send(room, receipt="r"))
        await peer.expect("RECEIPT", receipt_id="r")
        await subscribed(peer, room)
        await peer.text(send(room))
        assert (await peer.messages(1))[0].seq == 2


async def test_a_refused_client_is_one_line_in_the_log_and_what_it_wrote_is_not(gateway: Worker, room: str) -> None:
    async with connected(gateway.port) as peer:
        assert peer.connected
        session = peer.connected.headers["session"]
        await peer.text(send(room, body="for your eyes only", content_length="3", receipt="r"))
        await peer.expect("ERROR", error_code="bad_content_length")
        assert await peer.closed() == PROTOCOL_ERROR
    (line,) = [line for line in gateway.log().splitlines() if session in line]
    assert "bad_content_length" in line
    assert "eyes only" not in gateway.log()


async def test_an_error_repeats_no_header_that_could_be_a_secret(port: int) -> None:
    async with upgraded(port) as peer:
        await peer.text(frame("CONNECT", {"accept-version": "9", "passcode": "sesame"}))
        error = await peer.expect("ERROR")
        assert "sesame" not in str(error)
