"""One client's socket: a reader, an outbox, and what the wheel has to know.

The STOMP rules are in chat.stomp (bytes in, events out), what a frame asks for is done in web/dispatch.py; here are
bytes, time and the end. Outgoing frames go to `outbox` and are written together, straight to the transport, once per
loop turn (web/hub.py). Nothing is awaited to write: how much waits for a slow client is looked at instead, and over the
bound it is closed with 4008, which costs it nothing since it resumes by seq.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from aiohttp import WebSocketError, WSMsgType, web

from chat import logs, metrics
from chat.auth import Credentials
from chat.errors import Code, Refused, RemoteProtocolError
from chat.ids import UserId
from chat.records import WatchAnswer
from chat.stomp import events
from chat.stomp.codec import HEART_BEAT, message_prefix, message_suffix
from chat.stomp.connection import ServerConnection
from chat.stomp.destinations import Queue
from chat.stomp.frames import Version
from chat.stomp.heartbeat import HeartBeats
from web import closing
from web.inflight import Pressure
from web.messages import CLOSE, PING, PONG, control_frame, websocket_frame

if TYPE_CHECKING:
    from web.cursors import Subscription
    from web.gateway import Gateway

log = logs.get(__name__)

CLOSE_GRACE_S = 5.0
"""From our close frame to the transport's end, for a client that does not answer it."""

LINGER_POLL_S = 0.05
"""How often a connection whose input is broken looks whether its client has gone; the wheel ends it in any case."""


class Connection:
    """A client of this gateway, from the upgrade to the close."""

    def __init__(self, gateway: Gateway, request: web.Request, socket: web.WebSocketResponse, session: str) -> None:
        self.gateway = gateway
        self.session = session
        self.user: UserId = UserId("")
        self.subscriptions: dict[str, Subscription] = {}
        self.queues: dict[str, tuple[Queue, bytes]] = {}
        """Subscriptions to `/user/queue/...` by key: name and MESSAGE prefix."""
        self.protocol = ServerConnection(
            gateway.limits,
            server=gateway.server_name,
            heart_beat_ms=gateway.settings.heart_beat_ms,
            hosts=gateway.settings.hosts,
        )
        self.heart_beats = HeartBeats(0, 0)
        self.binary = False
        self.in_flight = 0
        self.outbox: list[bytes] = []
        self.dirty = False
        self.closing = False
        self.opened_at = self.last_read = self.last_write = gateway.now()
        self.pinged = False
        self.reading_paused = False
        self.pressure = Pressure()
        self._failed = False
        """We have ended it with an ERROR: whatever was read after the reason for that is not carried out."""
        self._request = request
        self._socket = socket
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away during the upgrade")
        self._transport = transport
        self._queued_bytes = 0
        self._mark_bytes = 0
        self._mark_at = self.last_write
        self._queue_messages = 0
        self._goodbye: asyncio.Task[None] | None = None
        self._give_up_at = math.inf
        self.look_at = 0.0
        """The wheel passes over this connection until then: nothing is due before, and nothing waits to be written."""
        self.ended = asyncio.Event()
        """Set when the connection is over."""

    @property
    def version(self) -> Version:
        """The STOMP version agreed at CONNECT; asked for on a connected connection only."""
        version = self.protocol.version
        assert version is not None
        return version

    # ------------------------------------------------------------ reading

    async def run(self) -> None:
        """Read until the client has closed. Frames that were read are carried out even if the socket dies meanwhile.

        Once we have closed, what still comes is read and dropped until the client's close frame: a socket that is shut
        with unread bytes would take our last frame with it.
        """
        while True:
            message = await self._socket.receive()
            self.last_read = self.gateway.now()
            self.pinged = False
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY if self.closing:
                    pass
                case WSMsgType.TEXT:
                    data: bytes = message.data
                    if data.isascii() or _is_utf8(data):
                        await self._received(data)
                    else:
                        self.close(closing.NOT_UTF8, "text that is not UTF-8")
                case WSMsgType.BINARY:
                    if not self.protocol.connected:
                        self.binary = True
                    await self._received(message.data)
                case WSMsgType.PING:
                    self.outbox.append(control_frame(PONG, message.data))
                    self.gateway.hub.touched(self)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.CLOSE:
                    self.close(closing.answer_to(message.data), "")
                    return
                case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
                    self._broken(message.data)
                    await self._lingered()
                    return
                case _:
                    return

    def _broken(self, error: WebSocketError) -> None:
        if error.code == closing.TOO_BIG and not self.closing:
            self.fail(Refused(Code.BODY_TOO_LARGE, "a WebSocket message longer than any frame may be"))
        else:
            self.close(error.code, "")

    async def _lingered(self) -> None:
        """Wait until the client has read why and gone; what it still sends is dropped by aiohttp."""
        while not self._transport.is_closing():  # noqa: ASYNC110  (a transport tells nobody when it closes)
            await asyncio.sleep(LINGER_POLL_S)

    async def _received(self, data: bytes) -> None:
        for event in self.protocol.receive_data(data):
            if self.closing and (self._failed or type(event) not in (events.Send, events.Commit)):
                continue
            if type(event) is events.Violation:
                self.fail(event.error, event.error.receipt_id)
                return
            try:
                while not self.gateway.dispatch.admits(self, event):
                    # See web/inflight.py: the socket is not read while too many of its commands wait.
                    self.reading_paused = True
                    await self.gateway.in_flight.change(self.user)
            except Refused as refusal:
                self.fail(refusal, getattr(event, "receipt", None))
                return
            self.reading_paused = False
            try:
                if type(event) is events.Connect:
                    await self._connect(event)
                else:
                    self.gateway.dispatch.handle(self, event)
            except RemoteProtocolError as error:
                self.fail(error, error.receipt_id)
            except Refused as refusal:
                self.refuse(refusal, receipt=getattr(event, "receipt", None), asked=getattr(event, "destination", None))
                # Whoever is refused a thousand times in one read keeps nobody else waiting.
                await asyncio.sleep(0)

    async def _connect(self, connect: events.Connect) -> None:
        self.gateway.admit()
        identity = await self.gateway.authenticator.authenticate(
            Credentials(login=connect.login, passcode=connect.passcode, authorization=connect.authorization)
        )
        self.user = identity.user
        self.heart_beats = HeartBeats.agreed(
            self.protocol.client_period_ms, self.protocol.server_period_ms, self.gateway.settings.heart_beat_ms
        )
        self.send(
            self.protocol.send_connected(
                session=self.session, user_name=self.user, features=self.gateway.dispatch.features
            )
        )
        log.debug("connected", session=self.session, user=self.user, version=connect.version.value)

    # ------------------------------------------------------------ writing

    def send(self, frame: bytes, *, binary: bool = False) -> None:
        """Put one STOMP frame into the outbox."""
        self.outbox.append(websocket_frame(frame, binary=self.binary or binary))
        self.gateway.hub.touched(self)

    def receipt(self, receipt_id: str | None, headers: dict[str, str] | None = None) -> None:
        """Answer a frame that asked for a RECEIPT."""
        if receipt_id is not None and not self.closing:
            self.send(self.protocol.send_receipt(receipt_id, headers or {}))

    def queue_message(self, queue: Queue, headers: list[tuple[str, str]], body: bytes = b"") -> bool:
        """Send a MESSAGE to every subscription of one of the user's own queues; False when there is none."""
        found = False
        for name, prefix in self.queues.values():
            if name == queue:
                found = True
                self._queue_messages += 1
                unique = [("message-id", f"{self.session}-{self._queue_messages}"), *headers]
                self.send(prefix + message_suffix(self.version, unique, body))
        return found

    def flush(self) -> None:
        """Write the outbox, in one piece. Called by the hub once per loop turn."""
        self.dirty = False
        if not self.outbox:
            return
        data = self.outbox[0] if len(self.outbox) == 1 else b"".join(self.outbox)
        self.outbox.clear()
        if self._transport.is_closing():
            return
        if not self.closing:
            # What waits from earlier turns says whether the client reads; a burst alone says nothing about it.
            waiting = self._transport.get_write_buffer_size()
            bound = self.gateway.settings.outbox_bytes_max
            if waiting and (waiting > bound or waiting + len(data) > 2 * bound):
                self.close_slow(waiting)
                return
        self._transport.write(data)
        self.look_at = 0.0
        self._queued_bytes += len(data)
        self.last_write = self.gateway.now()

    async def writable(self) -> None:
        """Wait until the client has taken most of what was written to it."""
        self.flush()
        try:
            await self._request.writer.drain()
        except ConnectionError:
            self.closing = True
        # A fast client makes no wait above: other connections get their turn here.
        await asyncio.sleep(0)

    # ------------------------------------------------------------ refusals and the end

    def subscribed(self, subscription: Subscription, answer: WatchAnswer) -> None:
        """The log has answered a SUBSCRIBE: from here on nothing of the room is missed."""
        receipt = subscription.receipt
        if receipt is None:
            return
        headers = {
            "x-head-seq": str(answer.head_seq),
            "x-first-seq": str(answer.first_seq),
            "x-msg-no": str(answer.msg_no),
            "x-epoch": answer.epoch,
        }
        if subscription.want.from_seq is not None:
            headers["x-recovered"] = "false" if subscription.skipped_to else "true"
        self.receipt(receipt, headers)

    def subscription_refused(self, subscription: Subscription, refusal: Refused) -> None:
        """The log has refused a SUBSCRIBE."""
        if self.subscriptions.get(subscription.key) is subscription:
            del self.subscriptions[subscription.key]
            self.protocol.end_subscription(subscription.key, subscription.instance)
        self.refuse(refusal, receipt=subscription.receipt, asked=subscription.group_key.destination)

    def refuse(self, refusal: Refused, *, receipt: str | None = None, asked: str | None = None) -> None:
        """Refuse one request: softly where the client listens for that, else as the specification says."""
        if self.closing:
            return
        headers = [("message", refusal.message), ("error-code", refusal.code.value)]
        if receipt is not None:
            headers.append(("receipt-id", receipt))
        if asked is not None:
            headers.append(("x-destination", asked))
        if self.protocol.connected and self.queue_message(Queue.ERRORS, headers):
            metrics.gateway_refusals.labels(refusal.code.value).inc()
            log.info("refused", session=self.session, user=self.user, code=refusal.code.value)
        else:
            self.fail(refusal, receipt)

    def fail(self, refusal: Refused, receipt: str | None = None) -> None:
        """ERROR, flushed, then close. Always closed."""
        if self.closing:
            return
        self._failed = True
        metrics.gateway_refusals.labels(refusal.code.value).inc()
        log.info("failed", session=self.session, user=self.user, code=refusal.code.value, why=refusal.message)
        self.send(self.protocol.send_error(refusal, receipt_id=receipt))
        self.close(closing.close_code(refusal.code), refusal.code.value)

    def close_slow(self, waiting: int) -> None:
        """The client does not read: end it, it resumes where it was."""
        metrics.gateway_refusals.labels(Code.TOO_SLOW.value).inc()
        log.info("too_slow", session=self.session, user=self.user, waiting_bytes=waiting)
        # Our close frame stands behind what waits: somebody who reads on gets it.
        self.close(closing.TOO_SLOW, Code.TOO_SLOW.value, max(CLOSE_GRACE_S, self.gateway.settings.outbox_age_s))

    def close(self, code: int, reason: str, grace_s: float = CLOSE_GRACE_S) -> None:
        """Flush, send a close frame, and give the client `grace_s` to answer it. Harmless to repeat."""
        if self.closing:
            return
        self.closing = True
        self.release()
        self.outbox.append(control_frame(CLOSE, code.to_bytes(2, "big") + reason.encode()))
        self.flush()
        self._give_up_at = self.gateway.now() + grace_s
        self.look_at = 0.0
        metrics.gateway_closes.labels(code).inc()

    def end(self) -> None:
        """The reader is done: nothing more is written, what has been is flushed by the transport."""
        self.closing = True
        self.release()
        self._transport.close()
        self.ended.set()

    def disconnect(self, receipt: str | None) -> None:
        """A DISCONNECT: its RECEIPT comes after those of everything read before it, and before the close."""
        self.release()
        self._goodbye = asyncio.create_task(self._disconnect(receipt), name=f"disconnect-{self.session}")

    async def _disconnect(self, receipt: str | None) -> None:
        while self.in_flight and not self.closing:
            await self.gateway.in_flight.change(self.user)
        self.receipt(receipt)
        self.close(closing.NORMAL, "")

    def release(self) -> None:
        """Give up all subscriptions; harmless to repeat."""
        subscriptions, self.subscriptions = self.subscriptions, {}
        for subscription in subscriptions.values():
            self.gateway.hub.unsubscribe(subscription)
        self.queues.clear()

    # ------------------------------------------------------------ the wheel

    def tick(self, now: float) -> int:
        """Heart-beats, silence, and a socket that is not read; returns waiting bytes.

        Called about twice a second, from `look_at` on. That is never later than what is due: bytes that come or go
        only put off heart-beats and pings, and whatever is written has the connection looked at again.
        """
        if self.closing:
            if now > self._give_up_at:
                self._transport.abort()
            return 0
        settings = self.gateway.settings
        if not self.protocol.connected:
            if now - self.opened_at > settings.connect_timeout_s:
                self.fail(Refused(Code.CONNECT_TIMEOUT, f"no CONNECT within {settings.connect_timeout_s:g} s"))
            return 0
        waiting = self._transport.get_write_buffer_size()
        if self._queued_bytes - waiting >= self._mark_bytes:
            self._mark_bytes = self._queued_bytes
            self._mark_at = now
        elif now - self._mark_at > settings.outbox_age_s:
            self.close_slow(waiting)
            return waiting
        if now + self.gateway.wheel_s >= self.heart_beats.beat_due_s(self.last_write):
            self.outbox.append(websocket_frame(HEART_BEAT, binary=self.binary))
            self.gateway.hub.touched(self)
        if not self.reading_paused:
            self._watch_silence(now)
        if not waiting and not self.dirty:
            # A socket whose reading is paused is looked at when its silence would count at the earliest.
            beats = self.heart_beats
            silence = beats.close_due_s if self.pinged else beats.ping_due_s
            self.look_at = min(beats.beat_due_s(self.last_write) - self.gateway.wheel_s, silence(self.last_read))
        return waiting

    def _watch_silence(self, now: float) -> None:
        if not self.pinged:
            if now >= self.heart_beats.ping_due_s(self.last_read):
                self.pinged = True
                self.outbox.append(control_frame(PING))
                self.gateway.hub.touched(self)
        elif now >= self.heart_beats.close_due_s(self.last_read):
            self.fail(Refused(Code.HEART_BEAT_MISSED, f"nothing was heard for {now - self.last_read:.0f} s"))


def queue_prefix(connection: Connection, subscription_id: str | None, destination: str) -> bytes:
    """What stands first in every MESSAGE of a subscription to one of the user's own queues."""
    return message_prefix(connection.version, subscription_id, destination)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
