"""The load generator: STOMP clients over raw sockets and one epoll, cheaper than any server that it measures.

It parses nothing that it does not need. Of the listeners of a room one is *checked*: each of its frames is read, its
numbers must follow each other and its delay is noted. The others only add up the bytes that they get and their CRC: at
the end both must be what the checked one got, so each loss, repeat and swap on any connection shows, at a nanosecond a
byte.

Runs as a process of its own, so that its CPU is known apart from everybody else's; tests/bench/load.py drives it. One
JSON object a line comes in on stdin, one a line goes out: {"do": NAME, ...arguments} and the result, or {"error": ...}.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tests.websocket import UPGRADE, masked

BUFFER_BYTES: Final = 1_048_576
CONNECTING_MAX: Final = 256
"""Connections that are being opened at once, below the servers' listen backlog."""
BEAT_S: Final = 4.0
"""Between two steps every client sends a heart-beat once in so long; no step but `idle` may take twenty seconds more."""
RETRY_S: Final = 0.02
"""Impatient: stock clients wait for seconds."""
TICK_S: Final = 0.001
"""The shortest wait of epoll; a generator that spun instead would take the core that it measures."""
LATE_S: Final = 0.02
"""A message that is sent so much later than its rate asks for counts as late."""
PATIENCE_S: Final = 60.0
"""Without any progress for so long a step fails."""

_SEQ = re.compile(rb"\nx-seq:(\d+)\n")
_RECEIPT = re.compile(rb"\nreceipt-id:([^\n]+)\n")
PONG: Final = b"\x8a\x80\0\0\0\0"
PING_FRAME: Final = b"\x89\x00"
BEAT: Final = b"\x81\x81\0\0\0\0\n"


class Failed(Exception):
    """The server did not do what it has to do: the run counts for nothing."""


class Client:
    """One connection."""

    __slots__ = (
        "asked_at", "checked", "crc", "left", "messages", "missing", "on_receipt", "port",
        "ready_at", "received_bytes", "room", "seq", "sock", "state", "subscribe", "unsent", "user", "waiting",
    )  # fmt: skip

    def __init__(self, port: int, user: str, room: str, *, checked: bool, subscribe: str) -> None:
        self.port = port
        self.user = user
        self.room = room
        self.checked = checked
        self.subscribe = subscribe
        """Headers of its SUBSCRIBE beside the usual ones, or `-`: it does not subscribe."""
        self.state = "opening"
        self.left = b""
        self.seq = 0
        self.messages = 0
        self.received_bytes = 0
        self.crc = 0
        self.waiting: deque[tuple[bytes, int]] = deque()
        """SENDs without their RECEIPT: its id and when it was sent, in nanoseconds."""
        self.unsent = b""
        self.missing = 0
        self.asked_at = self.ready_at = 0
        self.on_receipt: Callable[[Client], None] | None = None
        self.sock = socket.socket()

    def again(self) -> Client:
        """The same client, not connected yet."""
        return Client(self.port, self.user, self.room, checked=self.checked, subscribe=self.subscribe)


class Generator:
    """All clients of one process."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._clients: dict[int, Client] = {}
        self._delivered_ns: list[int] = []
        self._receipted_ns: list[int] = []
        self._receipts = 0
        self._closed: list[Client] = []
        self._names = 0
        self._retries = False
        self._beaten_s = time.perf_counter()

    # ------------------------------------------------------------ connecting

    def connect(
        self,
        port: int,
        rooms: list[str],
        each: int,
        *,
        writers: bool = False,
        checked_all: bool = False,
        subscribe: str = "",
        beats: str = "0,0",
        retry: bool = False,
    ) -> dict[str, Any]:
        """`each` clients a room, in turns; returns when all have their RECEIPT. `writers` do not subscribe.
        With `retry` who finds nobody there, or is refused since the server is not ready, comes back after `RETRY_S`.

        Gives connects per second and how long single ones took, from `connect` to the RECEIPT, in milliseconds.
        """
        made: list[Client] = []
        for n in range(each):
            for room in rooms:
                self._names += 1
                made.append(
                    Client(
                        port,
                        f"u{self._names}",
                        room,
                        checked=checked_all or writers or n == 0,
                        subscribe="-" if writers else subscribe,
                    )
                )
        pending = deque(made)
        opening: set[Client] = set()
        started = time.perf_counter()
        done = retries = 0
        progress = started
        self._retries = retry
        while done < len(made):
            while pending and len(opening) < CONNECTING_MAX:
                client = pending.popleft()
                self._open(client, beats)
                opening.add(client)
            self._turn(0.05)
            if retry and self._closed:
                retries += len(self._closed)
                for client in self._closed:
                    opening.discard(client)
                    pending.append(client.again())
                self._closed.clear()
                time.sleep(RETRY_S)
            ready = [client for client in opening if client.state == "ready"]
            if ready:
                progress = time.perf_counter()
            done += len(ready)
            opening.difference_update(ready)
            self._look(progress, f"{len(made) - done} of {len(made)} connections got no RECEIPT")
        wall_s = time.perf_counter() - started
        self._retries = False
        took = sorted((client.ready_at - client.asked_at) / 1e6 for client in self._clients.values())
        return {"wall_s": wall_s, "count": len(made), "retries": retries, **_quantiles(took, "connect")}

    def _open(self, client: Client, beats: str) -> None:
        sock = client.sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.asked_at = time.perf_counter_ns()
        self._clients[sock.fileno()] = client
        sock.connect_ex(("127.0.0.1", client.port))
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        frames = masked(
            b"CONNECT\naccept-version:1.2\nheart-beat:%s\nlogin:%s\n\n\0" % (beats.encode(), client.user.encode())
        )
        if client.subscribe == "-":
            frames += masked(b"SUBSCRIBE\nid:e\ndestination:/user/queue/errors\nreceipt:s\n\n\0")
        else:
            frames += masked(
                b"SUBSCRIBE\nid:0\ndestination:/room/%s\nreceipt:s\n%s\n\0"
                % (client.room.encode(), client.subscribe.encode())
            )
        client.unsent = UPGRADE + frames

    # ------------------------------------------------------------ the loop

    def _turn(self, wait_s: float) -> None:
        """Take what has come, for as long as something comes at once."""
        clients = self._clients
        for fd, event in self._poll.poll(wait_s):
            client = clients.get(fd)
            if client is None:
                continue
            if event & select.EPOLLOUT and not self._write(client):
                continue
            if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                try:
                    size = client.sock.recv_into(self._buffer)
                except BlockingIOError:
                    continue
                except OSError:
                    size = 0
                if not size:
                    self._gone(client)
                elif client.checked or client.state != "ready":
                    self._read(client, client.left + self._view[:size])
                elif size == len(PING_FRAME) and self._buffer[:size] == PING_FRAME:
                    client.sock.send(PONG)
                else:
                    client.received_bytes += size
                    client.crc = zlib.crc32(self._view[:size], client.crc)

    def _write(self, client: Client) -> bool:
        """Send what waits; False when the connection is gone."""
        if client.unsent:
            try:
                sent = client.sock.send(client.unsent)
            except BlockingIOError:
                return True
            except OSError:
                self._gone(client)
                return False
            client.unsent = client.unsent[sent:]
        if not client.unsent:
            self._poll.modify(client.sock.fileno(), select.EPOLLIN)
        return True

    def _send(self, client: Client, data: bytes) -> None:
        if not client.unsent:
            try:
                data = data[client.sock.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self._gone(client)
                return
            if not data:
                return
            self._poll.modify(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        client.unsent += data

    def _gone(self, client: Client) -> None:
        fd = client.sock.fileno()
        self._poll.unregister(fd)
        del self._clients[fd]
        client.sock.close()
        client.state = "gone"
        self._closed.append(client)

    def _read(self, client: Client, data: bytes) -> None:
        """Frames of a client whose every frame is looked at, or of one that is still connecting."""
        if client.state == "opening":
            end = data.find(b"\r\n\r\n")
            if end < 0:
                client.left = data
                return
            if self._retries and not data.startswith(b"HTTP/1.1 101"):
                client.sock.shutdown(socket.SHUT_RDWR)
                return
            if not data.startswith(b"HTTP/1.1 101"):
                raise Failed(f"no WebSocket: {data[:80]!r}")
            client.state = "connecting"
            data = data[end + 4 :]
        at, size = 0, len(data)
        while size - at >= 2:
            length, head = data[at + 1], 2
            if length == 126:
                length, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif length == 127:
                length, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            end = at + head + length
            if end > size:
                break
            self._frame(client, data, at, at + head, end)
            at = end
        client.left = data[at:]

    def _frame(self, client: Client, data: bytes, begin: int, at: int, end: int) -> None:
        opcode = data[begin] & 0x0F
        if opcode == 0x9:
            client.sock.send(PONG)
        elif data.startswith(b"MESSAGE", at, end):
            client.received_bytes += end - begin
            client.crc = zlib.crc32(data[begin:end], client.crc)
            found = _SEQ.search(data, at, end)
            if found is None:
                raise Failed(f"a MESSAGE without x-seq: {data[at : at + 200]!r}")
            seq = int(found.group(1))
            if client.seq and seq != client.seq + 1:
                raise Failed(f"{client.room}: seq {seq} follows {client.seq}")
            client.seq = seq
            client.messages += 1
            body = data.find(b"\n\n", at, end) + 2
            if client.state == "ready" and data[body : body + 1] == b"@":
                self._delivered_ns.append(time.perf_counter_ns() - int(data[body + 1 : body + 17]))
        elif data.startswith(b"RECEIPT", at, end):
            found = _RECEIPT.search(data, at, end)
            if found is None:
                raise Failed("a RECEIPT without an id")
            if client.state != "ready":
                client.state = "ready"
                client.ready_at = time.perf_counter_ns()
                return
            wanted, sent = client.waiting.popleft()
            if found.group(1) != wanted:
                raise Failed(f"a RECEIPT of {found.group(1)!r} came before that of {wanted!r}")
            self._receipted_ns.append(time.perf_counter_ns() - sent)
            self._receipts += 1
            if client.on_receipt is not None:
                client.on_receipt(client)
        elif self._retries and client.state != "ready":
            if opcode == 0x8:
                client.sock.shutdown(socket.SHUT_RDWR)
        elif data.startswith(b"ERROR", at, end) or opcode == 0x8:
            raise Failed(f"{client.user} was refused: {data[at : min(end, at + 300)]!r}")

    def _look(self, progress: float, what: str) -> None:
        if time.perf_counter() - progress > PATIENCE_S:
            raise Failed(f"{what} within {PATIENCE_S:.0f} s")
        if self._closed:
            raise Failed(f"{len(self._closed)} connections were closed, the first of {self._closed[0].user}")

    # ------------------------------------------------------------ sending

    def publish(
        self,
        rooms: list[str],
        messages: int,
        *,
        per_s: float = 0,
        window: int = 0,
        seconds: float = 0,
        receipts: bool = True,
        body: int = 100,
    ) -> dict[str, Any]:
        """Send `messages` to `rooms` by turns; returns when everybody has all of them, and all RECEIPTs are there.

        `per_s`: evenly at this rate. Without it each sender keeps `window` SENDs without RECEIPT, for `seconds` if
        given (then `messages` is only a bound). The senders of a room are its checked clients, writers first.
        """
        senders = self._senders(rooms)
        self._delivered_ns, self._receipted_ns, self._receipts = [], [], 0
        before = {client: client.messages for clients in senders.values() for client in clients}
        order = [client for turn in zip(*senders.values(), strict=False) for client in turn]
        sent = dict.fromkeys(rooms, 0)
        text = b"x" * max(0, body - 17)
        started = time.perf_counter()
        deadline = started + seconds if seconds else float("inf")
        total = 0

        def send(client: Client) -> None:
            nonlocal total
            now = time.perf_counter_ns()
            total += 1
            head = b"SEND\ndestination:/room/%s\n" % client.room.encode()
            if receipts:
                receipt = b"r%d" % total
                client.waiting.append((receipt, now))
                head += b"receipt:%s\n" % receipt
            sent[client.room] += 1
            self._send(client, masked(head + b"\n@%016d" % now + text + b"\0"))

        late = 0
        if per_s:
            for client in order:
                client.on_receipt = None
            n = 0
            while n < messages:
                now = time.perf_counter()
                due = started + n / per_s
                if now < due:
                    self._turn(min(0.05, max(TICK_S, due - now)))
                    continue
                late += now - due > LATE_S
                send(order[n % len(order)])
                n += 1
                if not n % 64:
                    self._turn(0)
        else:

            def more(client: Client) -> None:
                if total < messages and time.perf_counter() < deadline:
                    send(client)

            for client in order:
                client.on_receipt = more
            for _ in range(window):
                for client in order:
                    more(client)
            while total < messages and time.perf_counter() < deadline:
                self._turn(0.05)
        sent_s = time.perf_counter() - started
        self._settle(rooms, sent, before, receipts=receipts)
        wall_s = time.perf_counter() - started
        for client in order:
            client.on_receipt = None
        counts = {
            room: sum(1 for c in self._clients.values() if c.room == room and c.subscribe != "-") for room in rooms
        }
        return {
            "messages": total,
            "deliveries": sum(sent[room] * counts[room] for room in rooms),
            "sent_s": sent_s,
            "wall_s": wall_s,
            "late_share": late / max(1, total) if per_s else 0.0,
            **_quantiles(sorted(ns / 1e6 for ns in self._delivered_ns), "deliver"),
            **_quantiles(sorted(ns / 1e6 for ns in self._receipted_ns), "receipt"),
        }

    def _senders(self, rooms: list[str]) -> dict[str, list[Client]]:
        wanted = set(rooms)
        found: dict[str, list[Client]] = {room: [] for room in rooms}
        for client in self._clients.values():
            if client.room in wanted and client.checked:
                found[client.room].append(client)
        for room, clients in found.items():
            if not clients:
                raise Failed(f"nobody is there to send to {room}")
            if writers := [client for client in clients if client.subscribe == "-"]:
                found[room] = writers
        return found

    def _settle(self, rooms: list[str], sent: dict[str, int], before: dict[Client, int], *, receipts: bool) -> None:
        """Wait until all that was sent has come to everybody, unaltered and once."""
        wanted = set(rooms)
        listeners: dict[str, list[Client]] = {room: [] for room in rooms}
        people = [client for client in self._clients.values() if client.room in wanted]
        for client in people:
            if client.subscribe != "-":
                listeners[client.room].append(client)
        checked = {room: next((c for c in clients if c.checked), None) for room, clients in listeners.items()}
        progress, seen = time.perf_counter(), -1
        while True:
            waiting = sum(len(client.waiting) for client in people)
            behind = 0
            for room, clients in listeners.items():
                first = checked[room]
                if first is None:
                    continue
                expected = before.get(first, first.missing) + sent[room]
                first.missing = before.get(first, first.missing)
                behind += expected - first.messages
                if first.messages >= expected:
                    behind += sum(client.received_bytes != first.received_bytes for client in clients)
            if not behind and not waiting:
                break
            self._turn(0.02)
            if waiting + behind != seen:
                progress, seen = time.perf_counter(), waiting + behind
            self._look(progress, f"{waiting} RECEIPTs and {behind} deliveries did not come")
        for room, clients in listeners.items():
            first = checked[room]
            if first is None:
                continue
            first.missing = first.messages
            if any(client.crc != first.crc for client in clients):
                raise Failed(f"{room}: listeners got different bytes")

    # ------------------------------------------------------------ waiting

    def next_line(self, source: Any) -> bytes:
        """The next line of `source`. Meanwhile everybody shows that he lives, so that no PING stands between frames."""
        self._poll.register(source.fileno(), select.EPOLLIN)
        while not select.select([source], [], [], 0)[0]:
            try:
                if time.perf_counter() - self._beaten_s > BEAT_S:
                    self._beaten_s = time.perf_counter()
                    for client in list(self._clients.values()):
                        self._send(client, BEAT)
                self._turn(1.0)
            except Failed as failed:
                print(f"between two steps: {failed}", file=sys.stderr)
        self._poll.unregister(source.fileno())
        return bytes(source.readline())

    def idle(self, seconds: float, *, beat_s: float = 0) -> dict[str, Any]:
        """Only read, for so long; with `beat_s` every client sends a heart-beat once in so many seconds."""
        started = time.perf_counter()
        clients = list(self._clients.values())
        beats = 0
        while (now := time.perf_counter()) - started < seconds:
            due = int((now - started) / beat_s * len(clients)) if beat_s else 0
            while beats < due:
                self._send(clients[beats % len(clients)], BEAT)
                beats += 1
            self._turn(0.005)
            if self._closed:
                self._look(now, "")
        return {"beats": beats, "clients": len(clients), "wall_s": time.perf_counter() - started}

    def expect(self, messages: int) -> dict[str, Any]:
        """Wait until each subscribed client has got `messages` more, for a client that catches up."""
        started = progress = time.perf_counter()
        people = [client for client in self._clients.values() if client.subscribe != "-"]
        seen = -1
        while (behind := sum(max(0, messages - client.messages) for client in people)) > 0:
            self._turn(0.05)
            if behind != seen:
                progress, seen = time.perf_counter(), behind
            self._look(progress, f"{behind} messages did not come")
        return {"wall_s": time.perf_counter() - started, "messages": sum(client.messages for client in people)}

    def gone(self) -> dict[str, Any]:
        """Wait until the server has closed every connection."""
        started = time.perf_counter()
        while self._clients:
            try:
                self._turn(0.05)
            except Failed:
                continue
            self._look_gone(started)
        self._closed.clear()
        return {"wall_s": time.perf_counter() - started}

    def _look_gone(self, started: float) -> None:
        if time.perf_counter() - started > PATIENCE_S:
            raise Failed(f"{len(self._clients)} connections were not closed")

    def drop(self) -> dict[str, Any]:
        """Close every connection."""
        for client in list(self._clients.values()):
            self._poll.unregister(client.sock.fileno())
            client.sock.close()
        count = len(self._clients)
        self._clients.clear()
        self._closed.clear()
        return {"count": count}


def _quantiles(values: list[float], name: str) -> dict[str, float]:
    if not values:
        return {}
    return {f"{name}_p{q}_ms": round(values[min(len(values) - 1, len(values) * q // 100)], 4) for q in (50, 90, 99)} | {
        f"{name}_max_ms": round(values[-1], 4),
        f"{name}_count": len(values),
    }


def main() -> None:
    generator = Generator()
    steps: dict[str, Callable[..., dict[str, Any]]] = {
        "connect": generator.connect,
        "publish": generator.publish,
        "idle": generator.idle,
        "expect": generator.expect,
        "gone": generator.gone,
        "drop": generator.drop,
    }
    while line := generator.next_line(sys.stdin.buffer):
        asked = json.loads(line)
        try:
            result = steps[asked.pop("do")](**asked)
        except Failed as failed:
            result = {"error": str(failed)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
