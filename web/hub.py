"""The hub: between the gateway's tail of the log and its connections.

The tail hands over every record that counts, in log order; the hub moves the cursors of watched rooms, completes the
commands of this gateway and writes. Everything here happens in the tail's turn of the loop, so what a connection sees
follows the log: its own MESSAGE and the RECEIPT of it, a verdict and the event after it.

Writes are joined: delivery only appends to outboxes, and one callback per loop turn writes each dirty connection once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from chat import logs, metrics
from chat.errors import Code, Refused, RoomlogError, Unavailable, UnknownVersion
from chat.log.commands import GATEWAY_ID_BYTES, CommandLog
from chat.log.taking import Take, command_id
from chat.records import (
    KIND_RENUMBERED,
    VERSION,
    WATCH_USERS_MAX,
    Event,
    Verdict,
    WatchAnswer,
    WatchRoom,
    decode_event,
    decode_verdict,
)
from chat.rooms.state import NO_EPOCH
from web.cursors import Mode, RoomCursor, Subscription, held_bytes
from web.messages import Encoded

if TYPE_CHECKING:
    from web.backlog import Backlog
    from web.connection import Connection

log = logs.get(__name__)

WATCH_DELAY_S = 0.002
"""How long a watch waits for others of its room: a tenth of what a person notices, a tenth of the commands in a
storm."""

PAGE_EVENTS = 200
"""Events of history read at once, at most."""

FIRST_PAGE_EVENTS = 8
"""And at first, until it is known how large the room's events are."""

READ_BYTES = 262_144
"""Of bodies in one page, about: a thousand clients that ask for everything and read nothing hold a page each."""

TURN_EVENTS = 16
TURN_BYTES = 131_072
"""History handed to a connection in one turn of the loop, a quarter of a millisecond of it; then others have their
turn, and its socket is asked whether it can take more."""

BACKLOG_RETRY_S = 0.05
MISSES_BEFORE_SCAN = 4
"""The stores are a moment behind the log; only after so many looks at them is the log itself read for one room."""

BACKLOG_TIMEOUT_S = 15.0
"""What no source has yet is waited for so long; then the connection is closed with 4503, never skipped."""


class Hub:
    """Cursors, watches and joined writes of one gateway. All methods run on its loop."""

    def __init__(self, commands: CommandLog, backlog: Backlog, *, creates_on_first_use: bool) -> None:
        self._commands = commands
        self._backlog = backlog
        self._creates = creates_on_first_use
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[bytes, RoomCursor] = {}
        self._watches: dict[str, list[Subscription]] = {}
        self._watch_timer: asyncio.TimerHandle | None = None
        self._newer_seen: set[int] = set()
        """Partitions of which it has been said that they hold newer records."""
        self._dirty: list[Connection] = []
        self._flush_planned = False
        self._catch_ups: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ the tail's side

    def record(self, take: Take, record: Any) -> None:
        """One record of the event log that counts. Decoded only when somebody here cares."""
        command = command_id(record.headers)
        mine = command is not None and command[:GATEWAY_ID_BYTES] == self._commands.gateway_id
        try:
            if take is Take.EVENT:
                cursor = self._rooms.get(record.key)
                if cursor is None and not mine:
                    return
                event = decode_event(record.value)
                if cursor is not None:
                    self._event(cursor, event)
                    metrics.gateway_deliver_seconds.observe(max(0.0, time.time() - record.timestamp / 1000))
                if mine and command is not None:
                    self._commands.answer(command, event)
            elif mine and command is not None:
                self._commands.answer(command, decode_verdict(record.value))
        except UnknownVersion as error:
            self._newer(record, error)
        except Refused as error:
            # Every reader passes over the same record; the archiver parks it. See docs/operations.md.
            log.error("undecodable_record", partition=record.partition, offset=record.offset, error=error.message)
        if self._dirty:
            self._plan_flush()

    def position_lost(self) -> None:
        """The tail may have missed records: ask for the head of every watched room anew."""
        for cursor in self._rooms.values():
            self._watches.setdefault(cursor.room, []).extend(cursor.subscriptions)
        self._flush_watches()

    # ------------------------------------------------------------ subscriptions

    def watch(self, room: str, subscription: Subscription) -> None:
        """Ask the log whether the subscriber may read `room`, and where its head is.

        The answer comes as `connection.subscribed` or `connection.subscription_refused`.
        """
        self._watches.setdefault(room, []).append(subscription)
        if self._watch_timer is None:
            self._watch_timer = self._loop.call_later(WATCH_DELAY_S, self._flush_watches)

    async def ask(self, room: str, user: str) -> WatchAnswer:
        """Where `room` stands now by the log, and whether `user` may read it (`denied` says no).

        Raises:
            Unavailable: the log does not answer in time.
        """
        answer: asyncio.Future[WatchAnswer] = self._loop.create_future()
        command = WatchRoom(v=VERSION, room=room, users=(user,), create=False)
        try:
            self._commands.append(room, [(command, _Question(answer))])
        except Refused as refusal:
            raise Unavailable(refusal.message) from None
        return await answer

    def before_command(self, room: str) -> None:
        """A command of `room` follows: watches that wait go into the log before it, so that its sender sees it."""
        if room in self._watches:
            self._append_watches(room, self._watches.pop(room))

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; harmless to repeat."""
        cursor = subscription.cursor
        if cursor is not None:
            if subscription.mode is Mode.LIVE:
                cursor.detach(subscription)
            cursor.subscriptions.discard(subscription)
            if not cursor.subscriptions:
                self._rooms.pop(cursor.room.encode(), None)
                metrics.gateway_rooms_watched.set(len(self._rooms))
        if subscription.mode is not Mode.ENDED:
            subscription.mode = Mode.ENDED
            metrics.gateway_subscriptions.dec()

    def window_opened(self, subscription: Subscription) -> None:
        """An ACK made room in a full window."""
        if subscription.mode is Mode.PAUSED:
            self._continue(subscription)

    def resend_from(self, subscription: Subscription, seq: int) -> None:
        """A NACK asks for `seq` and what follows again."""
        if subscription.mode is Mode.LIVE and subscription.cursor is not None:
            subscription.cursor.detach(subscription)
        # A number of an epoch that is over cannot be asked for again.
        subscription.next_seq = max(seq, subscription.cursor.first_seq if subscription.cursor is not None else 0)
        if subscription.mode is not Mode.CATCHING_UP:
            self._continue(subscription)

    # ------------------------------------------------------------ writes

    def touched(self, connection: Connection) -> None:
        """`connection.outbox` has something to write."""
        if not connection.dirty:
            connection.dirty = True
            self._dirty.append(connection)
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    # ------------------------------------------------------------ how it works

    def _newer(self, record: Any, error: UnknownVersion) -> None:
        """A record that only a newer gateway understands: nobody here follows that room past it; other rooms go on."""
        if record.partition not in self._newer_seen:
            self._newer_seen.add(record.partition)
            log.critical("newer_record", partition=record.partition, offset=record.offset, reason=str(error))
        # An answer to a command of ours is not given: its time limit says `unavailable`, which is true.
        cursor = self._rooms.get(record.key)
        for subscription in list(cursor.subscriptions) if cursor is not None else ():
            subscription.connection.fail(
                Refused(Code.UNAVAILABLE, "this gateway is too old for what stands in the room now; come back later")
            )

    def _event(self, cursor: RoomCursor, event: Event) -> None:
        if event.kind == KIND_RENUMBERED:
            # No hole: the numbers between were never given, or are lost and somebody has said so.
            for subscription in cursor.begin_epoch(event.seq):
                self._continue(subscription)
        if event.seq == cursor.next_seq:
            for subscription in cursor.deliver(event, self._dirty):
                cursor.detach(subscription)
                subscription.mode = Mode.PAUSED
        elif event.seq < cursor.next_seq:
            metrics.gateway_repeats_dropped.inc()
        else:
            metrics.gateway_fills.inc()
            log.warning("hole_filled", room=cursor.room, expected=cursor.next_seq, got=event.seq)
            behind = cursor.place(event.seq + 1)
            cursor.remember(event)
            for subscription in behind:
                self._continue(subscription)

    def _flush_watches(self) -> None:
        self._watch_timer = None
        watches, self._watches = self._watches, {}
        for room, subscriptions in watches.items():
            self._append_watches(room, subscriptions)

    def _append_watches(self, room: str, subscriptions: list[Subscription]) -> None:
        for start in range(0, len(subscriptions), WATCH_USERS_MAX):
            some = subscriptions[start : start + WATCH_USERS_MAX]
            users = tuple(dict.fromkeys(subscription.user for subscription in some))
            command = WatchRoom(v=VERSION, room=room, users=users, create=self._creates)
            watch = _Watch(self, room, some)
            try:
                self._commands.append(room, [(command, watch)])
            except Refused as refusal:
                watch.failed(refusal.code)

    def watched(self, room: str, subscriptions: list[Subscription], answer: WatchAnswer) -> None:
        """A watch's verdict, at its position of the log."""
        cursor = self._rooms.get(room.encode())
        if cursor is not None:
            behind = cursor.begin_epoch(answer.first_seq)
            behind += cursor.place(answer.head_seq + 1)
            if behind:
                metrics.gateway_fills.inc()
            for subscription in behind:
                self._continue(subscription)
        for subscription in subscriptions:
            if subscription.mode is Mode.ENDED:
                if subscription.cursor is None:
                    # Unsubscribed before it began: its SUBSCRIBE has been processed all the same.
                    subscription.connection.subscribed(subscription, answer)
                continue
            denied = answer.denied.get(subscription.user)
            if denied is not None:
                self.refuse(subscription, denied, "you may not read this room, or it does not exist")
                continue
            if subscription.mode is not Mode.WATCHING:
                continue
            want = subscription.want
            if want.epoch not in (None, NO_EPOCH, answer.epoch):
                self.refuse(
                    subscription,
                    Code.EPOCH_CHANGED,
                    f"the room's numbering is {answer.epoch} now: forget what you have and read from the start",
                )
                continue
            if cursor is None:
                cursor = self._rooms[room.encode()] = RoomCursor(room)
                cursor.begin_epoch(answer.first_seq)
                cursor.place(answer.head_seq + 1)
                metrics.gateway_rooms_watched.set(len(self._rooms))
            self._begin(cursor, subscription, answer)
        if self._dirty:
            self._plan_flush()

    def _begin(self, cursor: RoomCursor, subscription: Subscription, answer: WatchAnswer) -> None:
        want = subscription.want
        if want.from_seq is not None:
            start = want.from_seq
        elif want.last is not None:
            start = max(answer.first_seq, answer.head_seq + 1 - want.last)
        else:
            start = answer.head_seq + 1
        subscription.next_seq = start
        subscription.skip_to(answer.first_seq)
        subscription.cursor = cursor
        cursor.subscriptions.add(subscription)
        subscription.connection.subscribed(subscription, answer)
        self._continue(subscription)

    def refuse(self, subscription: Subscription, code: Code, message: str) -> None:
        """End a subscription with a coded no."""
        self.unsubscribe(subscription)
        subscription.connection.subscription_refused(subscription, Refused(code, message))

    def _continue(self, subscription: Subscription) -> None:
        cursor = subscription.cursor
        if cursor is None or subscription.mode is Mode.ENDED:
            return
        if subscription.window is not None and not subscription.window.is_open:
            subscription.mode = Mode.PAUSED
        elif subscription.next_seq >= cursor.next_seq:
            cursor.go_live(subscription)
        else:
            subscription.mode = Mode.CATCHING_UP
            task = self._loop.create_task(self._catch_up(cursor, subscription), name=f"catch-up-{cursor.room}")
            self._catch_ups.add(task)
            task.add_done_callback(self._caught_up)

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._catch_ups.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("catch_up_failed", error=repr(error))

    async def _catch_up(self, cursor: RoomCursor, subscription: Subscription) -> None:
        """Stream history to a subscription until its position meets the cursor's; ends in the same turn as it meets."""
        connection = subscription.connection
        give_up_at = self._loop.time() + BACKLOG_TIMEOUT_S
        misses = 0
        page = FIRST_PAGE_EVENTS
        while subscription.is_catching_up():
            missing = cursor.next_seq - subscription.next_seq
            if missing <= 0:
                cursor.go_live(subscription)
                return
            # Those of memory are shared by all who read them.
            events = cursor.recent(subscription.next_seq, min(PAGE_EVENTS, missing))
            source = "memory"
            if not events:
                try:
                    events, source = await self._backlog.read(
                        cursor.room,
                        subscription.next_seq,
                        min(page, missing),
                        head_seq=cursor.next_seq - 1,
                        scan=misses >= MISSES_BEFORE_SCAN,
                    )
                except RoomlogError as error:
                    log.warning("backlog_unavailable", room=cursor.room, seq=subscription.next_seq, error=str(error))
                if not subscription.is_catching_up():
                    return
                if not events:
                    misses += 1
                    if self._loop.time() > give_up_at:
                        connection.fail(Refused(Code.UNAVAILABLE, "this history cannot be read now; come back later"))
                        return
                    await asyncio.sleep(BACKLOG_RETRY_S)
                    continue
            misses = 0
            give_up_at = self._loop.time() + BACKLOG_TIMEOUT_S
            page = _next_page(events)
            if not await self._hand_over(subscription, events, source):
                return

    async def _hand_over(self, subscription: Subscription, events: list[Event], source: str) -> bool:
        """Hand a page of history to a subscription, as fast as its client reads.

        False when its window is full: nothing may be awaited then, since its ACK begins a new stream.
        """
        connection = subscription.connection
        handed = size = 0
        for event in events:
            if event.seq != subscription.next_seq:  # a NACK moved it meanwhile, or a source broke its promise
                break
            frame = subscription.frame(Encoded(event))
            connection.outbox.append(frame)
            subscription.next_seq = event.seq + 1
            handed += 1
            size += len(frame)
            if subscription.window is not None and not subscription.window.is_open:
                subscription.mode = Mode.PAUSED
                break
            if size >= TURN_BYTES or not handed % TURN_EVENTS:
                size = 0
                await connection.writable()
                if not subscription.is_catching_up():
                    break
        metrics.gateway_backlog_events.labels(source).inc(handed)
        metrics.gateway_deliveries.inc(handed)
        if subscription.mode is Mode.PAUSED:
            self.touched(connection)
            return False
        await connection.writable()
        return True


def _next_page(events: list[Event]) -> int:
    """How many events to read at once after these: about `READ_BYTES` of them."""
    bytes_each = sum(held_bytes(event) for event in events) // len(events)
    return max(1, min(PAGE_EVENTS, READ_BYTES // bytes_each))


class _Watch:
    """One watch command that waits for its verdict."""

    __slots__ = ("_hub", "_room", "_subscriptions")

    def __init__(self, hub: Hub, room: str, subscriptions: list[Subscription]) -> None:
        self._hub = hub
        self._room = room
        self._subscriptions = subscriptions

    def answered(self, answer: Event | Verdict) -> None:
        if isinstance(answer, Verdict) and answer.watch is not None:
            self._hub.watched(self._room, self._subscriptions, answer.watch)
        else:
            self.failed(answer.code or Code.INTERNAL if isinstance(answer, Verdict) else Code.INTERNAL)

    def failed(self, code: Code) -> None:
        for subscription in self._subscriptions:
            if subscription.mode is Mode.WATCHING:
                self._hub.refuse(subscription, code, "the room's log does not answer now; try again later")
            elif subscription.mode is not Mode.ENDED:
                subscription.connection.fail(Refused(code, "the room's log does not answer now; come back later"))


class _Question:
    """One look at a room that waits for its verdict."""

    __slots__ = ("_answer",)

    def __init__(self, answer: asyncio.Future[WatchAnswer]) -> None:
        self._answer = answer

    def answered(self, answer: Event | Verdict) -> None:
        if self._answer.done():
            return
        if isinstance(answer, Verdict) and answer.watch is not None:
            self._answer.set_result(answer.watch)
        else:
            self._answer.set_exception(Unavailable("the log gave no answer to this"))

    def failed(self, code: Code) -> None:
        if not self._answer.done():
            self._answer.set_exception(Unavailable(f"{code}: the log does not answer now"))
