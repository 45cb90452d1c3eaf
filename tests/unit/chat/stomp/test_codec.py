"""The codec, paragraph by paragraph of the specifications. Names in comments are headings of STOMP 1.2."""

from __future__ import annotations

import pytest

from chat.errors import Code, RemoteProtocolError
from chat.stomp.codec import FrameDecoder, ack_line, encode_frame, escape, message_prefix, message_suffix, unescape
from chat.stomp.frames import Frame, Version
from chat.stomp.limits import Limits
from tests.unit.chat.stomp.link import ALL, NEW, V10, V11, V12, raw

TINY = Limits(
    headers_max=8,
    header_bytes_max=64,
    passed_headers_bytes_max=128,
    body_bytes_max=100,
)


def decode(data: bytes, version: Version | None = V12, limits: Limits | None = None) -> list[Frame]:
    decoder = FrameDecoder(limits or Limits())
    decoder.version = version
    decoder.feed(data)
    frames = []
    while (frame := decoder.next_frame() or decoder.end_of_message()) is not None:
        frames.append(frame)
    return frames


def decode_by_octet(data: bytes, limits: Limits | None = None) -> list[Frame]:
    decoder = FrameDecoder(limits or Limits())
    decoder.version = V12
    frames = []
    for at in range(len(data)):
        decoder.feed(data[at : at + 1])
        if (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


def refusal(data: bytes, version: Version | None = V12, limits: Limits | None = None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data, version, limits)
    return caught.value


SEND = Frame("SEND", {"destination": "/room/a"}, b"hi")

# ---------------------------------------------------------------- "STOMP Frames", "Augmented BNF"


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SEND\ndestination:/room/a\n\nhi\0", id="LF"),
        pytest.param(b"SEND\r\ndestination:/room/a\r\n\r\nhi\0", id="CRLF"),
        pytest.param(b"SEND\r\ndestination:/room/a\n\r\nhi\0", id="both"),
        pytest.param(b"SEND\ndestination:/room/a\r\n\nhi\0", id="both, the other way"),
        pytest.param(b"\n\r\n\0\n\0SEND\ndestination:/room/a\n\nhi\0", id="NULs and EOLs before it"),
        pytest.param(b"SEND\ndestination:/room/a\n\nhi\0\n\n\r\n\0", id="NULs and EOLs after it"),
    ],
)
def test_every_line_end_is_taken_in_every_version(data: bytes, version: Version) -> None:
    assert decode(data, version) == [SEND]


def test_a_frame_without_headers() -> None:
    assert decode(b"DISCONNECT\n\n\0") == [Frame("DISCONNECT", {})]


def test_many_frames_in_one_piece_come_in_order() -> None:
    data = b"".join(raw("SEND", {"destination": "/room/a", "n": str(n)}, b"%d" % n) + b"\n" for n in range(50))
    assert [frame.body for frame in decode(data)] == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"HELLO\n\n\0", Code.UNKNOWN_COMMAND),
        (b"send\n\n\0", Code.UNKNOWN_COMMAND),
        (b" SEND\n\n\0", Code.UNKNOWN_COMMAND),
        (b"SEND\0", Code.UNKNOWN_COMMAND),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", Code.UNKNOWN_COMMAND),
        (b"A" * 33, Code.UNKNOWN_COMMAND),
        (b"MESSAGE\n\n\0", Code.UNEXPECTED_FRAME),
        (b"CONNECTED\n\n\0", Code.UNEXPECTED_FRAME),
        (b"SEND\ndestination:/room/a\n\0", Code.BAD_FRAME),
        (b"SEND\nk:a\0b\n\nhi\0", Code.BAD_FRAME),
        (b"SEND\nno colon\n\nhi\0", Code.BAD_HEADER),
        (b"SEND\n:no name\n\nhi\0", Code.BAD_HEADER),
        (b"SEND\na:b\n:no name\na:c\n\nhi\0", Code.BAD_HEADER),
        (b"SEND\nk:\xff\n\nhi\0", Code.NOT_UTF8),
        (b"SEND\nk:\xed\xa0\x80\n\nhi\0", Code.NOT_UTF8),  # a surrogate
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, code: Code) -> None:
    assert refusal(data).code is code


def test_a_command_without_a_line_end_is_refused_before_it_grows() -> None:
    assert decode_by_octet(b"A" * 31) == []
    with pytest.raises(RemoteProtocolError, match="unknown_command"):
        decode_by_octet(b"A" * 32)


# ---------------------------------------------------------------- "Value Encoding"


@pytest.mark.parametrize(
    ("version", "text", "meant"),
    [
        (V12, r"a\nb", "a\nb"),
        (V12, r"a\rb", "a\rb"),
        (V12, r"a\cb", "a:b"),
        (V12, r"a\\b", "a\\b"),
        (V12, r"\\n", "\\n"),
        (V12, r"\\\n", "\\\n"),
        (V11, r"a\nb\c\\", "a\nb:\\"),
        (V10, r"a\nb\q\\", r"a\nb\q\\"),
        (V12, "a:b", "a:b"),  # a raw colon, as stompjs sends it on 1.1
        (V11, "a:b:", "a:b:"),
        (V12, "안녕", "안녕"),
        (V12, " a ", " a "),
        (V11, "\ta ", "\ta "),
        (V10, " a\t", "a"),
        (V12, "", ""),
    ],
)
def test_a_header_value_is_what_was_meant(version: Version, text: str, meant: str) -> None:
    (frame,) = decode(raw("SEND", {"k": text}), version)
    assert frame.headers == {"k": meant}


@pytest.mark.parametrize("version", NEW)
@pytest.mark.parametrize("text", [r"\t", r"\x", r"\N", "\\", "a\\", "\\:", "\\\\\\", "\\ "])
def test_an_undefined_escape_is_fatal(version: Version, text: str) -> None:
    assert refusal(raw("SEND", {"k": text}), version).code is Code.BAD_ESCAPE
    assert refusal(raw("SEND", {text.replace(":", "") + "k": "v"}), version).code is Code.BAD_ESCAPE


def test_1_1_does_not_know_the_escape_for_cr() -> None:
    assert refusal(raw("SEND", {"k": r"a\rb"}), V11).code is Code.BAD_ESCAPE


def test_names_are_unescaped_too() -> None:
    (frame,) = decode(raw("SEND", {r"a\cb": "v"}))
    assert frame.headers == {"a:b": "v"}


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize("version", [None, *NEW])
def test_connect_is_never_unescaped(command: str, version: Version | None) -> None:
    (frame,) = decode(raw(command, {"passcode": r"a\nb\q:c"}), version)
    assert frame.headers == {"passcode": r"a\nb\q:c"}


def test_1_0_trims_names_and_the_first_of_two_wins_after_it() -> None:
    (frame,) = decode(b"SEND\n destination : /room/a \nk:1\nk :2\n\nhi\0", V10)
    assert frame.headers == {"destination": "/room/a", "k": "1"}


def test_1_0_refuses_a_name_of_blanks() -> None:
    assert refusal(b"SEND\n :v\n\n\0", V10).code is Code.BAD_HEADER


def test_a_raw_cr_inside_a_header_is_an_error_in_1_2_only() -> None:
    data = b"SEND\nk:a\rb\n\nhi\0"
    assert refusal(data, V12).code is Code.BAD_HEADER
    assert decode(data, V11)[0].headers == {"k": "a\rb"}
    assert decode(data, V10)[0].headers == {"k": "a\rb"}


@pytest.mark.parametrize(
    ("version", "value", "written"),
    [
        (V12, "a:b\\c\r\nd", r"a\cb\\c\r\nd"),
        (V11, "a:b\\c\nd", r"a\cb\\c\nd"),
        (V10, "a:b\\c\r\nd", r"a:b\c  d"),
        (None, "a:b\\c\r\nd", r"a:b\c  d"),
        (V12, "a\0b", "a\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_a_value_is_written_so_that_it_cannot_end_its_line(version: Version | None, value: str, written: str) -> None:
    assert escape(value, version) == written


def test_a_name_that_cannot_be_written_without_escapes_is_left_out() -> None:
    assert encode_frame("MESSAGE", {"a:b": "1", "c": "2"}, b"", V10) == b"MESSAGE\nc:2\ncontent-length:0\n\n\0"
    assert encode_frame("MESSAGE", {"a:b": "1"}, b"", V12) == b"MESSAGE\na\\cb:1\ncontent-length:0\n\n\0"


def test_a_name_and_its_value_with_one_colon_too_many_between_them_are_told_apart() -> None:
    """Lines are checked by counting colons: one moved from value to name must not cancel out over two headers."""
    assert encode_frame("RECEIPT", {"a:b": "1"}, b"", V10) == b"RECEIPT\n\n\0"
    assert encode_frame("RECEIPT", {"k": "x\ny:z"}, b"", V12) == b"RECEIPT\nk:x\\ny\\cz\n\n\0"
    assert encode_frame("RECEIPT", {"k": "x\ny"}, b"", V11) == b"RECEIPT\nk:x\\ny\n\n\0"


# ---------------------------------------------------------------- "Body", "Header content-length"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"SEND\n\n\0", b""),
        (b"SEND\n\nhi\0", b"hi"),
        (b"SEND\n\na\n\nb\r\n\r\n\0", b"a\n\nb\r\n\r\n"),
        (b"SEND\r\n\r\na\n\nb\0", b"a\n\nb"),
        (b"SEND\ncontent-length:0\n\n\0", b""),
        (b"SEND\ncontent-length:5\n\na\0b\0c\0", b"a\0b\0c"),
        (
            b"SEND\ncontent-length:15\n\n\xec\x95\x88\xeb\x85\x95\xed\x95\x98\xec\x84\xb8\xec\x9a\x94\0",
            "안녕하세요".encode(),
        ),
        (b"SEND\ncontent-length:002\n\nhi\0", b"hi"),
        (b"SEND\ncontent-length:2\ncontent-length:9\n\nhi\0", b"hi"),  # "Repeated Header Entries"
        (b"SEND\n\n\xff\xfe\0", b"\xff\xfe"),
    ],
)
def test_a_body_is_its_octets(data: bytes, body: bytes) -> None:
    assert [frame.body for frame in decode(data)] == [body]


@pytest.mark.parametrize("length", ["two", "-1", "+2", "2.0", "", " 2", "2 ", "0x2", "٢", "2\\n", "9" * 5000])
def test_a_bad_content_length_is_refused(length: str) -> None:
    assert refusal(f"SEND\ncontent-length:{length}\n\nhi\0".encode()).code is Code.BAD_CONTENT_LENGTH


def test_a_padded_content_length_is_trimmed_in_1_0_only() -> None:
    data = b"SEND\ncontent-length: 2\n\nhi\0"
    assert decode(data, V10)[0].body == b"hi"
    assert refusal(data, V11).code is Code.BAD_CONTENT_LENGTH


@pytest.mark.parametrize("length", ["1", "0"])
def test_no_nul_where_content_length_says_is_refused(length: str) -> None:
    assert refusal(f"SEND\ncontent-length:{length}\n\nhi\0".encode()).code is Code.BAD_CONTENT_LENGTH


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("command", ["UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT"])
def test_only_send_may_have_a_body(command: str, version: Version) -> None:
    assert refusal(raw(command, {"receipt": "r"}, b"x"), version).code is Code.BODY_NOT_ALLOWED
    error = refusal(raw(command, {"content-length": "1", "receipt": "r"}, b"x"), version)
    assert (error.code, error.receipt_id) == (Code.BODY_NOT_ALLOWED, "r")
    assert decode(raw(command, {"content-length": "0"}), version) == [Frame(command, {"content-length": "0"})]


def test_the_body_of_subscribe_is_for_1_0_to_ignore_and_for_the_others_to_refuse() -> None:
    data = raw("SUBSCRIBE", {"id": "0"}, b"x")
    assert decode(data, V10) == [Frame("SUBSCRIBE", {"id": "0"}, b"x")]
    for version in NEW:
        assert refusal(data, version).code is Code.BODY_NOT_ALLOWED


def test_a_body_where_none_may_be_is_refused_before_it_comes() -> None:
    assert refusal(b"BEGIN\ncontent-length:40000\n\n").code is Code.BODY_NOT_ALLOWED
    assert refusal(b"BEGIN\ntransaction:t\n\nx").code is Code.BODY_NOT_ALLOWED


def test_a_missing_nul_is_tolerated_at_the_end_of_a_message_when_content_length_is_complete() -> None:
    assert decode(b"SEND\ncontent-length:2\n\nhi") == [Frame("SEND", {"content-length": "2"}, b"hi")]
    assert decode(b"SEND\n\nhi") == []
    assert decode(b"SEND\ncontent-length:3\n\nhi") == []


def test_a_nul_that_comes_a_message_late_is_skipped() -> None:
    decoder = FrameDecoder(Limits())
    decoder.feed(b"SEND\ncontent-length:2\n\nhi")
    assert decoder.next_frame() is None
    assert decoder.end_of_message() is not None
    decoder.feed(b"\0\nDISCONNECT\n\n\0")
    assert decoder.next_frame() == Frame("DISCONNECT", {})


# ---------------------------------------------------------------- "Repeated Header Entries"


@pytest.mark.parametrize("version", ALL)
def test_the_first_of_a_repeated_header_wins(version: Version) -> None:
    (frame,) = decode(b"SEND\nfoo:World\nbar:1\nfoo:Hello\nbar:2\n\n\0", version)
    assert frame.headers == {"foo": "World", "bar": "1"}
    assert list(frame.headers) == ["foo", "bar"]


def test_names_that_are_equal_once_unescaped_are_repeated() -> None:
    (frame,) = decode(b"SEND\na\\\\b:1\na\\\\b:2\n\n\0")
    assert frame.headers == {"a\\b": "1"}


# ---------------------------------------------------------------- "Size Limits"


def header_lines(count: int) -> bytes:
    return b"".join(b"h%d:v\n" % n for n in range(count))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"SEND\n" + header_lines(9) + b"\n\0", Code.TOO_MANY_HEADERS, id="too many headers"),
        pytest.param(b"SEND\n" + header_lines(9), Code.TOO_MANY_HEADERS, id="too many headers, without end"),
        pytest.param(b"SEND\nk:" + b"v" * 63 + b"\n\n\0", Code.HEADER_TOO_LONG, id="a long line"),
        pytest.param(b"SEND\nk:" + b"v" * 64, Code.HEADER_TOO_LONG, id="a long line without end"),
        pytest.param(b"SEND\nk:" + b"v" * 900 + b"\n\n\0", Code.HEADER_TOO_LONG, id="a line longer than a head"),
        pytest.param(b"SEND\n" + (b"k:" + b"v" * 60 + b"\n") * 9 + b"\n\0", Code.TOO_MANY_HEADERS, id="many and much"),
        pytest.param(b"SEND\n\n" + b"x" * 101 + b"\0", Code.BODY_TOO_LARGE, id="a large body"),
        pytest.param(b"SEND\n\n" + b"x" * 101, Code.BODY_TOO_LARGE, id="a large body without end"),
        pytest.param(b"SEND\ncontent-length:101\n\n", Code.BODY_TOO_LARGE, id="a large body announced"),
        pytest.param(b"SEND\ncontent-length:9999999999\n\n", Code.BODY_TOO_LARGE, id="a huge body announced"),
    ],
)
def test_over_the_limit_is_refused(data: bytes, code: Code) -> None:
    assert refusal(data, limits=TINY).code is code
    with pytest.raises(RemoteProtocolError) as caught:
        decode_by_octet(data, TINY)
    assert caught.value.code is code, "octet by octet it is refused as well"


def test_a_head_larger_than_all_its_parts_may_be_together_is_refused() -> None:
    limits = Limits(headers_max=1_000, header_bytes_max=64, passed_headers_bytes_max=128)
    assert limits.head_bytes_max == 512
    assert refusal(b"SEND\n" + b"k:vvvvvvv\n" * 100, limits=limits).code is Code.HEADERS_TOO_LARGE
    assert refusal(b"SEND\n" + b"k:vvvvvvv\n" * 100 + b"\n\0", limits=limits).code is Code.HEADERS_TOO_LARGE


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_at_the_limit_is_taken(eol: bytes) -> None:
    head = eol.join([b"SEND", *[b"h%d:v" % n for n in range(7)], b"k:" + b"v" * 62, b"", b""])
    (frame,) = decode(head + b"x" * 100 + b"\0", limits=TINY)
    assert (len(frame.headers), len(frame.body)) == (8, 100)
    assert decode_by_octet(head + b"x" * 100, TINY) == []
    assert decode_by_octet(head + b"x" * 100 + b"\0", TINY) == [frame]


def test_limits_are_counted_for_each_frame_alone() -> None:
    data = b"SEND\n" + header_lines(5) + b"\n" + b"x" * 60 + b"\0"
    assert len(decode_by_octet(data * 5, TINY)) == 5


# ---------------------------------------------------------------- "ERROR": receipt-id where it is known


@pytest.mark.parametrize(
    ("data", "receipt"),
    [
        (b"HELLO\nreceipt:r-1\n\n\0", "r-1"),
        (b"SEND\nreceipt:r-1\nk:\\q\n\n\0", "r-1"),
        (b"SEND\nk:\\q\nreceipt:a\\cb\n\n\0", "a:b"),
        (b"SEND\nk:\\q\nreceipt:\\q\n\n\0", None),
        (b"SEND\nreceipt:r-1\r\nk\r\n\r\n\0", "r-1"),
        (b"SEND\nk:\xff\nreceipt:r-1\n\n\0", "r-1"),
        (b"SEND\nk:\xff\nreceipt:\xff\n\n\0", None),
        (b"SEND\nreceipt:r-1\n\0", "r-1"),
        (b"SEND\nk:v\n\0SEND\nreceipt:r-2\n\n\0", None),
        (b"SEND\ncontent-length:x\nreceipt:r-1\n\n\0", "r-1"),
        (b"SEND\ncontent-length:999999\nreceipt:r-1\n\n\0", "r-1"),
        (b"SEND\ncontent-length:1\nreceipt:r-1\n\nab\0", "r-1"),
        (b"SEND\nreceipt:r-1\n\n" + b"x" * 50_000, "r-1"),
        (b"SEND\nreceipt:r-1\nk:" + b"v" * 9_000, "r-1"),
        (b"SEND\nk\nreceipt:1\nreceipt:2\n\n\0", "1"),
        (b"SEND\nk\n\nreceipt:in the body\n\0", None),
    ],
)
def test_a_refused_frame_is_named_by_its_receipt(data: bytes, receipt: str | None) -> None:
    assert refusal(data).receipt_id == receipt


# ---------------------------------------------------------------- writing: "MESSAGE", "Header content-length"


@pytest.mark.parametrize("version", ALL)
def test_a_message_is_prefix_ack_line_and_suffix(version: Version) -> None:
    headers = {"message-id": "a/7", "x-time": "2026-11-23T05:31:00Z", "note": "1\\2"}
    data = (
        message_prefix(version, "s-0", "/room/a")
        + ack_line(version, "3-7")
        + message_suffix(version, headers, "안녕\0".encode())
    )
    decoder = FrameDecoder(Limits(), commands=frozenset({"MESSAGE"}))
    decoder.version = version
    decoder.feed(data)
    ack = {"ack": "3-7"} if version is V12 else {}
    expected = {"subscription": "s-0", "destination": "/room/a", **ack, **headers, "content-length": "7"}
    assert decoder.next_frame() == Frame("MESSAGE", expected, "안녕\0".encode())


def test_a_message_of_a_subscription_without_id_names_none() -> None:
    assert message_prefix(V10, None, "/room/a") == b"MESSAGE\ndestination:/room/a\n"


def test_a_suffix_takes_pairs_as_well_and_counts_for_itself() -> None:
    pairs = [("k", "v"), ("content-length", "99")]
    assert message_suffix(V12, pairs, b"hi") == b"k:v\ncontent-length:2\n\nhi\0"
    assert message_suffix(V12, dict(pairs), b"hi") == b"k:v\ncontent-length:2\n\nhi\0"


def test_a_prefix_cannot_be_broken_by_what_a_client_calls_its_subscription() -> None:
    for version in NEW:
        prefix = message_prefix(version, "a\nb:c", "/room/a")
        assert prefix == b"MESSAGE\nsubscription:a\\nb\\cc\ndestination:/room/a\n"


@pytest.mark.parametrize("version", ALL)
def test_unescape_undoes_escape(version: Version) -> None:
    text = "a\\nb:c\\" + ("" if version is V10 else "\n")
    assert unescape(escape(text, version), version) == text
