"""One cursor per watched room, and the subscriptions that hang on it.

A *cursor* is the room's place in this gateway: `next_seq`, what comes next. Every event of the room goes through it in
log order: equal is delivered, lower is dropped, higher is a hole.

A *subscription* is in one of these modes, and moves between them only inside one turn of the loop, so that no event can
fall between two of them:

* `WATCHING`: its watch is on its way through the log; it has no position yet.
* `LIVE`: it hangs on the cursor and has everything below `next_seq`. Most of them share a `Group` (same subscription
  id, destination, version, frame type), for which one frame is built an event.
* `CATCHING_UP`: it reads history from its own position (web/backlog.py), with back-pressure, and goes live in the turn
  in which its position meets the cursor's. Nothing is queued for it meanwhile: what it will need is in the log.
* `PAUSED`: its window of unacknowledged messages is full. An ACK sends it through `CATCHING_UP` to `LIVE`.

So a hole, a resume from any age, an acknowledge window and a NACK are one thing: a position below the cursor's.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from chat import metrics
from chat.records import Event
from chat.stomp.acks import AckWindow
from chat.stomp.codec import ack_line, message_prefix
from chat.stomp.frames import Version
from web.messages import Encoded, websocket_frame

if TYPE_CHECKING:
    from web.connection import Connection

RING_EVENTS_MAX = 512
"""Events a watched room keeps in memory: enough for a page reload, small beside one connection's outbox."""

RING_BYTES_MAX = 1_048_576
"""And their bodies, so that a room of 48 KiB messages costs no more than a slow client."""


class Mode(Enum):
    """Where a subscription stands, see the module's text."""

    WATCHING = auto()
    CATCHING_UP = auto()
    LIVE = auto()
    PAUSED = auto()
    ENDED = auto()


class GroupKey(NamedTuple):
    """What makes two subscriptions get the same bytes."""

    subscription_id: str | None
    destination: str
    version: Version
    binary: bool


class Group:
    """Live subscriptions that get the same bytes."""

    __slots__ = ("binary", "connections", "prefix", "version")

    def __init__(self, key: GroupKey) -> None:
        self.prefix = message_prefix(key.version, key.subscription_id, key.destination)
        self.version = key.version
        self.binary = key.binary
        # A dict for its order; a connection has at most one subscription of an id, so it is here once (in STOMP 1.0
        # the destination takes the id's place).
        self.connections: dict[Connection, None] = {}


class Subscription:
    """One STOMP subscription to one room."""

    __slots__ = (
        "connection",
        "cursor",
        "group_key",
        "instance",
        "key",
        "mode",
        "next_seq",
        "prefix",
        "receipt",
        "skipped_to",
        "user",
        "want",
        "window",
    )

    def __init__(
        self,
        connection: Connection,
        key: str,
        instance: int,
        group_key: GroupKey,
        user: str,
        window: AckWindow | None,
        want: Want,
        receipt: str | None,
    ) -> None:
        self.connection = connection
        self.key = key
        self.instance = instance
        self.group_key = group_key
        self.user = user
        self.window = window
        self.want = want
        self.receipt = receipt
        self.prefix = message_prefix(group_key.version, group_key.subscription_id, group_key.destination)
        self.mode = Mode.WATCHING
        self.cursor: RoomCursor | None = None
        self.next_seq = 0
        """Next event it needs; while it is live in a group, the cursor's counts."""
        self.skipped_to = 0
        """First seq that exists, when a part of what was asked for does not: said on the next MESSAGE."""

    def is_catching_up(self) -> bool:
        """Asked anew after each await: a mode changes while its subscription waits."""
        return self.mode is Mode.CATCHING_UP

    def skip_to(self, first_seq: int) -> None:
        """Begin at `first_seq` when what is asked for lies below it; the next MESSAGE says so."""
        if self.next_seq < first_seq:
            self.next_seq = self.skipped_to = first_seq

    def frame(self, encoded: Encoded) -> bytes:
        """The WebSocket frame of one event for this subscription alone, its acknowledge id included."""
        head = self.prefix
        if self.skipped_to:
            head += b"x-recovered:false\nx-first-seq:%d\n" % self.skipped_to
            self.skipped_to = 0
        if self.window is not None:
            head += ack_line(self.group_key.version, self.window.sent(encoded.event.room, encoded.event.seq))
        return websocket_frame(
            head + encoded.suffix(self.group_key.version), binary=self.group_key.binary or encoded.binary
        )


class Want(NamedTuple):
    """Where a SUBSCRIBE asked to begin. At most one of the first two; neither: at the head."""

    from_seq: int | None = None
    last: int | None = None
    epoch: str | None = None


class RoomCursor:
    """A watched room."""

    __slots__ = ("_ring_bytes", "first_seq", "groups", "next_seq", "ring", "room", "singles", "subscriptions")

    def __init__(self, room: str) -> None:
        self.room = room
        self.next_seq = 0
        """0 until the first watch's verdict gives it a position."""
        self.first_seq = 0
        """Where the room's epoch begins, as far as it is known here: nobody waits for what is below it."""
        self.ring: deque[Event] = deque()
        self._ring_bytes = 0
        self.subscriptions: set[Subscription] = set()
        self.groups: dict[GroupKey, Group] = {}
        self.singles: set[Subscription] = set()
        """Live subscriptions with a window, or with a position that the room has not reached."""

    # ------------------------------------------------------------ positions

    def place(self, next_seq: int) -> list[Subscription]:
        """Move to `next_seq`, since everything below it is in the log. Returns live subscriptions that fell behind."""
        if next_seq <= self.next_seq:
            return []
        behind = self.detach_all() if self.next_seq else []
        self.next_seq = next_seq
        return behind

    def begin_epoch(self, first_seq: int) -> list[Subscription]:
        """Nothing below `first_seq` is promised any more: whoever needs some of it goes on at `first_seq`, and is told.

        Returns live subscriptions that were taken off for it. Harmless to repeat.
        """
        if first_seq <= self.first_seq:
            return []
        self.first_seq = first_seq
        moves = first_seq > self.next_seq
        behind = self.place(first_seq)
        for subscription in self.subscriptions:
            # Who is live, and was not taken off, has everything up to here.
            if moves or subscription.mode is not Mode.LIVE:
                subscription.skip_to(first_seq)
        return behind

    def remember(self, event: Event) -> None:
        """Keep an event for those who come a little later."""
        ring = self.ring
        if ring and ring[-1].seq + 1 != event.seq:
            ring.clear()
            self._ring_bytes = 0
        ring.append(event)
        self._ring_bytes += held_bytes(event)
        while len(ring) > RING_EVENTS_MAX or (self._ring_bytes > RING_BYTES_MAX and len(ring) > 1):
            self._ring_bytes -= held_bytes(ring.popleft())

    def recent(self, from_seq: int, limit: int) -> list[Event]:
        """Events from `from_seq` on that are still in memory; empty when that one is not."""
        ring = self.ring
        if not ring or not ring[0].seq <= from_seq <= ring[-1].seq:
            return []
        start = from_seq - ring[0].seq
        return [ring[i] for i in range(start, min(len(ring), start + limit))]

    # ------------------------------------------------------------ live subscriptions

    def go_live(self, subscription: Subscription) -> None:
        """Hang a subscription that has everything below `next_seq` (or wants nothing below its own) on the cursor."""
        subscription.mode = Mode.LIVE
        if subscription.window is not None or subscription.skipped_to or subscription.next_seq > self.next_seq:
            self.singles.add(subscription)
            return
        group = self.groups.get(subscription.group_key)
        if group is None:
            group = self.groups[subscription.group_key] = Group(subscription.group_key)
        group.connections[subscription.connection] = None

    def detach(self, subscription: Subscription) -> None:
        """Take a live subscription off; its `next_seq` then says what it needs."""
        if subscription in self.singles:
            self.singles.discard(subscription)
            return
        group = self.groups.get(subscription.group_key)
        if group is not None and subscription.connection in group.connections:
            subscription.next_seq = self.next_seq
            del group.connections[subscription.connection]
            if not group.connections:
                del self.groups[subscription.group_key]

    def detach_all(self) -> list[Subscription]:
        """Take every live subscription off: there is a hole before what comes next."""
        live = [s for s in self.subscriptions if s.mode is Mode.LIVE]
        for subscription in live:
            self.detach(subscription)
        return live

    # ------------------------------------------------------------ delivery

    def deliver(self, event: Event, dirty: list[Connection]) -> list[Subscription]:
        """Put `event`, whose seq is `next_seq`, into the outbox of every live subscription.

        Connections that had nothing to write are added to `dirty`. Returns subscriptions whose window is full now.
        This is the fan-out's inner loop: no await, no task, no lock, one frame a group.
        """
        self.next_seq = event.seq + 1
        self.remember(event)
        encoded = Encoded(event)
        delivered = 0
        for group in self.groups.values():
            frame = websocket_frame(group.prefix + encoded.suffix(group.version), binary=group.binary or encoded.binary)
            for connection in group.connections:
                connection.outbox.append(frame)
                if not connection.dirty:
                    connection.dirty = True
                    dirty.append(connection)
            delivered += len(group.connections)
        full: list[Subscription] = []
        if self.singles:
            delivered += self._deliver_singles(encoded, dirty, full)
        metrics.gateway_deliveries.inc(delivered)
        return full

    def _deliver_singles(self, encoded: Encoded, dirty: list[Connection], full: list[Subscription]) -> int:
        delivered = 0
        seq = encoded.event.seq
        for subscription in list(self.singles):
            if seq < subscription.next_seq:
                continue
            connection = subscription.connection
            connection.outbox.append(subscription.frame(encoded))
            if not connection.dirty:
                connection.dirty = True
                dirty.append(connection)
            subscription.next_seq = seq + 1
            delivered += 1
            if subscription.window is None:
                self.singles.discard(subscription)
                self.go_live(subscription)
            elif not subscription.window.is_open:
                full.append(subscription)
        return delivered


def held_bytes(event: Event) -> int:
    """What an event costs in memory, about."""
    return len(event.body) + (len(event.body_b64) if event.body_b64 else 0) + 256
