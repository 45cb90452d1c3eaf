"""The door of the command topic: bytes in, a command that the rules can decide out, or a coded refusal.

Gateways check what clients say; this checks what gateways, back ends and strangers append. Whatever passes here yields
an event or a verdict that fits its topic, so nothing behind this door fails on a command.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Final

from chat.errors import Code, Refused
from chat.ids import CLIENT_ID_BYTES_MAX, is_id
from chat.log.topics import partition_of
from chat.records import (
    CMD_ID_BYTES_MAX,
    H_CMD,
    SEQ_MAX,
    WATCH_USERS_MAX,
    Command,
    PostMessage,
    RecordHeaders,
    RenumberRoom,
    Tick,
    WatchRoom,
    decode_command,
    header,
)

NAME_BYTES_MAX: Final = 1_024
"""Of a room's display name, a content type and a nonce: they stand in the room's row or in every copy of an event."""


IDS_CACHED: Final = 65_536
"""Ids that are known to be ids: the same rooms and people come again and again."""

_is_id = lru_cache(maxsize=IDS_CACHED)(is_id)


def read_command(
    key: bytes | None,
    value: bytes | None,
    headers: RecordHeaders,
    *,
    partition: int,
    partitions: int,
    value_bytes_max: int,
) -> tuple[Command, bytes | None]:
    """The command in a record of `partition`, and the id that its gateway gave it.

    Raises:
        Refused: `undecodable` for bytes that are no command, `impossible` for a command that cannot stand here.
    """
    command_id = header(headers, H_CMD) if headers else None
    if command_id is not None and len(command_id) > CMD_ID_BYTES_MAX:
        raise Refused(Code.IMPOSSIBLE, f"a command id of {len(command_id)} bytes, at most {CMD_ID_BYTES_MAX}")
    if value is not None and len(value) > value_bytes_max:
        raise Refused(Code.IMPOSSIBLE, f"a command of {len(value)} bytes, at most {value_bytes_max}")
    command = decode_command(value)
    if isinstance(command, Tick):
        return command, command_id
    room = command.room
    if not _is_id(room):
        raise Refused(Code.IMPOSSIBLE, "the room is no id")
    if key != room.encode():
        raise Refused(Code.IMPOSSIBLE, "the record's key is not the command's room")
    if partition_of(room, partitions) != partition:
        raise Refused(Code.IMPOSSIBLE, f"the room lives in partition {partition_of(room, partitions)}")
    if isinstance(command, WatchRoom):
        if len(command.users) > WATCH_USERS_MAX:
            raise Refused(Code.IMPOSSIBLE, f"a watch of {len(command.users)} users, at most {WATCH_USERS_MAX}")
        if not all(map(_is_id, command.users)):
            raise Refused(Code.IMPOSSIBLE, "a watched user is no id")
        return command, command_id
    if not _is_id(command.sender):
        raise Refused(Code.IMPOSSIBLE, "the sender is no id")
    if isinstance(command, RenumberRoom):
        # Half of all numbers stay for what comes after.
        if not 0 <= command.above < SEQ_MAX // 2:
            raise Refused(Code.IMPOSSIBLE, f"numbering above {command.above}: that is 0 to {SEQ_MAX // 2 - 1}")
        return command, command_id
    client_id = command.client_id
    # Characters first: an id that is short enough in them is so in bytes, and most are.
    if client_id is not None and not (
        client_id and (len(client_id) * 4 <= CLIENT_ID_BYTES_MAX or _bytes(client_id) <= CLIENT_ID_BYTES_MAX)
    ):
        raise Refused(Code.IMPOSSIBLE, f"a client id is 1-{CLIENT_ID_BYTES_MAX} bytes")
    if isinstance(command, PostMessage):
        _check_post(command)
    elif (name := getattr(command, "name", None)) is not None and _bytes(name) > NAME_BYTES_MAX:
        raise Refused(Code.IMPOSSIBLE, f"a name of {_bytes(name)} bytes, at most {NAME_BYTES_MAX}")
    return command, command_id


def _check_post(command: PostMessage) -> None:
    if len(command.nonce) > NAME_BYTES_MAX or len(command.content_type or "") > NAME_BYTES_MAX:
        raise Refused(Code.IMPOSSIBLE, f"a nonce or content type of more than {NAME_BYTES_MAX} characters")
    if command.body_b64 is not None:
        if command.body:
            raise Refused(Code.IMPOSSIBLE, "both a text and an octet body")
        try:
            base64.b64decode(command.body_b64, validate=True)
        except (binascii.Error, ValueError):
            raise Refused(Code.IMPOSSIBLE, "the octet body is not base64") from None


def _bytes(text: str) -> int:
    return len(text.encode())
