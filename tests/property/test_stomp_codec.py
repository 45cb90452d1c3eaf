"""What holds for every input of the STOMP codec.

Any split of the bytes gives the same frames; garbage gives frames or one `RemoteProtocolError` and nothing else; what
is written is read back; memory stays within the limits.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from chat.errors import RemoteProtocolError
from chat.stomp.codec import FrameDecoder, encode_frame, message_prefix, message_suffix
from chat.stomp.connection import ServerConnection
from chat.stomp.events import ClientEvent, HeartBeat, Violation
from chat.stomp.frames import BODY_COMMANDS, CLIENT_COMMANDS, SERVER_COMMANDS, UNESCAPED_COMMANDS, Frame, Version
from chat.stomp.limits import Limits

SMALL = Limits(
    connect_bytes_max=300,
    headers_max=6,
    header_bytes_max=40,
    passed_headers_bytes_max=60,
    body_bytes_max=50,
    subscriptions_max=3,
    transactions_max=2,
    transaction_frames_max=3,
    transaction_bytes_max=80,
    ack_window=2,
)

versions = st.sampled_from(Version)

# Pieces from which near-frames are put together: garbage that gets far.
TOKENS = [
    *(command.encode() for command in sorted(CLIENT_COMMANDS | SERVER_COMMANDS)),
    *(b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\0", b":", b"\\", b"\\n", b"\\c", b"\\q", b"\r", b" ", b"\xff"),
    *(b"destination:/room/a\n", b"id:0\n", b"id:1-1\n", b"receipt:r\n", b"transaction:t\n", b"ack:client\n"),
    *(b"content-length:0\n", b"content-length:5\n", b"content-length:x\n", b"accept-version:1.2\n"),
    *(b"heart-beat:1,1\n", b"message-id:a/1\n", b"subscription:0\n", b"12345", "안녕".encode(), b"x" * 45),
]
garbage = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join))
CONNECT = b"CONNECT\naccept-version:%s\n\n\0"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


def new_decoder(version: Version | None, commands: frozenset[str], limits: Limits = SMALL) -> FrameDecoder:
    decoder = FrameDecoder(limits, commands=commands)
    decoder.version = version
    return decoder


def decode(pieces: list[bytes], decoder: FrameDecoder) -> tuple[list[Frame], bool]:
    """The frames, and whether they end in a refusal."""
    frames: list[Frame] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
    except RemoteProtocolError:
        return frames, True
    return frames, False


@given(garbage, st.lists(st.integers(min_value=0), max_size=30), versions)
@example(b"SEND\r\na:b\r\n\r\nx\0", list(range(20)), Version.V12)
@example(b"SEND\ncontent-length:5\n\n12345\0\r\nDISCONNECT\n\n\0", list(range(60)), Version.V12)
def test_any_split_of_the_bytes_gives_the_same_frames(data: bytes, places: list[int], version: Version) -> None:
    whole = decode([data], new_decoder(version, CLIENT_COMMANDS))
    pieces = decode(cut(data, places), new_decoder(version, CLIENT_COMMANDS))
    octets = decode([data[at : at + 1] for at in range(len(data))], new_decoder(version, CLIENT_COMMANDS))
    assert pieces[0] == octets[0] == whole[0]
    # A refusal may come earlier when the bytes do: whatever is refused in one piece is refused in the end.
    assert pieces[1] == octets[1] == whole[1]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def as_read(frame: Frame, version: Version) -> Frame:
    """What a reader of `version` can get of a frame: the older the version, the less it can say."""
    plain = version is Version.V10 or frame.command in UNESCAPED_COMMANDS
    headers: dict[str, str] = {}
    for name, value in frame.headers.items():
        if name == "content-length" or (plain and ":" in name):
            continue
        pair = (name, value)
        if plain:
            pair = (name.replace("\n", " ").replace("\r", " "), value.replace("\n", " ").replace("\r", " "))
        if version is Version.V10:
            pair = (pair[0].strip(" \t"), pair[1].strip(" \t"))
        headers.setdefault(*pair)
    if frame.command in BODY_COMMANDS:
        headers["content-length"] = str(len(frame.body))
    return Frame(frame.command, headers, frame.body)


@given(
    command=st.sampled_from(sorted(CLIENT_COMMANDS | SERVER_COMMANDS)),
    headers=st.dictionaries(names, values, max_size=5),
    body=st.binary(max_size=40),
    version=versions,
)
@example(command="MESSAGE", headers={"a:b": "c\r\nd\\"}, body=b"\0\n\0", version=Version.V11)
def test_what_is_written_is_read_back(command: str, headers: dict[str, str], body: bytes, version: Version) -> None:
    frame = Frame(command, headers, body if command in BODY_COMMANDS else b"")
    expected = as_read(frame, version)
    if "" in expected.headers:  # 1.0 trims a name of blanks to nothing
        return
    if version is Version.V11 and any("\r" in text for pair in headers.items() for text in pair):
        return  # 1.1 has no escape for CR, and one at the end of a line is taken for the line's
    decoder = new_decoder(version, frozenset({command}), Limits())
    decoder.feed(encode_frame(command, headers, frame.body, version))
    assert decoder.next_frame() == expected
    assert decoder.buffered == 0


@given(
    subscription=st.none() | values,
    destination=values,
    headers=st.dictionaries(names, values, max_size=5),
    body=st.binary(max_size=40),
    version=versions,
)
def test_no_header_of_a_client_can_end_its_line_or_its_frame(
    subscription: str | None, destination: str, headers: dict[str, str], body: bytes, version: Version
) -> None:
    data = message_prefix(version, subscription, destination) + message_suffix(version, headers, body)
    head, _, rest = data.partition(b"\n\n")
    assert rest == body + b"\0"
    lines = head.split(b"\n")
    assert lines[0] == b"MESSAGE"
    written = [name for name in headers if name != "content-length" and not (version is Version.V10 and ":" in name)]
    assert len(lines) == 1 + (subscription is not None) + 1 + len(written) + 1
    assert lines[-1] == b"content-length:%d" % len(body)


@given(
    st.lists(garbage, max_size=6),
    versions,
    st.booleans(),
)
def test_garbage_gives_events_or_one_violation_and_nothing_else(
    messages: list[bytes], version: Version, connect: bool
) -> None:
    server = ServerConnection(SMALL, server="roomlog/0.1", heart_beat_ms=10_000)
    events: list[ClientEvent] = []
    for message in [CONNECT % version.encode(), *messages] if connect else messages:
        given_now = server.receive_data(message)
        assert all(isinstance(event, ClientEvent) for event in given_now)
        events += given_now
    violations = [at for at, event in enumerate(events) if isinstance(event, Violation)]
    assert violations in ([], [len(events) - 1])
    if violations:
        last = events[-1]
        assert isinstance(last, Violation)
        answer = server.send_error(last.error)
        frames, refused = decode([answer], new_decoder(server.version, SERVER_COMMANDS, Limits()))
        assert [frame.command for frame in frames] == ["ERROR"]
        assert not refused


@given(garbage, st.integers(min_value=1, max_value=60), versions)
def test_memory_stays_within_the_limits(data: bytes, times: int, version: Version) -> None:
    """However the bytes come, no more is held of a frame than its head and its body may have."""
    decoder = new_decoder(version, CLIENT_COMMANDS)
    bound = SMALL.head_bytes_max + SMALL.body_bytes_max + 3
    try:
        for octet in data * times:
            decoder.feed(bytes([octet]))
            while decoder.next_frame() is not None:
                pass
            assert decoder.buffered <= bound
    except RemoteProtocolError:
        assert decoder.buffered <= bound


@given(st.lists(st.sampled_from([b"\n", b"\r\n"]), max_size=20).map(b"".join))
def test_line_ends_between_frames_cost_nothing(eols: bytes) -> None:
    server = ServerConnection(SMALL, server="roomlog/0.1", heart_beat_ms=10_000)
    events = server.receive_data(CONNECT % b"1.2" + eols + b"DISCONNECT\n\n\0")
    assert len(events) == 2
    assert not any(isinstance(event, HeartBeat) for event in events)
