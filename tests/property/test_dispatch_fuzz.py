"""Whatever a client sends, the gateway answers in STOMP and stays what it was for everybody else.

Frames come from a grammar and are then damaged: headers dropped, repeated, replaced, added; destinations, ids, ack
modes and transactions of every kind; pieces cut anywhere; bytes that are no STOMP; bytes that are no WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chat.errors import Code
from chat.stomp.client import ClientConnection
from chat.stomp.frames import CLIENT_COMMANDS, SERVER_COMMANDS, Frame, Version
from tests.conformance.wire import BINARY, CLOSE, PING, PONG, TEXT, Closed, Peer, upgraded
from tests.property.gateway_alone import DEADLINE_S, World, world

CODES = {code.value for code in Code} - {Code.INTERNAL.value}
CLOSE_CODES = {1000, 1002, 1007, 1009, 4001, 4003, 4008, 4029, 4503}

slow = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# ---------------------------------------------------------------- frames

JUNK = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DESTINATIONS = st.sampled_from(
    [
        *("/room/a", "/room/a", "/room/b", "/topic/a", "/app/b", "/rooms", "/room/a/join", "/room/a/leave"),
        *("/room/a/kick", "/user/queue/errors", "/user/queue/replies", "/user/queue/inbox", "/direct/bob"),
        *("/analytics/top-rooms", "/", "", "/room/", "/room//join", "room/a", "/room/" + "x" * 129, "/room/~a"),
    ]
)
SMALL_BODIES = st.sampled_from([b"", b"{}", b'{"room":"c"}', b'{"room":7}', b'{"name":""}', b"[]", b"{", b"\xff\xfe"])
STARTS: st.SearchStrategy[dict[str, str]] = st.sampled_from(
    [{}, {}, {"x_from_seq": "1"}, {"x_last": "2"}, {"x_after_seq": "1"}, {"x_from_seq": "x"}, {"x_last": "-1"}]
)
BODIES = st.one_of(
    SMALL_BODIES,
    st.binary(max_size=40),
    st.just(b"x" * 1_025),
)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "destination": DESTINATIONS,
    "id": st.sampled_from(["0", "1", "2", "", "0", "1-1", "1-2", "2-1", "9-9", "x" * 300]),
    "ack": st.sampled_from(["auto", "client", "client-individual", "no"]),
    "receipt": st.sampled_from(["r1", "r2", "", "a:b\\c"]),
    "transaction": st.sampled_from(["t", "u", "v", ""]),
    "content-length": st.sampled_from(["0", "5", "40", "-1", "x", "99999999999999999999"]),
    "content-type": st.sampled_from(["text/plain", "application/json", "x" * 200]),
    "x-client-id": st.sampled_from(["1", "2", "", "x" * 129]),
    "x-from-seq": st.sampled_from(["0", "1", "2", "999999999999999999", "x"]),
    "x-after-seq": st.sampled_from(["0", "1", "-1"]),
    "x-last": st.sampled_from(["0", "1", "100000"]),
    "x-epoch": st.sampled_from(["0", "zz"]),
    "message-id": st.sampled_from(["a/1", "a/2", "b/1", "/", "a/x", "a/999999999999999999"]),
    "subscription": st.sampled_from(["0", "1", "none"]),
    "x-seq": st.just("1"),
    "heart-beat": st.sampled_from(["0,0", "1,1", "x", "1", "99999999999,1"]),
    "accept-version": st.sampled_from(["1.0", "1.1", "1.2", "1.0,1.1,1.2", "9", ""]),
    "login": st.sampled_from(["eve", "", "e e"]),
}
NEEDS = {
    "CONNECT": ("accept-version", "login", "heart-beat"),
    "STOMP": ("accept-version",),
    "SEND": ("destination",),
    "SUBSCRIBE": ("destination", "id"),
    "UNSUBSCRIBE": ("id",),
    "ACK": ("id", "message-id", "subscription"),
    "NACK": ("id", "message-id", "subscription"),
    "BEGIN": ("transaction",),
    "COMMIT": ("transaction",),
    "ABORT": ("transaction",),
    "DISCONNECT": (),
}
MAY = {
    "SEND": ("transaction", "receipt", "x-client-id", "content-type", "content-length", "x-seq"),
    "SUBSCRIBE": ("ack", "receipt", "x-from-seq", "x-after-seq", "x-last", "x-epoch"),
    "ACK": ("transaction",),
    "NACK": ("transaction",),
}
OFTEN = [
    "SEND",
    "SEND",
    "SEND",
    "SUBSCRIBE",
    "SUBSCRIBE",
    "ACK",
    "NACK",
    "UNSUBSCRIBE",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ABORT",
]
RARELY = ["DISCONNECT", "CONNECT", "STOMP", *sorted(SERVER_COMMANDS), "NONSENSE", ""]


@st.composite
def frames(draw: st.DrawFn, damaged: bool = True) -> bytes:
    """A frame that is nearly one."""
    command = draw(st.sampled_from(OFTEN if draw(st.integers(0, 9)) else RARELY))
    names = list(NEEDS.get(command, ()))
    names += [name for name in (*MAY.get(command, ()), "receipt") if not draw(st.integers(0, 3))]
    pairs = [(name, draw(VALUES[name])) for name in names]
    if damaged and not draw(st.integers(0, 4)):
        match draw(st.integers(0, 4)):
            case 0 if pairs:
                pairs.pop(draw(st.integers(0, len(pairs) - 1)))
            case 1 if pairs:
                pairs.append(draw(st.sampled_from(pairs)))
            case 2 if pairs:
                pairs[draw(st.integers(0, len(pairs) - 1))] = (draw(JUNK), draw(JUNK))
            case 3:
                pairs += [(f"h{n}", draw(JUNK)) for n in range(draw(st.sampled_from([1, 3, 20])))]
            case _:
                pairs.append((draw(st.sampled_from(sorted(VALUES))), "y" * draw(st.sampled_from([1, 300]))))
    body = draw(BODIES) if command == "SEND" or (damaged and not draw(st.integers(0, 19))) else b""
    if b"\0" in body and not any(name == "content-length" for name, _ in pairs):
        pairs.append(("content-length", str(len(body))))
    eol = "\r\n" if not draw(st.integers(0, 9)) else "\n"
    head = eol.join([command, *(f"{name}:{value}" for name, value in pairs), "", ""])
    return head.encode("utf-8", "replace") + body + (b"" if damaged and not draw(st.integers(0, 29)) else b"\0")


CONNECTS = st.one_of(
    st.sampled_from(["1.2", "1.1", "1.0,1.1"]).map(lambda v: f"CONNECT\naccept-version:{v}\nlogin:eve\n\n\0".encode()),
    st.just(b"CONNECT\nlogin:eve\n\n\0"),
)
SOFTLY = b"SUBSCRIBE\nid:soft\ndestination:/user/queue/errors\n\n\0SUBSCRIBE\nid:replies\ndestination:/user/queue/replies\n\n\0"
ACK_THE_LAST = b"ack"
NACK_THE_LAST = b"nack"
GARBAGE = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from(
            [*(c.encode() for c in sorted(CLIENT_COMMANDS)), b"\n", b"\r\n", b"\n\n", b"\0", b":", b"a:b\n", b"\xff"]
        ),
        max_size=30,
    ).map(b"".join),
    st.sampled_from([b"\n" * 2_000, b"A" * 5_000, b"SEND\n" + b"a:b\n" * 2_000, b"\0" * 2_000]),
)


def plain(command: str, body: bytes = b"", **headers: str) -> bytes:
    """A frame without a fault."""
    lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


@st.composite
def scripts(draw: st.DrawFn) -> list[bytes]:
    """What a client does that keeps count of its subscriptions and transactions; now and then a frame is damaged."""
    open_subscriptions: list[str] = []
    transactions: list[str] = []
    steps = []
    for n in range(draw(st.integers(0, 16))):
        receipt = {"receipt": f"r{n}"} if draw(st.booleans()) else {}
        room = draw(st.sampled_from(["a", "b"]))
        match draw(
            st.sampled_from(
                [
                    "send",
                    "send",
                    "send",
                    "subscribe",
                    "subscribe",
                    "end",
                    "begin",
                    "commit",
                    "ack",
                    "nack",
                    "any",
                    "any",
                ]
            )
        ):
            case "send":
                extra = receipt
                if transactions and draw(st.booleans()):
                    extra = {**receipt, "transaction": transactions[-1]}
                if not draw(st.integers(0, 3)):
                    extra = {**extra, "x_client_id": draw(st.sampled_from("12"))}
                where = draw(
                    st.sampled_from(
                        [f"/room/{room}", f"/topic/{room}", f"/room/{room}/join", f"/room/{room}/leave", "/rooms"]
                    )
                )
                body = draw(SMALL_BODIES) if where[-1] not in "ab" else b"hello"
                steps.append(plain("SEND", body, destination=where, **extra))
            case "subscribe":
                free = [one for one in "0123" if one not in open_subscriptions]
                if free:
                    open_subscriptions.append(free[0])
                    mode = draw(st.sampled_from(["auto", "client", "client-individual"]))
                    start = draw(STARTS)
                    steps.append(
                        plain("SUBSCRIBE", id=free[0], destination=f"/room/{room}", ack=mode, **start, **receipt)
                    )
            case "end" if open_subscriptions:
                steps.append(plain("UNSUBSCRIBE", id=open_subscriptions.pop(), **receipt))
            case "begin" if len(transactions) < 2:
                transactions.append(f"t{n}")
                steps.append(plain("BEGIN", transaction=f"t{n}", **receipt))
            case "commit" if transactions:
                steps.append(
                    plain(draw(st.sampled_from(["COMMIT", "ABORT"])), transaction=transactions.pop(), **receipt)
                )
            case "ack":
                steps.append(ACK_THE_LAST)
            case "nack":
                steps.append(NACK_THE_LAST)
            case "any" if draw(st.booleans()):
                steps.append(draw(frames()))
            case _:
                steps.append(b"\n")
    if draw(st.booleans()):
        steps.append(plain("DISCONNECT", receipt="bye"))
    return steps


# ---------------------------------------------------------------- a client


@dataclass
class Heard:
    """What a client got, until the end."""

    frames: list[Frame] = field(default_factory=list)
    close: int | None = None
    gone: bool = False


class Client:
    """Sends anything; what comes back must be STOMP, and is read by our own client codec."""

    def __init__(self, peer: Peer, opcode: int) -> None:
        self._peer = peer
        self._opcode = opcode
        self._codec = ClientConnection()
        self.heard = Heard()

    async def say(self, data: bytes, opcode: int | None = None) -> None:
        with contextlib.suppress(ConnectionError):
            await self._peer.ws(opcode or self._opcode, data)

    async def listen(self) -> None:
        """Until the server has handled everything so far, or has ended this."""
        await self.say(b"so far", PING)
        async with asyncio.timeout(DEADLINE_S):
            while not (self.heard.close is not None or self.heard.gone):
                try:
                    opcode, payload = await self._peer.ws_frame()
                except Closed:
                    self.heard.gone = True
                    return
                match opcode & 0x0F:
                    case 0x8:
                        self.heard.close = int.from_bytes(payload[:2], "big") if payload else 1005
                        await self.say(payload, CLOSE)
                    case 0xA:
                        assert payload == b"so far"
                        return
                    case 0x1 | 0x2 as kind:
                        if kind == TEXT:
                            payload.decode()
                        self.heard.frames += self._codec.receive_data(payload)
                    case other:
                        assert other == PING, f"opcode {other}"
                        await self.say(payload, PONG)

    @property
    def over(self) -> bool:
        return self.heard.close is not None or self.heard.gone

    def last_ack(self, command: bytes) -> bytes:
        """An ACK or NACK of the newest MESSAGE that can have one; a beat when there is none."""
        by_id = self._codec.version is Version.V12
        for frame in reversed(self.heard.frames):
            if frame.command == "MESSAGE" and ("ack" in frame.headers if by_id else "x-seq" in frame.headers):
                negative = command == NACK_THE_LAST and self._codec.version is not Version.V10
                return self._codec.nack(frame) if negative else self._codec.ack(frame)
        return b"\n"


async def play(here: World, steps: list[bytes], opcode: int, cuts: list[int]) -> Heard:
    """One client's life."""
    async with upgraded(here.port) as peer:
        client = Client(peer, opcode)
        for n, step in enumerate(steps):
            if step in (ACK_THE_LAST, NACK_THE_LAST):
                await client.listen()
                step = client.last_ack(step)  # noqa: PLW2901
            at = cuts[n % len(cuts)] % (len(step) + 1) if cuts else 0
            for piece in (step[:at], step[at:]) if at and opcode == BINARY else (step,):
                await client.say(piece)
        await client.listen()
        async with asyncio.timeout(DEADLINE_S):
            while not (client.over or here.gateway.at_rest):
                await client.listen()
        await client.listen()
        if not client.over:
            await client.say((1000).to_bytes(2, "big"), CLOSE)
            await client.listen()
        return client.heard


def check(heard: Heard) -> None:
    """Answers are frames of a server, one ERROR at most, and that is the last; each refusal has a code of the enum."""
    commands = [frame.command for frame in heard.frames]
    assert set(commands) <= SERVER_COMMANDS
    assert commands.count("CONNECTED") <= 1
    assert "ERROR" not in commands[:-1]
    for frame in heard.frames:
        if frame.command == "ERROR" or frame.headers.get("destination") == "/user/queue/errors":
            assert frame.headers["error-code"] in CODES, frame
    for receipt in (frame for frame in heard.frames if frame.command == "RECEIPT" and "x-seq" in frame.headers):
        assert int(receipt.headers["x-seq"]) >= 1, receipt
    assert heard.close in CLOSE_CODES, f"closed with {heard.close}"
    if "ERROR" in commands:
        assert heard.close != 1000
    for subscription in {f.headers.get("subscription") for f in heard.frames if f.command == "MESSAGE"}:
        ids = [f.headers["message-id"] for f in heard.frames if f.headers.get("subscription") == subscription]
        assert all(re.fullmatch(r".+[/-]\d+", one) for one in ids)


def run(*lives: tuple[list[bytes], int, list[int]]) -> list[Heard]:
    async def go() -> list[Heard]:
        async with world() as here:
            heard = [await play(here, *life) for life in lives]
            await here.nobody_else_noticed()
            return heard

    return asyncio.run(go())


# ---------------------------------------------------------------- tests


@slow
@given(
    connect=CONNECTS,
    softly=st.sampled_from([True, True, False]),
    steps=scripts(),
    opcode=st.sampled_from([TEXT, BINARY]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
@example(b"CONNECT\naccept-version:1.2\n\n\0", True, [b"SEND\ndestination:/room/a\n\nx\0" * 40], TEXT, [])
@example(
    b"CONNECT\naccept-version:1.2\n\n\0",
    False,
    [b"SEND\ndestination:/room/none/leave\n\n\0", ACK_THE_LAST, b"SEND\ndestination:/room/a\nreceipt:r\n\nx\0" * 3],
    TEXT,
    [],
)
def test_any_sequence_of_frames_is_answered_in_stomp(
    connect: bytes, softly: bool, steps: list[bytes], opcode: int, cuts: list[int]
) -> None:
    opening = [connect, SOFTLY] if softly else [connect]
    if opcode == TEXT:
        # Text that is not UTF-8 has a test of its own.
        steps = [step for step in steps if step.decode("utf-8", "replace").encode() == step]
    (heard,) = run(([*opening, *steps], opcode, cuts))
    check(heard)


@slow
@given(pieces=st.lists(GARBAGE, min_size=1, max_size=6), connect=st.booleans(), opcode=st.sampled_from([TEXT, BINARY]))
def test_any_bytes_are_answered_with_one_coded_error_or_nothing(
    pieces: list[bytes], connect: bool, opcode: int
) -> None:
    opening = [b"CONNECT\naccept-version:1.2\nlogin:eve\n\n\0"] if connect else []
    (heard,) = run(([*opening, *pieces], opcode, []))
    check(heard)
    if not connect:
        assert [frame.command for frame in heard.frames] in ([], ["ERROR"], ["CONNECTED"], ["CONNECTED", "ERROR"])


@slow
@given(
    raw=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=60).map(lambda b: b"\x81\xfe" + b),
        st.just(b"\x82\xff" + b"\x7f" * 60),
    )
)
def test_bytes_that_are_no_websocket_cost_one_connection_and_nothing_else(raw: bytes) -> None:
    async def go() -> None:
        async with world() as here:
            async with upgraded(here.port) as peer:
                peer._writer.write(raw)
                peer._writer.write_eof()
                with contextlib.suppress(Closed):
                    async with asyncio.timeout(DEADLINE_S):
                        while True:
                            await peer.ws_frame()
            await here.nobody_else_noticed()

    asyncio.run(go())


def test_hundreds_of_hostile_lives_leave_nothing_behind() -> None:
    """One gateway, so that what each leaves would add up: half frames, open transactions, windows, full subscriptions."""
    hostile: list[list[bytes]] = [
        [b"SEND\ndestination:/room/a\ncontent-length:1000\n\nhalf"],
        [b"BEGIN\ntransaction:t\n\n\0", b"SEND\ndestination:/room/a\ntransaction:t\n\nx\0"],
        [b"SUBSCRIBE\nid:%d\ndestination:/room/a\nack:client\n\n\0" % n for n in range(6)],
        [
            b"SUBSCRIBE\nid:0\ndestination:/room/a\nx-from-seq:1\nack:client\n\n\0",
            b"SEND\ndestination:/room/a\n\nx\0" * 9,
        ],
        [b"\n" * 1_000, b"A" * 2_000],
    ]
    connect = b"CONNECT\naccept-version:1.2\nlogin:eve\n\n\0"

    async def go() -> None:
        async with world() as here:
            for n in range(400):
                async with upgraded(here.port) as peer:
                    client = Client(peer, TEXT)
                    for step in [connect, *hostile[n % len(hostile)]]:
                        await client.say(step)
                    if n % 3:
                        await client.listen()
                    peer.abort()
            await here.nobody_else_noticed()
            assert not any(len(slot) > 1 for slot in here.gateway._wheel)

    asyncio.run(go())
