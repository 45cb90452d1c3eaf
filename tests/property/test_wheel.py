"""The wheel passes over connections for which nothing is due. It must never pass over one for which something is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat.settings import load
from chat.stomp.heartbeat import HeartBeats
from chat.stomp.limits import Limits
from web.connection import Connection

WHEEL_S = 0.5
SETTINGS = load({})


class Socket:
    """A transport that keeps what is written, and takes as much of it as it is told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Side:
    """One connection, its clock and its socket."""

    def __init__(self, beats: str, *, passes_over: bool) -> None:
        self.now = 0.0
        self.passes_over = passes_over
        self.looks = 0
        self.socket = Socket()
        self.gateway: Any = SimpleNamespace(
            settings=SETTINGS,
            limits=Limits.from_settings(SETTINGS),
            server_name="test",
            now=lambda: self.now,
            wheel_s=WHEEL_S,
            hub=SimpleNamespace(touched=self._touched, unsubscribe=lambda _: None),
        )
        request: Any = SimpleNamespace(transport=self.socket)
        self.connection = Connection(self.gateway, request, None, "session")  # type: ignore[arg-type]
        protocol = self.connection.protocol
        protocol.receive_data(b"CONNECT\naccept-version:1.2\nheart-beat:%s\n\n\0" % beats.encode())
        self.connection.heart_beats = HeartBeats.agreed(protocol.client_period_ms, protocol.server_period_ms, 10_000)
        self.connection.send(protocol.send_connected("session", "user", ""))
        self.connection.flush()

    def _touched(self, connection: Connection) -> None:
        connection.dirty = True

    def turn(self) -> None:
        self.now += WHEEL_S
        if not self.passes_over or self.connection.look_at <= self.now:
            self.looks += 1
            self.connection.tick(self.now)
        if self.connection.dirty:
            self.connection.flush()

    def does(self, what: str) -> None:
        connection = self.connection
        match what:
            case "reads":
                connection.last_read = self.now
                connection.pinged = False
            case "writes":
                connection.outbox.append(b"frame")
                connection.flush()
            case "fills":  # the kernel takes no more
                connection.outbox.append(b"frame")
                connection.flush()
                self.socket.waiting += len(b"frame")
            case "empties":
                self.socket.waiting = 0
            case "pauses":
                connection.reading_paused = not connection.reading_paused


STEPS = st.lists(
    st.tuples(st.integers(1, 70), st.sampled_from(["reads", "writes", "fills", "empties", "pauses"])), max_size=25
)


@given(beats=st.sampled_from(["0,0", "10000,10000", "3000,60000", "60000,1000"]), steps=STEPS)
def test_a_connection_that_is_passed_over_does_the_same_at_the_same_time_as_one_that_is_always_looked_at(
    beats: str, steps: list[tuple[int, str]]
) -> None:
    always, sometimes = Side(beats, passes_over=False), Side(beats, passes_over=True)
    for turns, what in [*steps, (100, "reads")]:
        for _ in range(turns):
            for side in (always, sometimes):
                side.turn()
            assert sometimes.socket.written == always.socket.written
            assert sometimes.connection.closing == always.connection.closing
            assert sometimes.socket.aborted == always.socket.aborted
        for side in (always, sometimes):
            side.does(what)


def test_an_idle_connection_is_looked_at_a_few_times_a_heart_beat() -> None:
    side = Side("10000,10000", passes_over=True)
    for turn in range(1_000):
        if not turn % 20:
            side.does("reads")
        side.turn()
    assert not side.connection.closing
    assert side.looks < 250
