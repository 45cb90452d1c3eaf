"""`stomp.py` over its WebSocket transport: what a Python program does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import stomp
from stomp.utils import Frame

MESSAGES = 1_000
DEADLINE_S = 30.0


class Heard(stomp.ConnectionListener):
    """Everything that one connection heard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.messages: list[Frame] = []
        self.receipts: dict[str, Frame] = {}
        self.errors: list[Frame] = []
        self.disconnected = False

    def _note(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def on_message(self, frame: Frame) -> None:
        self._note(lambda: self.messages.append(frame))

    def on_receipt(self, frame: Frame) -> None:
        self._note(lambda: self.receipts.update({frame.headers["receipt-id"]: frame}))

    def on_error(self, frame: Frame) -> None:
        self._note(lambda: self.errors.append(frame))

    def on_disconnected(self) -> None:
        self._note(lambda: setattr(self, "disconnected", True))

    def until(self, what: str, holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, deadline_s), f"not within {deadline_s} s: {what}"

    @property
    def seqs(self) -> list[int]:
        return [int(frame.headers["x-seq"]) for frame in self.messages]


@contextmanager
def client(port: int, user: str, **options: object) -> Iterator[tuple[stomp.WSStompConnection, Heard]]:
    """A connected `WSStompConnection` and its listener."""
    connection = stomp.WSStompConnection([("127.0.0.1", port)], ws_path="/ws", reconnect_attempts_max=1, **options)
    heard = Heard()
    connection.set_listener("heard", heard)
    connection.connect(user, wait=True)
    yield connection, heard
    if connection.is_connected():
        connection.disconnect(receipt="bye")
        heard.until("the receipt of DISCONNECT", lambda: "bye" in heard.receipts)


def subscribe(connection: stomp.WSStompConnection, heard: Heard, room: str, ack: str = "auto", **headers: str) -> None:
    wanted = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.subscribe(f"/room/{room}", id="s", ack=ack, headers={"receipt": "subscribed", **wanted})
    heard.until("the receipt of SUBSCRIBE", lambda: "subscribed" in heard.receipts)


def publish(connection: stomp.WSStompConnection, room: str, first: int, last: int) -> None:
    for n in range(first, last + 1):
        connection.send(f"/room/{room}", str(n), receipt=f"r-{n}", headers={"x-client-id": f"c-{n}"})


@pytest.mark.parametrize("binary_mode", [False, True])
def test_a_thousand_messages_with_receipts_are_seen_by_all_in_one_order(
    port: int, room: str, *, binary_mode: bool
) -> None:
    everything = list(range(1, MESSAGES + 1))
    with client(port, "writer", binary_mode=binary_mode) as (writer, told), client(port, "early") as (early, heard):
        subscribe(early, heard, room)
        publish(writer, room, 1, MESSAGES)
        told.until("all receipts", lambda: len(told.receipts) == MESSAGES)
        assert {key: int(r.headers["x-seq"]) for key, r in told.receipts.items()} == {f"r-{n}": n for n in everything}
        heard.until("all messages", lambda: len(heard.messages) >= MESSAGES)

        with client(port, "late") as (late, heard_late):
            subscribe(late, heard_late, room, x_from_seq="1")
            heard_late.until("all messages", lambda: len(heard_late.messages) >= MESSAGES)
            assert heard.seqs == heard_late.seqs == everything
            assert [frame.body for frame in heard.messages] == [str(n) for n in everything]


def test_client_mode_is_a_window_that_an_ack_opens(port: int, room: str, window: int) -> None:
    with client(port, "mina") as (mina, heard):
        subscribe(mina, heard, room, ack="client")
        publish(mina, room, 1, window + 10)
        heard.until("a full window", lambda: len(heard.messages) == window)
        mina.ack(heard.messages[window // 2].headers["ack"])
        heard.until("the rest", lambda: len(heard.messages) == window + 10)
        assert heard.seqs == list(range(1, window + 11))


def test_nack_in_client_mode_sends_again_from_there(port: int, room: str) -> None:
    with client(port, "mina") as (mina, heard):
        subscribe(mina, heard, room, ack="client")
        publish(mina, room, 1, 4)
        heard.until("four messages", lambda: len(heard.messages) == 4)
        mina.nack(heard.messages[1].headers["ack"])
        heard.until("three more", lambda: len(heard.messages) == 7)
        assert heard.seqs == [1, 2, 3, 4, 2, 3, 4]


def test_a_transaction_appears_at_its_commit_or_never(port: int, room: str) -> None:
    with client(port, "mina") as (mina, heard):
        subscribe(mina, heard, room)
        kept, dropped = mina.begin(), mina.begin()
        for transaction in (kept, dropped):
            mina.send(f"/room/{room}", "in transaction", transaction=transaction)
        mina.send(f"/room/{room}", "outside", receipt="r")
        heard.until("the receipt", lambda: "r" in heard.receipts)
        mina.abort(dropped)
        mina.commit(kept)
        heard.until("both", lambda: len(heard.messages) == 2)
        mina.send(f"/room/{room}", "last")
        heard.until("the last", lambda: len(heard.messages) == 3)
        assert [frame.body for frame in heard.messages] == ["outside", "in transaction", "last"]


def test_after_a_lost_connection_a_new_one_resumes_without_hole_or_repeat(port: int, room: str) -> None:
    with client(port, "writer") as (writer, told):
        with client(port, "reader") as (reader, heard):
            subscribe(reader, heard, room)
            publish(writer, room, 1, 50)
            heard.until("50 messages", lambda: len(heard.messages) == 50)
            reader.transport.socket.sock.shutdown(socket.SHUT_RDWR)  # the network goes away
            heard.until("the end", lambda: heard.disconnected)
        publish(writer, room, 51, 120)
        told.until("all receipts", lambda: "r-120" in told.receipts)
        with client(port, "reader") as (reader, heard_again):
            subscribe(reader, heard_again, room, x_after_seq=str(heard.seqs[-1]))
            heard_again.until("70 messages", lambda: len(heard_again.messages) == 70)
            assert heard.seqs + heard_again.seqs == list(range(1, 121))


def test_a_refusal_reaches_the_listener_and_the_connection_ends(port: int) -> None:
    with client(port, "mina") as (mina, heard):
        mina.send("/nowhere", "hi")
        heard.until("ERROR", lambda: bool(heard.errors))
        assert heard.errors[0].headers["error-code"] == "unknown_destination"
        heard.until("the end", lambda: heard.disconnected)
