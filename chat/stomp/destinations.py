"""Destinations as values: what a client may send to or subscribe to (docs/protocol.md, section 2).

Parsing says what a destination means, not whether it may be used: `/room/a/fly` is an action that the gateway does not
know, `/rooms` cannot be subscribed to, and so on. A MESSAGE echoes the text that the client wrote, not the value here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chat.errors import Code, Refused
from chat.ids import RoomId, UserId, room_id, user_id


class Queue(StrEnum):
    """The queues that every user has: `/user/queue/{name}`."""

    ERRORS = "errors"
    REPLIES = "replies"
    INBOX = "inbox"


@dataclass(frozen=True, slots=True)
class Room:
    """`/room/{room}`: the room's events, or a message to it."""

    room: RoomId


@dataclass(frozen=True, slots=True)
class RoomAction:
    """`/room/{room}/{action}`: something done to a room. Any word: the gateway knows which exist."""

    room: RoomId
    action: str


@dataclass(frozen=True, slots=True)
class Rooms:
    """`/rooms`: make a room."""


@dataclass(frozen=True, slots=True)
class Direct:
    """`/direct/{user}`: the one room of the client and that user."""

    user: UserId


@dataclass(frozen=True, slots=True)
class UserQueue:
    """`/user/queue/{name}`: what concerns the client alone."""

    queue: Queue


Destination = Room | RoomAction | Rooms | Direct | UserQueue

_BUILT_IN: Final = re.compile(r"/(?:room|topic|app)/([^/]*)(?:/([a-z][a-z-]{0,31}))?")
_QUEUES: Final = frozenset(queue.value for queue in Queue)
_VARIABLE: Final = re.compile(r"\{([a-z]+)\}")
_OURS: Final = re.compile(r"/room/\{room\}(?:/(?:\{action\}|[a-z][a-z-]{0,31}))?")
_PATTERNS: Final = {"room": "(?P<room>[^/]*)", "action": "(?P<action>[a-z][a-z-]{0,31})"}


class DestinationParser:
    """Parses destinations; `aliases` are pairs of URI templates, `/sub/chat/room/{room}=/room/{room}`.

    A template has the variables `{room}` and, if wanted, `{action}`. Those named on the right must stand on the left.
    `ValueError` for a pair that is none.
    """

    __slots__ = ("_aliases",)

    def __init__(self, aliases: Iterable[str] = ()) -> None:
        self._aliases = tuple(_alias(pair) for pair in aliases)

    def parse(self, destination: str) -> Destination:
        """What `destination` names. `Refused`: `bad_room_id`, `bad_user_id`, `unknown_destination`."""
        for theirs, ours in self._aliases:
            match = theirs.fullmatch(destination)
            if match is not None:
                return _built_in(ours.format_map(match.groupdict()))
        return _built_in(destination)


def _built_in(destination: str) -> Destination:
    match = _BUILT_IN.fullmatch(destination)
    if match is not None:
        room, action = match.groups()
        return Room(room_id(room)) if action is None else RoomAction(room_id(room), action)
    if destination == "/rooms":
        return Rooms()
    head, _, name = destination.rpartition("/")
    if head == "/direct":
        return Direct(user_id(name))
    if head == "/user/queue" and name in _QUEUES:
        return UserQueue(Queue(name))
    raise Refused(Code.UNKNOWN_DESTINATION, "no such destination")


def _alias(pair: str) -> tuple[re.Pattern[str], str]:
    theirs, _, ours = pair.partition("=")
    parts = _VARIABLE.split(theirs)  # text, variable, text, variable, ..., text
    names = parts[1::2]
    if (
        not theirs.startswith("/")
        or not set(names) <= set(_PATTERNS)
        or len(set(names)) != len(names)
        or any(brace in text for text in parts[::2] for brace in "{}")
        or not _OURS.fullmatch(ours)
        or not set(_VARIABLE.findall(ours)) <= set(names)
    ):
        raise ValueError(f"{pair}: an alias is /their/{{room}}=/room/{{room}}")
    pattern = "".join(_PATTERNS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(pattern), ours
