"""Destinations as values (docs/protocol.md, section 2)."""

from __future__ import annotations

import pytest

from chat.errors import Code, Refused
from chat.ids import RoomId, UserId
from chat.stomp.destinations import Destination, DestinationParser, Direct, Queue, Room, RoomAction, Rooms, UserQueue

LOBBY = RoomId("lobby")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/room/lobby", Room(LOBBY)),
        ("/topic/lobby", Room(LOBBY)),
        ("/app/lobby", Room(LOBBY)),
        ("/room/A-z.0_9~:@+", Room(RoomId("A-z.0_9~:@+"))),
        ("/room/" + "r" * 128, Room(RoomId("r" * 128))),
        ("/room/room", Room(RoomId("room"))),
        ("/room/lobby/join", RoomAction(LOBBY, "join")),
        ("/topic/lobby/typing", RoomAction(LOBBY, "typing")),
        ("/app/lobby/join", RoomAction(LOBBY, "join")),
        ("/room/lobby/not-built-yet", RoomAction(LOBBY, "not-built-yet")),
        ("/rooms", Rooms()),
        ("/direct/mina", Direct(UserId("mina"))),
        ("/user/queue/errors", UserQueue(Queue.ERRORS)),
        ("/user/queue/replies", UserQueue(Queue.REPLIES)),
        ("/user/queue/inbox", UserQueue(Queue.INBOX)),
    ],
)
def test_a_destination_is_what_it_names(text: str, meant: Destination) -> None:
    assert DestinationParser().parse(text) == meant


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("/room/", Code.BAD_ROOM_ID),
        ("/room/my room", Code.BAD_ROOM_ID),
        ("/room/로비", Code.BAD_ROOM_ID),
        ("/room/" + "r" * 129, Code.BAD_ROOM_ID),
        ("/room/lobby\n", Code.BAD_ROOM_ID),
        ("/room/a%20b", Code.BAD_ROOM_ID),
        ("/topic/", Code.BAD_ROOM_ID),
        ("/room//join", Code.BAD_ROOM_ID),
        ("/direct/", Code.BAD_USER_ID),
        ("/direct/mina kim", Code.BAD_USER_ID),
        ("", Code.UNKNOWN_DESTINATION),
        ("/", Code.UNKNOWN_DESTINATION),
        ("lobby", Code.UNKNOWN_DESTINATION),
        ("room/lobby", Code.UNKNOWN_DESTINATION),
        ("/room", Code.UNKNOWN_DESTINATION),
        ("/Room/lobby", Code.UNKNOWN_DESTINATION),
        ("/rooms/", Code.UNKNOWN_DESTINATION),
        ("/rooms\n", Code.UNKNOWN_DESTINATION),
        ("/room/lobby/", Code.UNKNOWN_DESTINATION),
        ("/room/lobby/Join", Code.UNKNOWN_DESTINATION),
        ("/room/lobby/join/now", Code.UNKNOWN_DESTINATION),
        ("/room/lobby/join\n", Code.UNKNOWN_DESTINATION),
        ("/user/queue/secrets", Code.UNKNOWN_DESTINATION),
        ("/user/queue/", Code.UNKNOWN_DESTINATION),
        ("/user/mina/queue/errors", Code.UNKNOWN_DESTINATION),
        ("/queue/lobby", Code.UNKNOWN_DESTINATION),
    ],
)
def test_what_names_nothing_is_refused(text: str, code: Code) -> None:
    with pytest.raises(Refused) as caught:
        DestinationParser().parse(text)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("alias", "text", "meant"),
    [
        ("/sub/chat/room/{room}=/room/{room}", "/sub/chat/room/lobby", Room(LOBBY)),
        ("/pub/chat/{room}/enter=/room/{room}/join", "/pub/chat/lobby/enter", RoomAction(LOBBY, "join")),
        ("/chat/{action}/{room}=/room/{room}/{action}", "/chat/leave/lobby", RoomAction(LOBBY, "leave")),
        ("/a.b/{room}=/room/{room}", "/a.b/lobby", Room(LOBBY)),
        ("/topic/chat.{room}=/room/{room}", "/topic/chat.lobby", Room(LOBBY)),
        ("/room/{room}/messages=/room/{room}", "/room/lobby/messages", Room(LOBBY)),
    ],
)
def test_an_alias_names_a_room(alias: str, text: str, meant: Destination) -> None:
    parser = DestinationParser(("/other/{room}=/room/{room}", alias))
    assert parser.parse(text) == meant
    assert parser.parse("/room/lobby") == Room(LOBBY), "the built-in ones stay"


def test_an_alias_does_not_reach_further_than_it_says() -> None:
    parser = DestinationParser(("/a.b/{room}=/room/{room}",))
    for text in ("/axb/lobby", "/a.b/lobby/join", "/a.b/lobby\n", "x/a.b/lobby"):
        with pytest.raises(Refused):
            parser.parse(text)
    with pytest.raises(Refused) as caught:
        parser.parse("/a.b/my room")
    assert caught.value.code is Code.BAD_ROOM_ID


@pytest.mark.parametrize("name", ["{room}", "{0}", "{room.__class__}", "a{", "}"])
def test_braces_in_a_destination_are_only_text(name: str) -> None:
    with pytest.raises(Refused) as caught:
        DestinationParser(("/x/{room}=/room/{room}",)).parse(f"/x/{name}")
    assert caught.value.code is Code.BAD_ROOM_ID


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "/x/{room}",
        "/x=/room/{room}",
        "x/{room}=/room/{room}",
        "/x/{room}=/rooms",
        "/x/{room}=/room/{room}/{action}",
        "/x/{room}/{room}=/room/{room}",
        "/x/{room}/{user}=/room/{room}",
        "/x/{room}=/room/{room}/{0}",
        "/x/{room}=/room/{room}{",
        "/x/{room}{=/room/{room}",
    ],
)
def test_an_alias_that_is_none_is_refused_at_the_start(alias: str) -> None:
    with pytest.raises(ValueError, match="an alias is"):
        DestinationParser((alias,))
