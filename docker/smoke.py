"""One exchange with a running Roomlog, by a stock client: publish with a receipt, read it back from the beginning.

`python docker/smoke.py ws://127.0.0.1:6066/ws [--room ROOM] [--body TEXT] [--only-read]`; exit status 0 when the
message came back. Used by .ci/run and the tests.
"""

from __future__ import annotations

import argparse
import sys
import threading
import uuid
from urllib.parse import urlsplit

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


def exchange(url: str, room: str, body: str, *, publish: bool) -> None:
    """Raises `TimeoutError` or `AssertionError` when the message does not make its way."""
    address = urlsplit(url)
    listener = Listener()
    connection = stomp.WSStompConnection([(address.hostname, address.port)], ws_path=address.path)
    connection.set_listener("smoke", listener)
    connection.connect("smoke", "", wait=True)
    if publish:
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


def main() -> None:
    """Run one exchange."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--room", default=f"smoke-{uuid.uuid4().hex[:12]}")
    parser.add_argument("--body", default="안녕, Roomlog")
    parser.add_argument("--only-read", action="store_true")
    arguments = parser.parse_args()
    exchange(arguments.url, arguments.room, arguments.body, publish=not arguments.only_read)
    done = "read back" if arguments.only_read else "published, receipted and read back"
    sys.stdout.write(f"{arguments.url}: {done}\n")


if __name__ == "__main__":
    main()
