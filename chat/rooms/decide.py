"""The rules: what becomes of a command.

`decide(room, command, at)` is pure and deterministic. It reads the room's rows, the command and the log's time, and
nothing else: no clock, no randomness, no store, no setting that is not in the command. Two writers that decide the same
command after the same events write the same bytes.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from chat.errors import Code
from chat.records import (
    KIND_RENUMBERED,
    VERSION,
    Command,
    CreateRoom,
    Event,
    EventKind,
    JoinRoom,
    LeaveRoom,
    Membership,
    Opens,
    PostMessage,
    RenumberRoom,
    Tick,
    Verdict,
    WatchAnswer,
    WatchRoom,
)
from chat.rooms.chain import content_digest, genesis, link
from chat.rooms.state import NO_EPOCH, Head, Room

MICROSECONDS = 1_000_000


def log_time(append_time_ms: int, previous_at: int) -> int:
    """The log's time of a command, in microseconds: strictly increasing per partition, whatever a clock does.

    `append_time_ms` is the command's LogAppendTime, `previous_at` the log time of the command before it.
    """
    return max(append_time_ms * 1000, previous_at + 1)


def decide(room: Room, command: Command, at: int) -> Event | Verdict:
    """The one record that answers `command` at log time `at` (microseconds)."""
    match command:
        case PostMessage():
            return _post(room, command, at)
        case CreateRoom():
            return _create(room, command, at)
        case JoinRoom():
            return _join(room, command, at)
        case LeaveRoom():
            return _leave(room, command, at)
        case WatchRoom():
            return _watch(room, command, at)
        case RenumberRoom():
            return _renumber(room, command, at)
        case Tick():
            return Verdict(v=VERSION, outcome="tick", at=at)
        case _:
            assert_never(command)


def refuse_undecodable(room: str, code: Code, detail: str, at: int) -> Verdict:
    """The answer to bytes in the command topic that are no command: it is parked, and numbers go on without a hole."""
    return Verdict(v=VERSION, outcome="refused", room=room, code=code, detail=detail, at=at)


def _post(room: Room, command: PostMessage, at: int) -> Event | Verdict:
    if (repeat := _repeat(room, command.sender, command.client_id, command.room, at)) is not None:
        return repeat
    head = room.head
    if head is None and not _may_begin(command):
        return _no_room(command.room, at)
    opens = None if head is not None else Opens(kind="open", owner=command.sender)
    return _event(
        head,
        "message",
        command.room,
        command.sender,
        at,
        counts=True,
        opens=opens,
        member=None if opens is None else Membership(user=command.sender, role="owner"),
        members=1 if head is None else head.members,
        nonce=command.nonce,
        client_id=command.client_id,
        content_type=command.content_type,
        headers=command.headers,
        body=command.body,
        body_b64=command.body_b64,
    )


def _create(room: Room, command: CreateRoom, at: int) -> Event | Verdict:
    if (repeat := _repeat(room, command.sender, command.client_id, command.room, at)) is not None:
        return repeat
    if room.head is not None:
        return Verdict(
            v=VERSION,
            outcome="refused",
            room=command.room,
            code=Code.ROOM_EXISTS,
            detail="the room exists already",
            at=at,
        )
    return _event(
        None,
        "room.created",
        command.room,
        command.sender,
        at,
        opens=Opens(kind="open", owner=command.sender, name=command.name),
        member=Membership(user=command.sender, role="owner"),
        members=1,
        client_id=command.client_id,
    )


def _join(room: Room, command: JoinRoom, at: int) -> Event | Verdict:
    if (repeat := _repeat(room, command.sender, command.client_id, command.room, at)) is not None:
        return repeat
    head = room.head
    if head is None:
        if not _may_begin(command):
            return _no_room(command.room, at)
        return _event(
            None,
            "member.joined",
            command.room,
            command.sender,
            at,
            opens=Opens(kind="open", owner=command.sender),
            member=Membership(user=command.sender, role="owner"),
            members=1,
            client_id=command.client_id,
        )
    member = room.members.get(command.sender)
    if member is not None and member.role != "none":
        return _unchanged(command.room, head, member.seq, at)
    return _event(
        head,
        "member.joined",
        command.room,
        command.sender,
        at,
        member=Membership(user=command.sender, role="member"),
        members=head.members + 1,
        client_id=command.client_id,
    )


def _leave(room: Room, command: LeaveRoom, at: int) -> Event | Verdict:
    if (repeat := _repeat(room, command.sender, command.client_id, command.room, at)) is not None:
        return repeat
    head = room.head
    if head is None:
        return _no_room(command.room, at)
    member = room.members.get(command.sender)
    if member is None or member.role == "none":
        return _unchanged(command.room, head, head.seq if member is None else member.seq, at)
    return _event(
        head,
        "member.left",
        command.room,
        command.sender,
        at,
        member=Membership(user=command.sender, role="none"),
        members=head.members - 1,
        client_id=command.client_id,
    )


def _watch(room: Room, command: WatchRoom, at: int) -> Verdict:
    head = room.head
    if head is None:
        answer = WatchAnswer(
            head_seq=0,
            first_seq=1,
            msg_no=0,
            epoch=NO_EPOCH,
            denied={} if _may_begin(command) else dict.fromkeys(command.users, Code.ROOM_NOT_FOUND),
        )
    else:
        answer = WatchAnswer(head_seq=head.seq, first_seq=head.first_seq, msg_no=head.msg_no, epoch=head.epoch)
    return Verdict(v=VERSION, outcome="watch", room=command.room, watch=answer, at=at)


def _renumber(room: Room, command: RenumberRoom, at: int) -> Event | Verdict:
    head = room.head
    if head is None:
        return _no_room(command.room, at)
    if head.epoch != command.epoch:
        return _unchanged(command.room, head, head.first_seq, at)
    # The new epoch's first event: its own chain, and all that a reader who lost what came before has to know.
    return _event(
        msgspec.structs.replace(
            head,
            seq=max(head.seq, command.above),
            epoch=(epoch := format(at, "x")),
            chain=genesis(command.room, epoch),
        ),
        KIND_RENUMBERED,
        command.room,
        command.sender,
        at,
        opens=Opens(kind=head.kind, owner=head.owner, name=head.name),
        members=head.members,
    )


def _may_begin(command: PostMessage | JoinRoom | WatchRoom) -> bool:
    """A room may come into being by this command. Ids that start with ~ belong to direct rooms."""
    return command.create and not command.room.startswith("~")


def _repeat(room: Room, sender: str, client_id: str | None, room_id: str, at: int) -> Verdict | None:
    if client_id is None or room.head is None:
        return None
    row = room.senders.get(sender)
    if row is None or (seq := row.recent.get(client_id)) is None:
        return None
    return Verdict(v=VERSION, outcome="duplicate", room=room_id, seq=seq, epoch=room.head.epoch, at=at)


def _unchanged(room_id: str, head: Head, seq: int, at: int) -> Verdict:
    return Verdict(v=VERSION, outcome="unchanged", room=room_id, seq=seq, epoch=head.epoch, at=at)


def _no_room(room_id: str, at: int) -> Verdict:
    return Verdict(
        v=VERSION,
        outcome="refused",
        room=room_id,
        code=Code.ROOM_NOT_FOUND,
        detail="no such room: create it with a SEND to /rooms",
        at=at,
    )


def _event(
    head: Head | None,
    kind: EventKind,
    room_id: str,
    sender: str,
    at: int,
    *,
    members: int,
    counts: bool = False,
    opens: Opens | None = None,
    member: Membership | None = None,
    nonce: str | None = None,
    client_id: str | None = None,
    content_type: str | None = None,
    headers: dict[str, str] | None = None,
    body: str = "",
    body_b64: str | None = None,
) -> Event:
    if head is None:
        # An epoch names one numbering: the log time of the room's first event never comes twice.
        epoch = format(at, "x")
        seq, msg_no, previous = 1, 0, genesis(room_id, epoch)
    else:
        epoch, seq, msg_no, previous = head.epoch, head.seq + 1, head.msg_no, head.chain
    if counts:
        msg_no += 1
    headers = headers or {}
    chain = link(
        previous,
        room=room_id,
        seq=seq,
        epoch=epoch,
        kind=kind,
        at=at,
        sender=sender,
        msg_no=msg_no,
        members=members,
        opens=opens,
        member=member,
        digest=content_digest(nonce, client_id, content_type, headers, body, body_b64),
    )
    return Event(
        v=VERSION,
        room=room_id,
        seq=seq,
        epoch=epoch,
        kind=kind,
        at=at,
        sender=sender,
        msg_no=msg_no,
        members=members,
        chain=chain,
        nonce=nonce,
        client_id=client_id,
        content_type=content_type,
        headers=headers,
        body=body,
        body_b64=body_b64,
        opens=opens,
        member=member,
    )
