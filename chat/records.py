"""What stands in the topics: the bytes of commands, events, verdicts and fences, and nothing about what they mean.

A record's value is one JSON object with a version `v`; what a reader needs before it decodes stands in Kafka record
headers (all ASCII, in this order): `src` (offset of the command that caused the record), `term` (offset of the
writer's fence), `kind`, `cmd` (id that the gateway gave the command, echoed so that the gateway knows its own), `to`
(user id, on records about a named person). Encoding is deterministic: the same value gives the same bytes in every
process, which is what lets two writers of one command be compared.

msgspec does the JSON: it decodes into these types and checks them in one pass (about twice as fast as a parse to a dict
followed by checks), so a record that gets past `decode_*` has every field that the rules read.
"""

from __future__ import annotations

import base64
from typing import Final, Literal, get_args

import msgspec

from chat.errors import Code, Refused, UnknownVersion

VERSION: Final = 1

RecordHeaders = tuple[tuple[str, bytes], ...]

H_SRC: Final = "src"
H_TERM: Final = "term"
H_KIND: Final = "kind"
H_CMD: Final = "cmd"
H_TO: Final = "to"

KIND_VERDICT: Final = b"verdict"
KIND_WRITER: Final = b"writer"

CMD_ID_BYTES_MAX: Final = 64
"""A command id is echoed in a record header of the event log for ever: bounded."""


# ---------------------------------------------------------------- commands


class PostMessage(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="post"):
    """Somebody writes into a room. `body` is text, or `body_b64` holds bytes that are not UTF-8."""

    v: int
    room: str
    sender: str
    nonce: str
    """Random, from the gateway: salts the body's digest, so that an erased body cannot be guessed from the chain."""
    client_id: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}
    body: str = ""
    body_b64: str | None = None
    create: bool = False
    """The room may come into being by this command (looked up before in the settings: rules read none)."""


class CreateRoom(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="create"):
    """Somebody makes a room and becomes its owner."""

    v: int
    room: str
    sender: str
    client_id: str | None = None
    name: str | None = None


class JoinRoom(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="join"):
    """Somebody becomes a member."""

    v: int
    room: str
    sender: str
    client_id: str | None = None
    create: bool = False


class LeaveRoom(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="leave"):
    """A member leaves."""

    v: int
    room: str
    sender: str
    client_id: str | None = None


WATCH_USERS_MAX: Final = 500
"""One watch asks for at most this many users, so that its verdict stays a small record."""


class WatchRoom(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="watch"):
    """A gateway asks, at an exact position of the log, who of `users` may read the room and where its head is."""

    v: int
    room: str
    users: tuple[str, ...]
    create: bool = False


SEQ_MAX: Final = 10**12
"""Far above what a room reaches, below what a column or a Redis score cannot hold."""


class RenumberRoom(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="renumber"):
    """An operator accepts that events of the room may be lost: numbering goes on above all of them, in a new epoch.

    Written by operations only, never for a client (docs/decisions/0007-accepted-losses.md).
    """

    v: int
    room: str
    sender: str
    """Whoever the operation says that it is: stands on the event."""
    epoch: str
    """The numbering that ends. A room that has another one by now is left alone, so this may be repeated."""
    above: int = 0
    """Numbers up to this one may have been given: none of them is given again."""


class Tick(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="tick"):
    """The log's clock in silence. Belongs to a partition, not to a room: its record has no key."""

    v: int


RoomCommand = PostMessage | CreateRoom | JoinRoom | LeaveRoom | WatchRoom | RenumberRoom
Command = RoomCommand | Tick


# ---------------------------------------------------------------- events


class Opens(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the room is. Stands on the event that makes a room, and again on one that numbers it anew."""

    kind: str
    owner: str
    name: str | None = None


class Membership(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stands on an event that changes one person's membership: the state after it."""

    user: str
    role: str
    """`owner`, `member`, or `none` for somebody who left."""


EventKind = Literal["message", "room.created", "member.joined", "member.left", "room.renumbered"]
EVENT_KINDS: Final[frozenset[str]] = frozenset(get_args(EventKind))
KIND_RENUMBERED: Final = "room.renumbered"
"""Begins a new epoch: the only kind whose seq may jump. What is below it belongs to older epochs and may have holes."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened in a room: the unit of truth. JSON Schema: docs/schemas/event.json.

    `at` is in microseconds since 1970 (UTC) and strictly increasing per partition. `msg_no` counts messages only and is
    the number of the last message at or before this event. `members` is the room's member count after the event.
    """

    v: int
    room: str
    seq: int
    epoch: str
    kind: EventKind
    at: int
    sender: str
    msg_no: int
    members: int
    chain: str
    nonce: str | None = None
    client_id: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}
    body: str = ""
    body_b64: str | None = None
    opens: Opens | None = None
    member: Membership | None = None

    def body_bytes(self) -> bytes:
        """The body as the sender's octets."""
        if self.body_b64 is not None:
            return base64.b64decode(self.body_b64)
        return self.body.encode()


class WatchAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the room stands at this record's position, and who of the asked users may read it."""

    head_seq: int
    first_seq: int
    msg_no: int
    epoch: str
    denied: dict[str, Code] = {}
    """Users who may not read, with the code; everyone else who was asked for may."""


Outcome = Literal["refused", "duplicate", "unchanged", "watch", "tick", "lost"]
OUTCOMES: Final[frozenset[str]] = frozenset(get_args(Outcome))
"""`lost`: nobody will ever know what the command was. It was never answered; an operator has said so."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a command that became no event. It has no `seq` of its own; `seq` names an earlier event."""

    v: int
    outcome: Outcome
    at: int
    room: str = ""
    code: Code | None = None
    detail: str | None = None
    seq: int = 0
    epoch: str = ""
    watch: WatchAnswer | None = None


class Writer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fence: from this record on, only records whose `term` is its offset count. `id` is random, of one attempt."""

    v: int
    id: str
    worker: str = ""
    version: str = ""


# ---------------------------------------------------------------- bytes

_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not the record asked for (the last: brackets without end)."""

_encoder = msgspec.json.Encoder()
_command_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_event_decoder = msgspec.json.Decoder(Event)
_verdict_decoder = msgspec.json.Decoder(Verdict)
_writer_decoder = msgspec.json.Decoder(Writer)


class _Shape(msgspec.Struct):
    """As much of a record as shows whether a newer Roomlog wrote it."""

    v: int
    kind: str = ""
    outcome: str = ""


_shape_decoder = msgspec.json.Decoder(_Shape)


def encode(record: Command | Event | Verdict | Writer) -> bytes:
    """The record's JSON, the same bytes for the same value everywhere."""
    return _encoder.encode(record)


def decode_command(value: bytes | None) -> Command:
    """A command from its bytes.

    Raises:
        UnknownVersion: a newer Roomlog wrote it.
        Refused: `undecodable`: no code of ours wrote it. So is a `kind` of this version that is not known here: whoever
            asks gets a coded no.
    """
    if value is None:
        raise Refused(Code.UNDECODABLE, "a command without a value")
    try:
        command = _command_decoder.decode(value)
    except _MALFORMED as error:
        raise _newer_or_undecodable("command", value, error) from None
    if command.v != VERSION:
        raise _unknown_version("command", command.v)
    return command


def decode_event(value: bytes | None) -> Event:
    """An event from its bytes. Fields that are not known here are passed over.

    Raises:
        UnknownVersion: its version or its kind is not known here: a newer Roomlog wrote it.
        Refused: `undecodable`: it is no event.
    """
    if value is None:
        raise Refused(Code.UNDECODABLE, "an event without a value")
    try:
        event = _event_decoder.decode(value)
    except _MALFORMED as error:
        raise _newer_or_undecodable("event", value, error) from None
    if event.v != VERSION:
        raise _unknown_version("event", event.v)
    return event


def decode_verdict(value: bytes | None) -> Verdict:
    """A verdict from its bytes; raises like `decode_event`."""
    if value is None:
        raise Refused(Code.UNDECODABLE, "a verdict without a value")
    try:
        verdict = _verdict_decoder.decode(value)
    except _MALFORMED as error:
        raise _newer_or_undecodable("verdict", value, error) from None
    if verdict.v != VERSION:
        raise _unknown_version("verdict", verdict.v)
    return verdict


def decode_writer(value: bytes | None) -> Writer | None:
    """A fence from its bytes; None when it is not one of ours (it fences all the same, see chat.log.taking)."""
    try:
        return _writer_decoder.decode(value or b"")
    except _MALFORMED:
        return None


def record_headers(
    src: int, term: int, kind: str, cmd: bytes | None = None, to: str | None = None
) -> list[tuple[str, bytes]]:
    """Kafka headers of a record in the event log, in the order that readers rely on for speed."""
    headers = [(H_SRC, b"%d" % src), (H_TERM, b"%d" % term), (H_KIND, kind.encode())]
    if cmd:
        headers.append((H_CMD, cmd))
    if to is not None:
        headers.append((H_TO, to.encode()))
    return headers


def header(headers: RecordHeaders, name: str) -> bytes | None:
    """First header of that name, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def _newer_or_undecodable(what: str, value: bytes, error: Exception) -> Exception:
    try:
        shape = _shape_decoder.decode(value)
    except _MALFORMED:
        return Refused(Code.UNDECODABLE, f"not a record of ours: {error}")
    if shape.v > VERSION:
        return _unknown_version(what, shape.v)
    if shape.v == VERSION:
        if what == "event" and shape.kind and shape.kind not in EVENT_KINDS:
            return UnknownVersion(f"event kind {shape.kind!r} is not known here: upgrade this worker")
        if what == "verdict" and shape.outcome and shape.outcome not in OUTCOMES:
            return UnknownVersion(f"verdict outcome {shape.outcome!r} is not known here: upgrade this worker")
    return Refused(Code.UNDECODABLE, f"not a record of ours: {error}")


def _unknown_version(what: str, version: int) -> UnknownVersion:
    return UnknownVersion(f"{what} version {version}, this code knows {VERSION}: upgrade this worker")
