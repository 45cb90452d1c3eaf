"""What each STOMP frame makes the gateway do: one handler a frame.

A handler checks what was asked and puts it on its way; it never waits. A `Refused` that it raises is a refusal of this
one request (soft where the client listens for that); a `RemoteProtocolError` ends the connection.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from chat import ids, metrics
from chat.errors import Code, Refused
from chat.records import VERSION, CreateRoom, JoinRoom, LeaveRoom, PostMessage, RoomCommand
from chat.stomp import destinations, events
from chat.stomp.acks import Settled
from chat.stomp.frames import AckMode
from web.answers import Answer, CommitAnswer
from web.connection import Connection, queue_prefix
from web.cursors import GroupKey, Subscription, Want
from web.inflight import PRESSURE_S

if TYPE_CHECKING:
    from web.gateway import Gateway

NONCE_BYTES = 12
ROOM_NAME_CHARS_MAX = 200
GENERATED_ROOM_BYTES = 10
SEQ_DIGITS_MAX = 18

FEATURES = "create,join,leave,x-from-seq,x-after-seq,x-last,x-client-id,errors,replies"


class Dispatch:
    """The handlers of one gateway."""

    features = FEATURES

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        settings = gateway.settings
        self._destinations = destinations.DestinationParser(aliases=settings.aliases)
        self._creates = settings.creates_on_first_use
        self._handlers: dict[type, Callable[[Connection, Any], None]] = {
            events.Send: self.handle_send,
            events.Subscribe: self.handle_subscribe,
            events.Unsubscribe: self.handle_unsubscribe,
            events.Ack: self.handle_ack,
            events.Nack: self.handle_nack,
            events.Begin: self.handle_begin,
            events.Commit: self.handle_commit,
            events.Abort: self.handle_abort,
            events.Disconnect: self.handle_disconnect,
            events.HeartBeat: self.handle_heart_beat,
        }
        self._received = {
            kind: metrics.gateway_frames_received.labels(kind.__name__.lower()) for kind in self._handlers
        }

    def handle(self, connection: Connection, event: events.ClientEvent) -> None:
        """Do what one frame asks for."""
        kind = type(event)
        self._received[kind].inc()
        self._handlers[kind](connection, event)

    def admits(self, connection: Connection, event: events.ClientEvent) -> bool:
        """False while too many commands wait for `event` to be handled now.

        Raises:
            Refused: `too_many_in_flight`, when it has been so for long and the log lags. The connection ends by it.
        """
        match event:
            case events.Send():
                frames: tuple[Any, ...] = (event,)
            case events.Commit():
                frames = event.frames
            case _:
                return True
        sends = [frame for frame in frames if isinstance(frame, events.Send)]
        if not sends or not self._gateway.in_flight.total:
            return True
        try:
            target = self._destinations.parse(sends[0].destination)
        except Refused:
            return True
        # Where there is no room yet (SEND to /rooms), the bound of the connection holds alone.
        room = getattr(target, "room", "")
        in_flight = self._gateway.in_flight
        if not in_flight.full(
            connection.in_flight, connection.user, room, len(sends), paused=connection.reading_paused
        ):
            return True
        if connection.pressure.at(self._gateway.now()) > PRESSURE_S and self._gateway.commands.lags(room):
            raise Refused(
                Code.TOO_MANY_IN_FLIGHT,
                "the log lags, and you send on without waiting: wait for receipts, and send again what has none",
            )
        return False

    # ------------------------------------------------------------ SEND and transactions

    def handle_send(self, connection: Connection, send: events.Send) -> None:
        """Append the command that a SEND means."""
        room, command = self._command(connection, send)
        answer = Answer(connection, room, send.receipt, send.destination, replies=isinstance(command, CreateRoom))
        self._append(connection, room, [(command, answer)])

    def handle_begin(self, connection: Connection, begin: events.Begin) -> None:
        """A transaction begins; chat.stomp keeps its frames."""
        connection.receipt(begin.receipt)

    def handle_abort(self, connection: Connection, abort: events.Abort) -> None:
        """A transaction is dropped."""
        connection.receipt(abort.receipt)

    def handle_commit(self, connection: Connection, commit: events.Commit) -> None:
        """Append a transaction's SENDs together, in order; its RECEIPT comes when all are answered."""
        sends = [frame for frame in commit.frames if isinstance(frame, events.Send)]
        commands: list[tuple[RoomCommand, Answer]] = []
        rooms: set[str] = set()
        finished = CommitAnswer(connection, commit.receipt, len(sends))
        for n, send in enumerate(sends, 1):
            room, command = self._command(connection, send)
            rooms.add(room)
            place = f"SEND {n} of the transaction: "
            answer = Answer(connection, room, send.receipt, send.destination, commit=finished, place=place)
            commands.append((command, answer))
        if len(rooms) > 1:
            raise Refused(Code.TRANSACTION_SPANS_ROOMS, "the SENDs of one transaction go to one room")
        for frame in commit.frames:
            match frame:
                case events.Ack():
                    self.handle_ack(connection, frame)
                case events.Nack():
                    self.handle_nack(connection, frame)
                case _:
                    pass
        if commands:
            self._append(connection, rooms.pop(), commands)
        else:
            connection.receipt(commit.receipt)

    def _append(self, connection: Connection, room: str, commands: list[tuple[RoomCommand, Answer]]) -> None:
        self._gateway.hub.before_command(room)
        self._gateway.commands.append(room, commands)
        for _ in commands:
            connection.in_flight += 1
            self._gateway.in_flight.began(connection.user, room)

    def _command(self, connection: Connection, send: events.Send) -> tuple[str, RoomCommand]:
        if (reserved := events.reserved_header(send.headers)) is not None:
            raise Refused(Code.RESERVED_HEADER, f"only the server writes {reserved}")
        client_id = None if send.client_id is None else ids.client_id(send.client_id)
        target = self._destinations.parse(send.destination)
        match target:
            case destinations.Room(room=room):
                return room, self._post(connection, room, client_id, send)
            case destinations.RoomAction(room=room, action="join"):
                _json_object(send.body)
                return room, JoinRoom(
                    v=VERSION, room=room, sender=connection.user, client_id=client_id, create=self._creates
                )
            case destinations.RoomAction(room=room, action="leave"):
                _json_object(send.body)
                return room, LeaveRoom(v=VERSION, room=room, sender=connection.user, client_id=client_id)
            case destinations.RoomAction(action=action):
                raise Refused(Code.UNKNOWN_ACTION, f"there is no action {action!r}; x-features lists what there is")
            case destinations.Rooms():
                return self._create(connection, client_id, send)
            case _:
                raise Refused(Code.UNKNOWN_DESTINATION, f"nothing can be sent to {send.destination}")

    def _post(self, connection: Connection, room: str, client_id: str | None, send: events.Send) -> PostMessage:
        try:
            body, body_b64 = send.body.decode(), None
        except UnicodeDecodeError:
            body, body_b64 = "", base64.b64encode(send.body).decode()
        return PostMessage(
            v=VERSION,
            room=room,
            sender=connection.user,
            nonce=secrets.token_urlsafe(NONCE_BYTES),
            client_id=client_id,
            content_type=send.content_type,
            headers=send.headers,
            body=body,
            body_b64=body_b64,
            create=self._creates,
        )

    def _create(self, connection: Connection, client_id: str | None, send: events.Send) -> tuple[str, CreateRoom]:
        asked = _json_object(send.body)
        unknown = asked.keys() - {"room", "name"}
        if unknown:
            raise Refused(Code.BAD_BODY, f"a room has `room` and `name`, not {', '.join(sorted(unknown))}")
        wanted = asked.get("room", secrets.token_hex(GENERATED_ROOM_BYTES))
        name = asked.get("name")
        if not isinstance(wanted, str):
            raise Refused(Code.BAD_ROOM_ID, "`room` must be text")
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= ROOM_NAME_CHARS_MAX):
            raise Refused(Code.BAD_BODY, f"`name` must be text of 1-{ROOM_NAME_CHARS_MAX} characters")
        room = ids.room_id(wanted)
        if room.startswith("~"):
            raise Refused(Code.BAD_ROOM_ID, "ids that start with ~ belong to direct rooms")
        return room, CreateRoom(v=VERSION, room=room, sender=connection.user, client_id=client_id, name=name)

    # ------------------------------------------------------------ subscriptions

    def handle_subscribe(self, connection: Connection, subscribe: events.Subscribe) -> None:
        """Subscribe to a room, or to one of the user's own queues."""
        try:
            self._subscribe(connection, subscribe)
        except Refused:
            connection.protocol.end_subscription(subscribe.key, subscribe.instance)
            raise

    def _subscribe(self, connection: Connection, subscribe: events.Subscribe) -> None:
        target = self._destinations.parse(subscribe.destination)
        match target:
            case destinations.Room(room=room):
                self._subscribe_room(connection, room, subscribe)
            case destinations.UserQueue(queue=destinations.Queue.ERRORS | destinations.Queue.REPLIES as queue):
                if subscribe.ack is not AckMode.AUTO:
                    raise Refused(Code.UNKNOWN_ACK_MODE, "the queues of a user have ack:auto only")
                prefix = queue_prefix(connection, subscribe.id, subscribe.destination)
                connection.queues[subscribe.key] = (queue, prefix)
                connection.receipt(subscribe.receipt)
            case _:
                raise Refused(Code.UNKNOWN_DESTINATION, f"nothing can be subscribed at {subscribe.destination}")

    def _subscribe_room(self, connection: Connection, room: str, subscribe: events.Subscribe) -> None:
        want = _want(subscribe.headers)
        subscription = Subscription(
            connection,
            subscribe.key,
            subscribe.instance,
            GroupKey(subscribe.id, subscribe.destination, connection.version, connection.binary),
            connection.user,
            subscribe.window,
            want,
            subscribe.receipt,
        )
        connection.subscriptions[subscribe.key] = subscription
        metrics.gateway_subscriptions.inc()
        self._gateway.hub.watch(room, subscription)

    def handle_unsubscribe(self, connection: Connection, unsubscribe: events.Unsubscribe) -> None:
        """End a subscription."""
        subscription = connection.subscriptions.pop(unsubscribe.key, None)
        if subscription is not None:
            self._gateway.hub.unsubscribe(subscription)
        connection.queues.pop(unsubscribe.key, None)
        connection.receipt(unsubscribe.receipt)

    # ------------------------------------------------------------ acknowledgements

    def handle_ack(self, connection: Connection, ack: events.Ack) -> None:
        """Make room in a window."""
        self._settled(connection, connection.protocol.acks.ack(ack.targets))
        connection.receipt(ack.receipt)

    def handle_nack(self, connection: Connection, nack: events.Nack) -> None:
        """Send again, or skip, by acknowledge mode."""
        self._settled(connection, connection.protocol.acks.nack(nack.targets))
        connection.receipt(nack.receipt)

    def _settled(self, connection: Connection, settled: Settled) -> None:
        hub = self._gateway.hub
        for again in settled.resend:
            subscription = connection.subscriptions.get(again.key)
            if subscription is not None:
                hub.resend_from(subscription, again.position.seq)
        for key in settled.keys:
            subscription = connection.subscriptions.get(key)
            if subscription is not None:
                hub.window_opened(subscription)

    # ------------------------------------------------------------ the rest

    def handle_disconnect(self, connection: Connection, disconnect: events.Disconnect) -> None:
        """Say goodbye."""
        connection.disconnect(disconnect.receipt)

    def handle_heart_beat(self, connection: Connection, heart_beat: events.HeartBeat) -> None:
        """That something was received is noted already."""


def _want(headers: dict[str, str]) -> Want:
    from_seq, after_seq, last = (_position(headers, name) for name in ("x-from-seq", "x-after-seq", "x-last"))
    if sum(value is not None for value in (from_seq, after_seq, last)) > 1:
        raise Refused(Code.BAD_POSITION, "give one of x-from-seq, x-after-seq and x-last")
    if after_seq is not None:
        from_seq = after_seq + 1
    return Want(from_seq if from_seq is None else max(1, from_seq), last, headers.get("x-epoch") or None)


def _position(headers: dict[str, str], name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= SEQ_DIGITS_MAX):
        raise Refused(Code.BAD_POSITION, f"{name} must be a number, not {text[:40]!r}")
    return int(text)


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Refused(Code.BAD_BODY, "the body must be a JSON object")
    return value
