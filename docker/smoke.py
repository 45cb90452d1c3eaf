"""One exchange with a running Roomlog, by a stock client: publish with a receipt, read it back from the beginning.

`python docker/smoke.py ws://127.0.0.1:6066/ws`. Exit status 0 when the message came back; used by .ci/run.
"""

from __future__ import annotations

import sys
import threading
import uuid

import stomp

WITHIN_S = 20.0


class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """Remembers what arrived."""

    def __init__(self) -> None:
        self.receipted = threading.Event()
        self.delivered = threading.Event()
        self.bodies: list[str] = []

    def on_receipt(self, frame: object) -> None:
        """The message is in the log."""
        del frame
        self.receipted.set()

    def on_message(self, frame: object) -> None:
        """The message came back."""
        self.bodies.append(str(getattr(frame, "body", "")))
        self.delivered.set()

    def on_error(self, frame: object) -> None:
        """Say what the server said; the waits below then fail."""
        sys.stderr.write(f"ERROR: {frame}\n")


def exchange(url: str) -> None:
    """Raises `TimeoutError` or `AssertionError` when the message does not make its way."""
    host, _, port = url.removeprefix("ws://").partition("/")[0].rpartition(":")
    room, body = f"smoke-{uuid.uuid4().hex[:12]}", "안녕, Roomlog"
    listener = Listener()
    connection = stomp.WSStompConnection([(host, int(port))], ws_path="/ws")
    connection.set_listener("smoke", listener)
    connection.connect("smoke", "", wait=True)
    connection.send(f"/room/{room}", body, headers={"receipt": "sent"})
    _wait(listener.receipted, "no RECEIPT")
    connection.subscribe(f"/room/{room}", id="1", headers={"x-from-seq": "1"})
    _wait(listener.delivered, "no MESSAGE")
    connection.disconnect()
    if listener.bodies != [body]:
        raise AssertionError(f"expected {[body]}, got {listener.bodies}")


def _wait(event: threading.Event, what: str) -> None:
    if not event.wait(WITHIN_S):
        raise TimeoutError(f"{what} within {WITHIN_S:.0f} s")


if __name__ == "__main__":
    exchange(sys.argv[1])
    sys.stdout.write(f"{sys.argv[1]}: published, receipted and read back\n")
