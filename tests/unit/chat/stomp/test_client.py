"""The client's end writes what each version asks for."""

from __future__ import annotations

import pytest

from chat.errors import Code, LocalProtocolError, RemoteProtocolError
from chat.stomp.client import ClientConnection
from chat.stomp.frames import AckMode, Frame, Version
from tests.unit.chat.stomp.link import V10, V11, V12, Link


def test_connect_offers_its_versions() -> None:
    data = ClientConnection().connect(login="mina", passcode="a:b", host="h", heart_beat=(1, 2), headers={"k": "v"})
    assert data == (b"CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:1,2\nlogin:mina\npasscode:a:b\nhost:h\nk:v\n\n\0")


def test_a_1_0_connect_is_one_of_1_0() -> None:
    assert ClientConnection((V10,)).connect(login="mina") == b"CONNECT\nlogin:mina\n\n\0"


def test_a_server_that_names_no_version_speaks_1_0() -> None:
    client = ClientConnection()
    assert client.receive_data(b"CONNECTED\nsession:1\n\n\0\n") == [Frame("CONNECTED", {"session": "1"})]
    assert client.version is V10


@pytest.mark.parametrize(
    ("version", "names"),
    [
        (V12, {"id": "1-1"}),
        (V11, {"message-id": "a/1", "subscription": "s"}),
        (V10, {"message-id": "a/1"}),
    ],
)
def test_an_acknowledgement_names_the_message_as_the_version_does(version: Version, names: dict[str, str]) -> None:
    client = Link(version).client
    message = Frame("MESSAGE", {"message-id": "a/1", "subscription": "s", "ack": "1-1"})
    lines = "".join(f"{name}:{value}\n" for name, value in names.items())
    assert client.ack(message, receipt="r") == f"ACK\n{lines}receipt:r\n\n\0".encode()
    if version is V10:
        with pytest.raises(LocalProtocolError):
            client.nack(message)
    else:
        assert client.nack(message, transaction="t") == f"NACK\n{lines}transaction:t\n\n\0".encode()


def test_a_send_counts_octets() -> None:
    client = Link(V12).client
    assert client.send("/room/a", "안", receipt="r:1") == (
        b"SEND\ndestination:/room/a\nreceipt:r\\c1\ncontent-length:3\n\n" + "안".encode() + b"\0"
    )


def test_a_subscribe_names_its_mode() -> None:
    client = Link(V12).client
    assert client.subscribe("/room/a", "s", ack=AckMode.CLIENT, headers={"x-last": "5"}) == (
        b"SUBSCRIBE\ndestination:/room/a\nack:client\nid:s\nx-last:5\n\n\0"
    )


def test_frames_of_a_client_are_not_for_a_client() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        ClientConnection().receive_data(b"SEND\ndestination:/room/a\n\n\0")
    assert caught.value.code is Code.UNEXPECTED_FRAME
