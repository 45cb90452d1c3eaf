from __future__ import annotations

import pytest

from agents.sequencing.intake import read_command
from chat.errors import Code, Refused, UnknownVersion
from chat.log.topics import partition_of
from chat.records import CreateRoom, JoinRoom, PostMessage, RenumberRoom, Tick, WatchRoom, encode

PARTITIONS = 8


def read(command, *, key: bytes | None = None, partition: int | None = None, headers=(), value_bytes_max: int = 10_000):
    value = command if isinstance(command, bytes) or command is None else encode(command)
    room = getattr(command, "room", "lobby")
    return read_command(
        room.encode() if key is None else key,
        value,
        tuple(headers),
        partition=partition_of(room, PARTITIONS) if partition is None else partition,
        partitions=PARTITIONS,
        value_bytes_max=value_bytes_max,
    )


def post(**more) -> PostMessage:
    return PostMessage(**{"v": 1, "room": "lobby", "sender": "ann", "nonce": "n", **more})


@pytest.mark.parametrize(
    "command",
    [
        post(client_id="c", body="hello"),
        post(client_id="ü" * 64),
        post(body_b64="/w=="),
        CreateRoom(v=1, room="lobby", sender="ann", name="The Lobby"),
        JoinRoom(v=1, room="lobby", sender="ann"),
        WatchRoom(v=1, room="lobby", users=("ann", "bob")),
        RenumberRoom(v=1, room="lobby", sender="~roomlog", epoch="e", above=7),
    ],
)
def test_what_a_gateway_writes_is_read_as_it_is(command) -> None:
    assert read(command, headers=[("cmd", b"id")]) == (command, b"id")


def test_a_tick_has_no_key_and_belongs_to_any_partition() -> None:
    assert read_command(None, encode(Tick(v=1)), (), partition=3, partitions=8, value_bytes_max=100) == (
        Tick(v=1),
        None,
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b"null",
        b'{"kind":"post"}',
        b'{"kind":"dance","v":1,"room":"lobby"}',
        b'{"kind":"post","v":1,"room":"lobby","sender":"ann","nonce":"","headers":{"a":1}}',
        b'{"kind":"post","v":1,"room":"lobby","sender":"ann","nonce":"","body":"\\ud800"}',
        b'{"kind":"post","x":' + b"[" * 5000,
    ],
)
def test_bytes_that_are_no_command_are_undecodable(value: bytes | None) -> None:
    with pytest.raises(Refused) as refused:
        read_command(b"lobby", value, (), partition=0, partitions=1, value_bytes_max=10_000)
    assert refused.value.code is Code.UNDECODABLE


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (post(), {"key": b"other"}),
        (post(), {"partition": (partition_of("lobby", PARTITIONS) + 1) % PARTITIONS}),
        (post(), {"headers": [("cmd", b"x" * 65)]}),
        (post(body="x" * 200), {"value_bytes_max": 100}),
        (post(room="a/b"), {}),
        (post(room=""), {}),
        (post(sender="not an id"), {}),
        (post(client_id=""), {}),
        (post(client_id="x" * 129), {}),
        (post(client_id="ü" * 65), {}),
        (post(nonce="x" * 2000), {}),
        (post(content_type="x" * 2000), {}),
        (post(body_b64="no base64"), {}),
        (post(body="x", body_b64="/w=="), {}),
        (CreateRoom(v=1, room="lobby", sender="ann", name="x" * 2000), {}),
        (RenumberRoom(v=1, room="lobby", sender="~roomlog", epoch="e", above=-1), {}),
        (RenumberRoom(v=1, room="lobby", sender="~roomlog", epoch="e", above=10**12), {}),
        (WatchRoom(v=1, room="lobby", users=("a b",)), {}),
        (WatchRoom(v=1, room="lobby", users=("ann",) * 501), {}),
    ],
)
def test_a_command_that_cannot_stand_here_is_impossible(command, more) -> None:
    with pytest.raises(Refused) as refused:
        read(command, **more)
    assert refused.value.code is Code.IMPOSSIBLE


def test_a_record_without_a_key_is_impossible() -> None:
    with pytest.raises(Refused) as refused:
        read_command(None, encode(post()), (), partition=0, partitions=1, value_bytes_max=1000)
    assert refused.value.code is Code.IMPOSSIBLE


def test_a_command_of_a_newer_version_is_not_answered() -> None:
    with pytest.raises(UnknownVersion, match="upgrade this worker"):
        read_command(b"lobby", b'{"kind":"post","v":2}', (), partition=0, partitions=1, value_bytes_max=1000)
