"""What hostile bytes may cost the codec: time in proportion to their number, memory within the limits.

CPU time is compared with itself: eight times the input against once. A parser that looks again and
again at what it has seen is quadratic and takes 64 times as long for 8 times the bytes; a linear one is far below.
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from chat.errors import RemoteProtocolError
from chat.stomp.connection import ServerConnection
from chat.stomp.events import Violation
from chat.stomp.limits import Limits

CONNECT = b"CONNECT\naccept-version:1.2\n\n\0"
WIDE = Limits(
    connect_bytes_max=1 << 20,
    headers_max=1 << 20,
    header_bytes_max=1 << 20,
    passed_headers_bytes_max=1 << 20,
    body_bytes_max=1 << 20,
    transaction_frames_max=1 << 20,
    transaction_bytes_max=1 << 30,
)
"""So wide that the input, not a bound, decides how long it takes."""

Input = Callable[[int], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def octets(data: bytes, piece: int = 1) -> Iterator[bytes]:
    for at in range(0, len(data), piece):
        yield data[at : at + piece]


PIECE = 256

INPUTS: dict[str, tuple[int, Input]] = {
    "frames": (500, lambda n: whole(b"SEND\ndestination:/room/a\n\nhello\0" * n)),
    "line ends": (40_000, lambda n: whole(b"\n" * n)),
    "line ends, one by one": (1_000, lambda n: octets(b"\r\n" * n)),
    "a body, octet by octet": (1_000, lambda n: octets(b"SEND\ndestination:/room/a\n\n" + b"x" * n)),
    "a body without end": (120_000, lambda n: octets(b"SEND\ndestination:/room/a\n\n" + b"x" * n, PIECE)),
    "a body of known length": (
        120_000,
        lambda n: octets(b"SEND\ndestination:/room/a\ncontent-length:1000000\n\n" + b"x" * n, PIECE),
    ),
    "a header line without end": (30_000, lambda n: octets(b"SEND\na:" + b"x" * n, PIECE)),
    "headers without end": (30_000, lambda n: octets(b"SEND\n" + b"a:b\n" * n, PIECE)),
    "headers": (4_000, lambda n: whole(b"SEND\ndestination:/room/a\n" + b"a:b\n" * n + b"\n\0")),
    "escapes": (10_000, lambda n: whole(b"SEND\ndestination:/room/a\na:" + b"\\c\\n" * n + b"\n\n\0")),
    "carriage returns": (30_000, lambda n: octets(b"SEND\r\ndestination:/room/a\r\na:" + b"\r" * n, PIECE)),
    "a transaction": (
        300,
        lambda n: whole(b"BEGIN\ntransaction:t\n\n\0" + b"SEND\ndestination:/room/a\ntransaction:t\n\nx\0" * n),
    ),
    "digits": (10_000, lambda n: whole(b"SEND\ndestination:/room/a\ncontent-length:" + b"1" * n + b"\n\nx\0")),
}


def feed(pieces: Iterator[bytes], limits: Limits = WIDE) -> ServerConnection:
    """What a connection does with `pieces`, up to its refusal."""
    server = ServerConnection(limits, server="roomlog/0.1", heart_beat_ms=10_000)
    server.receive_data(CONNECT)
    for piece in pieces:
        events = server.receive_data(piece)
        if events and isinstance(events[-1], Violation):
            assert isinstance(events[-1].error, RemoteProtocolError)
            break
    return server


def cpu_s(make: Input, size: int) -> float:
    """The least of some runs: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(5):
        pieces = list(make(size))
        began = time.thread_time()
        feed(iter(pieces))
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize("name", INPUTS)
def test_time_grows_with_the_bytes_and_not_with_their_square(name: str) -> None:
    size, make = INPUTS[name]
    once = max(cpu_s(make, size), 20e-6)
    eight = cpu_s(make, size * 8)
    assert eight < 24 * once, f"8 times the input takes {eight / once:.0f} times as long"


PYTHONS_OWN_BYTES = 262_144
"""Lists and dictionaries of a connection with all its subscriptions, and the last piece of the input."""

HOSTILE: dict[str, Callable[[], Iterator[bytes]]] = {
    "a body without end": lambda: octets(b"SEND\ndestination:/room/a\n\n" + b"x" * 4_000_000, 4_096),
    "a head without end": lambda: octets(b"SEND\n" + b"a:b\n" * 500_000, 4_096),
    "a line without end": lambda: octets(b"SEND\na:" + b"x" * 4_000_000, 4_096),
    "a command without end": lambda: octets(b"S" * 4_000_000, 4_096),
    "line ends": lambda: octets(b"\n" * 4_000_000, 4_096),
    "one large message": lambda: whole(b"\0\n" * 500_000),
    "transactions without end": lambda: (
        b"BEGIN\ntransaction:%d\n\n\0" % n
        + (b"SEND\ndestination:/room/a\ntransaction:%d\n\n%s\0" % (n, b"x" * 40_000)) * 9
        for n in range(200)
    ),
    "subscriptions without end": lambda: (b"SUBSCRIBE\nid:%d\ndestination:/room/a\n\n\0" % n for n in range(5_000)),
    "subscribing and ending": lambda: (
        b"SUBSCRIBE\nid:%d\ndestination:/room/a\nack:client\n\n\0UNSUBSCRIBE\nid:%d\n\n\0" % (n, n)
        for n in range(4_000)
    ),
    "transactions begun and dropped": lambda: (
        b"BEGIN\ntransaction:%d\n\n\0ABORT\ntransaction:%d\n\n\0" % (n, n) for n in range(4_000)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_client_makes_its_connection_hold_more_than_its_limits(name: str) -> None:
    limits = Limits()
    bound = PYTHONS_OWN_BYTES + limits.head_bytes_max + limits.body_bytes_max
    if name == "transactions without end":
        # Bodies, and as many bytes of headers; 9 MiB by default, for somebody who opens all that they may.
        bound += limits.transactions_max * 2 * limits.transaction_bytes_max
    pieces = HOSTILE[name]()
    first = next(pieces)  # makes the input, which is not what is measured
    tracemalloc.start()
    try:
        server = feed(itertools.chain([first], pieces), limits)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert server is not None
    assert held < bound, f"{held:,} bytes are held, at most {bound:,} may be"
