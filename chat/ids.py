"""Names and numbers that travel through every layer, as types that cannot be mixed up.

Room and user ids are 1-128 characters of ``A-Z a-z 0-9 . _ ~ : @ + -`` (docs/protocol.md, section 2): no slash, so that
a destination splits one way only, and no character that Kafka, Cassandra, Redis or a URL treats specially.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NewType

from chat.errors import Code, Refused

RoomId = NewType("RoomId", str)
UserId = NewType("UserId", str)
Seq = NewType("Seq", int)
"""Position of an event in its room: 1, 2, 3, ... with no hole."""

ID_CHARS_MAX = 128
_ID = re.compile(r"[A-Za-z0-9._~:@+\-]{1,128}")
_ID_RULE = "1-128 characters of A-Z a-z 0-9 . _ ~ : @ + -"

CLIENT_ID_BYTES_MAX = 128
"""`x-client-id` is kept for each of a sender's last 256 events, so its size is bounded."""


def is_id(text: str) -> bool:
    """True when `text` may be a room id or a user id."""
    return _ID.fullmatch(text) is not None


def room_id(text: str) -> RoomId:
    """`text` as a room id, or `Refused(bad_room_id)`."""
    if not is_id(text):
        raise Refused(Code.BAD_ROOM_ID, f"a room id is {_ID_RULE}")
    return RoomId(text)


def user_id(text: str) -> UserId:
    """`text` as a user id, or `Refused(bad_user_id)`."""
    if not is_id(text):
        raise Refused(Code.BAD_USER_ID, f"a user id is {_ID_RULE}")
    return UserId(text)


def client_id(text: str) -> str:
    """`text` as a client id, or `Refused(bad_client_id)`."""
    if not text or len(text.encode("utf-8", "surrogatepass")) > CLIENT_ID_BYTES_MAX:
        raise Refused(Code.BAD_CLIENT_ID, f"x-client-id is 1-{CLIENT_ID_BYTES_MAX} bytes")
    return text


def direct_room_id(one: UserId, other: UserId) -> RoomId:
    """The one direct room of two people: the same from either side, and no id that a client could create."""
    digest = hashlib.sha256()
    for user in sorted((one, other)):
        raw = user.encode()
        digest.update(len(raw).to_bytes(2, "big") + raw)
    return RoomId("~" + base64.b32encode(digest.digest()).decode().rstrip("=").lower())


def message_id(room: str, seq: int) -> str:
    """STOMP `message-id` of an event: unique over all rooms, since a room id has no slash."""
    return f"{room}/{seq}"
