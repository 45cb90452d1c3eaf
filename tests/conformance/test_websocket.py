"""RFC 6455 at the gateway's end, after the cases of the Autobahn test suite: fragments, control frames, UTF-8, closing."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    Closed,
    Peer,
    Refused,
    connected,
    frame,
    upgraded,
)

PROTOCOL_ERROR, NOT_UTF8, TOO_BIG = 1002, 1007, 1009


async def close_code(peer: Peer) -> int:
    """The code that the server closes with; an ERROR before it is allowed, nothing else is."""
    try:
        error = await peer.next()
    except Closed as closed:
        return closed.code
    assert error.command == "ERROR", error
    return await peer.closed()


# ---------------------------------------------------------------- fragments


async def test_a_message_in_fragments_is_one_message(port: int, room: str) -> None:
    async with connected(port) as peer:
        data = frame("SEND", {"destination": f"/room/{room}", "receipt": "r"}, "안녕")
        await peer.ws(TEXT, data[:7], fin=False)
        for at in range(7, len(data) - 1):  # cuts characters in the middle
            await peer.ws(CONTINUATION, data[at : at + 1], fin=False)
        await peer.ws(CONTINUATION, data[-1:])
        await peer.expect("RECEIPT", receipt_id="r")


async def test_empty_fragments_and_empty_messages_are_nothing(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(TEXT, b"", fin=False)
        await peer.ws(CONTINUATION, b"", fin=False)
        await peer.ws(CONTINUATION, b"")
        await peer.text(b"")
        await peer.binary(b"")
        await peer.send("BEGIN", transaction="t", receipt="r")
        await peer.expect("RECEIPT", receipt_id="r")


async def test_a_ping_between_fragments_is_answered(port: int) -> None:
    async with connected(port) as peer:
        data = frame("BEGIN", {"transaction": "t", "receipt": "r"})
        await peer.ws(TEXT, data[:9], fin=False)
        await peer.ws(PING, b"between")
        await peer.ws(CONTINUATION, data[9:])
        await peer.expect("RECEIPT", receipt_id="r")
        assert peer.pongs == [b"between"]


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([(CONTINUATION, b"x", True)], id="a continuation of nothing"),
        pytest.param([(CONTINUATION, b"x", False)], id="a first fragment that is a continuation"),
        pytest.param([(TEXT, b"x", False), (TEXT, b"y", True)], id="a new message inside a fragmented one"),
        pytest.param([(PING, b"x", False)], id="a ping in fragments"),
        pytest.param([(CLOSE, b"", False)], id="a close in fragments"),
        pytest.param([(PING, b"x" * 126, True)], id="a ping of 126 bytes"),
        pytest.param([(CLOSE, b"\x03\xe8" + b"x" * 124, True)], id="a close of 126 bytes"),
        *(pytest.param([(opcode, b"", True)], id=f"opcode {opcode}") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ],
)
async def test_what_the_framing_forbids_closes_with_1002(port: int, frames: list[tuple[int, bytes, bool]]) -> None:
    async with connected(port) as peer:
        for opcode, payload, fin in frames:
            await peer.ws(opcode, payload, fin=fin)
        assert await close_code(peer) == PROTOCOL_ERROR


@pytest.mark.parametrize("rsv", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_a_reserved_bit_closes_with_1002(port: int, opcode: int, rsv: int) -> None:
    async with connected(port) as peer:
        await peer.ws(opcode, b"\n", rsv=rsv)
        assert await close_code(peer) == PROTOCOL_ERROR


async def test_a_client_frame_without_a_mask_closes_with_1002(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(TEXT, b"\n", masked=False)
        assert await close_code(peer) == PROTOCOL_ERROR


# ---------------------------------------------------------------- control frames


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff\xfe", b"x" * 125])
async def test_a_ping_is_answered_with_its_payload(port: int, payload: bytes) -> None:
    async with connected(port) as peer:
        await peer.ws(PING, payload)
        await peer.send("BEGIN", transaction="t", receipt="r")
        await peer.expect("RECEIPT", receipt_id="r")
        assert peer.pongs == [payload]


async def test_ten_pings_in_a_row_are_answered_in_order(port: int) -> None:
    async with connected(port) as peer:
        for n in range(10):
            await peer.ws(PING, b"%d" % n)
        await peer.send("BEGIN", transaction="t", receipt="r")
        await peer.expect("RECEIPT", receipt_id="r")
        assert peer.pongs == [b"%d" % n for n in range(10)]


async def test_a_pong_that_nobody_asked_for_is_ignored(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(PONG, b"unasked")
        await peer.send("BEGIN", transaction="t", receipt="r")
        await peer.expect("RECEIPT", receipt_id="r")


# ---------------------------------------------------------------- UTF-8

NOT_UTF8_TEXTS = {
    "a lone byte": b"\xff",
    "a lone continuation": b"\x80",
    "an overlong slash": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "cut at the end": b"\xec\x95",
}


@pytest.mark.parametrize("bad", NOT_UTF8_TEXTS.values(), ids=NOT_UTF8_TEXTS)
@pytest.mark.parametrize("fragments", [1, 2])
async def test_text_that_is_not_utf8_closes_with_1007(port: int, room: str, bad: bytes, fragments: int) -> None:
    async with connected(port) as peer:
        data = frame("SEND", {"destination": f"/room/{room}"}, b"ok " + bad)[:-1]
        if fragments == 1:
            await peer.text(data)
        else:
            await peer.ws(TEXT, data[:-1], fin=False)
            await peer.ws(CONTINUATION, data[-1:])
        assert await close_code(peer) == NOT_UTF8


@pytest.mark.parametrize("good", ["κόσμε", "\U0001f600", "\u0000", "\ufffe", "\U0010ffff", "가나다", "é"])
async def test_any_utf8_is_taken(port: int, room: str, good: str) -> None:
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}")
        size = str(len(good.encode()))
        await peer.send("SEND", good, destination=f"/room/{room}", content_length=size)
        assert (await peer.messages(1))[0].body == good.encode()


# ---------------------------------------------------------------- size


async def test_a_message_beyond_any_frame_closes_with_1009(port: int) -> None:
    async with connected(port) as peer:
        await peer.text(b"\n" * 8_000_000)
        assert await close_code(peer) == TOO_BIG


async def test_a_send_of_ten_megabytes_is_told_that_it_is_too_large(port: int, room: str) -> None:
    async with connected(port) as peer:
        await peer.send("SEND", "x" * 10_000_000, destination=f"/room/{room}", receipt="r")
        await peer.expect("ERROR", error_code="body_too_large")
        assert await peer.closed() == TOO_BIG


async def test_fragments_beyond_any_frame_close_with_1009(port: int) -> None:
    async with connected(port) as peer:
        try:
            await peer.ws(BINARY, b"\n", fin=False)
            for _ in range(200):
                await peer.ws(CONTINUATION, b"\n" * 50_000, fin=False)
        except ConnectionError:
            pass  # it has closed while we were still writing
        assert await close_code(peer) == TOO_BIG


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_a_close_is_answered_with_its_code_or_a_normal_one(port: int, code: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, code.to_bytes(2, "big") + b"bye")
        assert await peer.closed() in (code, 1000)


async def test_a_close_without_a_code_is_answered(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, b"")
        assert await peer.closed() in (NO_CODE, 1000)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])
async def test_a_close_with_a_code_that_may_not_be_sent_is_a_protocol_error(port: int, code: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, code.to_bytes(2, "big"))
        assert await peer.closed() == PROTOCOL_ERROR


async def test_a_close_of_one_byte_is_a_protocol_error(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, b"\x03")
        assert await peer.closed() == PROTOCOL_ERROR


async def test_a_close_with_a_reason_that_is_not_utf8_closes_with_1007(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, b"\x03\xe8\xff\xff")
        assert await peer.closed() == NOT_UTF8


async def test_nothing_is_taken_after_a_close(port: int, room: str) -> None:
    async with connected(port, "jun") as reader, connected(port) as peer:
        await reader.send("SUBSCRIBE", id="s", destination=f"/room/{room}", receipt="1")
        await reader.receipt("1")
        await peer.ws(CLOSE, b"\x03\xe8")
        await peer.send("SEND", "too late", destination=f"/room/{room}")
        assert await peer.closed() == 1000
        await reader.send("SEND", "in time", destination=f"/room/{room}")
        assert (await reader.messages(1))[0].body == b"in time"


async def test_after_the_closing_handshake_the_server_ends_the_connection(port: int) -> None:
    async with connected(port) as peer:
        await peer.ws(CLOSE, b"\x03\xe8")
        assert await peer.closed() == 1000
        with pytest.raises(Closed) as end:  # RFC 6455, section 7.1.1: the server closes TCP first
            async with asyncio.timeout(5):
                await peer.ws_frame()
        assert end.value.code == 1006


# ---------------------------------------------------------------- the upgrade


async def test_no_extension_is_agreed_to(port: int) -> None:
    async with upgraded(port, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits") as peer:
        assert "sec-websocket-extensions" not in peer.upgrade


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
async def test_the_pages_own_origin_is_allowed(port: int, origin: str) -> None:
    host = origin.removeprefix("http://").format(port=port)
    async with upgraded(port, Origin=origin.format(port=port), Host=host) as peer:
        await peer.text(frame("CONNECT", {"accept-version": "1.2"}))
        await peer.expect("CONNECTED")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
async def test_a_foreign_origin_is_refused(port: int, origin: str) -> None:
    with pytest.raises(Refused) as refused:
        async with upgraded(port, Origin=origin):
            pass
    assert refused.value.status == 403


async def test_a_plain_get_of_the_socket_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    assert 400 <= status < 500
