"""`/api/v1`: rooms and history over HTTP, for pages and back ends. Same identity and same rules as the socket.

Who may read a room, and where its head is, is asked of the log itself, so a page of history is complete up to the
moment of the request. While the log does not answer, history is served as far as the stores know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from chat import ids
from chat.auth import Credentials, Identity
from chat.errors import Code, Refused, Unavailable
from chat.records import Event
from chat.stores.model import RoomInfo
from web.gateway import Gateway, current, web_app
from web.messages import rfc3339
from web.problems import answers_problems

MESSAGES_DEFAULT = 50
MESSAGES_MAX = 500
ROOMS_DEFAULT = 100
ROOMS_MAX = 500
MEMBERS_MAX = 1_000

ASK_TIMEOUT_S = 2.0
"""The log answers in milliseconds or is away: then the stores are asked where a room stands."""
STORE_LAG_S = 3.0
"""How long a page waits for events that the log has and no store holds yet."""
STORE_RETRY_S = 0.05


class Standing(NamedTuple):
    """Where a room stands."""

    epoch: str
    first_seq: int
    head_seq: int


def _json(value: Any) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


async def _identity(gateway: Gateway, request: web.Request) -> Identity:
    return await gateway.authenticator.authenticate(
        Credentials(login=request.headers.get("x-login"), authorization=request.headers.get("Authorization"))
    )


async def access_room_for_reading(gateway: Gateway, request: web.Request, room: str) -> Standing:
    """The one door to a room's history: where it stands, for somebody who may read it.

    Raises:
        Refused: no such room, or not for them.
        Unavailable: neither the log nor a store answers.
    """
    identity = await _identity(gateway, request)
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            answer = await gateway.hub.ask(room, identity.user)
    except (TimeoutError, Unavailable):
        info = await _room_info(gateway, room)
        return Standing(info.epoch, info.first_seq, info.seq)
    denied = answer.denied.get(identity.user)
    if denied is not None:
        raise Refused(denied, "no such room, or you may not read it")
    return Standing(answer.epoch, answer.first_seq, answer.head_seq)


async def _room_info(gateway: Gateway, room: str) -> RoomInfo:
    info = None
    with suppress(Unavailable):  # Redis may die without harm
        info = await gateway.directory.get_room(room)
    if info is None:
        info = await gateway.history.get_room(room)
    if info is None:
        raise Refused(Code.ROOM_NOT_FOUND, "no such room")
    return info


# ---------------------------------------------------------------- rooms


async def rooms(request: web.Request) -> web.Response:
    """`GET /api/v1/rooms?limit=&cursor=`: rooms, most recently active first (without Redis: in a fixed order)."""
    gateway = current()
    await _identity(gateway, request)
    limit = _number(request, "limit", ROOMS_DEFAULT, 1, ROOMS_MAX)
    cursor = request.query.get("cursor")
    try:
        page, following = await gateway.directory.list_rooms(limit, cursor)
    except Unavailable:
        page = await gateway.history.list_rooms(limit, cursor)
        following = page[-1].room if page else None
    return _json({"rooms": [_room_json(info) for info in page], "next": following})


async def room(request: web.Request) -> web.Response:
    """`GET /api/v1/rooms/{room}`: one room."""
    gateway = current()
    room_id = ids.room_id(request.match_info["room"])
    await access_room_for_reading(gateway, request, room_id)
    return _json(_room_json(await _room_info(gateway, room_id)))


async def members(request: web.Request) -> web.Response:
    """`GET /api/v1/rooms/{room}/members?after=`: people of a room by user id."""
    gateway = current()
    room_id = ids.room_id(request.match_info["room"])
    await access_room_for_reading(gateway, request, room_id)
    found = await gateway.history.members(room_id, MEMBERS_MAX, request.query.get("after", ""))
    people = [{"user": m.user, "role": m.role, "seq": m.seq} for m in found if m.role != "none"]
    return _json(
        {
            "room": room_id,
            "members": people,
            "next": found[-1].user if len(found) == MEMBERS_MAX else None,
        }
    )


def _room_json(info: RoomInfo) -> dict[str, Any]:
    return {
        "room": info.room,
        "name": info.name,
        "kind": info.kind,
        "owner": info.owner,
        "members": info.members,
        "first_seq": info.first_seq,
        "head_seq": info.seq,
        "msg_no": info.msg_no,
        "epoch": info.epoch,
        "last_at": rfc3339(info.at),
    }


# ---------------------------------------------------------------- messages


async def messages(request: web.Request) -> web.Response:
    """`GET /api/v1/rooms/{room}/messages?before_seq|after_seq|around_seq&limit`: events by seq, ascending.

    Dense from the room's `first_seq` on; below it, where an older epoch ended with a loss, there may be holes.
    """
    gateway = current()
    room_id = ids.room_id(request.match_info["room"])
    asked = [name for name in ("before_seq", "after_seq", "around_seq") if name in request.query]
    if len(asked) > 1:
        raise Refused(Code.BAD_POSITION, f"give one of {' and '.join(asked)}")
    limit = _number(request, "limit", MESSAGES_DEFAULT, 1, MESSAGES_MAX)
    at = _number(request, asked[0], 0, 0, 10**18) if asked else None
    standing = await access_room_for_reading(gateway, request, room_id)
    if asked == ["before_seq"] and 1 < (at or 0) <= standing.first_seq:
        # Of older epochs: what there is of it, each event with its own epoch.
        events = await gateway.history.read_older(room_id, at or 0, limit)
    else:
        first, last = page_bounds(asked[0] if asked else None, at or 0, limit, standing)
        events = await _dense(gateway, room_id, first, last, standing.head_seq)
    return _json(
        {
            "room": room_id,
            "epoch": standing.epoch,
            "first_seq": standing.first_seq,
            "head_seq": standing.head_seq,
            "events": [event_json(event) for event in events],
        }
    )


def page_bounds(asked: str | None, at: int, limit: int, standing: Standing) -> tuple[int, int]:
    """First and last seq of a page, both inside what exists; the last is below the first for an empty page."""
    match asked:
        case "after_seq":
            first, last = at + 1, at + limit
        case "around_seq":
            first = at - limit // 2
            last = first + limit - 1
        case "before_seq":
            first, last = min(at, standing.head_seq + 1) - limit, at - 1
        case _:
            first, last = standing.head_seq - limit + 1, standing.head_seq
    return max(first, standing.first_seq), min(last, standing.head_seq)


async def _dense(gateway: Gateway, room_id: str, first: int, last: int, head_seq: int) -> list[Event]:
    """Every event from `first` to `last`. `Unavailable` rather than a page with a hole."""
    events: list[Event] = []
    give_up_at = gateway.now() + STORE_LAG_S
    while (following := first + len(events)) <= last:
        page, _ = await gateway.backlog.read(
            room_id, following, last - following + 1, head_seq=head_seq, scan=bool(gateway.now() > give_up_at - 2)
        )
        if not page:
            if gateway.now() > give_up_at:
                raise Unavailable(f"event {following} cannot be read now; try again later")
            await asyncio.sleep(STORE_RETRY_S)
        events += page
    return events


def event_json(event: Event) -> dict[str, Any]:
    """An event as the API shows it: what the STOMP headers say, and the body."""
    shown: dict[str, Any] = {
        "seq": event.seq,
        "epoch": event.epoch,
        "kind": event.kind,
        "sender": event.sender,
        "at": rfc3339(event.at),
        "msg_no": event.msg_no,
        "message_id": ids.message_id(event.room, event.seq),
        "client_id": event.client_id,
        "content_type": event.content_type,
        "headers": event.headers,
    }
    if event.body_b64 is not None:
        shown["body_b64"] = event.body_b64
    else:
        shown["body"] = event.body
    if event.member is not None:
        shown["member"] = {"user": event.member.user, "role": event.member.role}
    if event.opens is not None:
        shown["opens"] = {"kind": event.opens.kind, "owner": event.opens.owner, "name": event.opens.name}
    return shown


def _number(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
        raise Refused(Code.BAD_POSITION, f"{name} must be a number from {low} to {high}")
    return int(text)


async def _no_such_thing(request: web.Request) -> web.Response:
    raise Refused(Code.NOT_FOUND, f"there is no {request.path}")


_ROUTES: Sequence[tuple[str, Any]] = (
    ("/api/v1/rooms", rooms),
    ("/api/v1/rooms/{room}", room),
    ("/api/v1/rooms/{room}/messages", messages),
    ("/api/v1/rooms/{room}/members", members),
    ("/api/{rest:.*}", _no_such_thing),
)
for path, handler in _ROUTES:
    web_app.router.add_get(path, answers_problems(handler))
