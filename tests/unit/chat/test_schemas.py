"""docs/schemas/ is what the code reads and writes, and only grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from chat import schemas
from chat.errors import Code, Refused, UnknownVersion
from chat.log.dead_letters import dead_letter
from chat.records import (
    Command,
    CreateRoom,
    Event,
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
    Writer,
    decode_command,
    decode_event,
    decode_verdict,
    encode,
)

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "schemas"

EVENT = Event(
    v=1,
    room="r",
    seq=1,
    epoch="e",
    kind="message",
    at=5,
    sender="ann",
    msg_no=1,
    members=1,
    chain="c",
    nonce="n",
    client_id="k",
    content_type="text/plain",
    headers={"a": "b"},
    body="hello",
    opens=Opens(kind="open", owner="ann", name="R"),
    member=Membership(user="ann", role="owner"),
)
PARKED = dead_letter(
    "t", 0, 1, code=Code.UNDECODABLE, detail="d", key=b"k", value=b"v", headers=[("h", b"x")], worker="archiver"
)

SAMPLES: dict[str, list[bytes]] = {
    "command": [
        encode(command)
        for command in (
            PostMessage(v=1, room="r", sender="ann", nonce="n", body="hi", headers={"a": "b"}, create=True),
            PostMessage(v=1, room="r", sender="ann", nonce="n", body_b64="AA=="),
            CreateRoom(v=1, room="r", sender="ann", name="R"),
            JoinRoom(v=1, room="r", sender="ann"),
            LeaveRoom(v=1, room="r", sender="ann", client_id="k"),
            WatchRoom(v=1, room="r", users=("ann", "bob")),
            RenumberRoom(v=1, room="r", sender="~roomlog", epoch="e", above=9),
            Tick(v=1),
        )
    ],
    "event": [
        encode(EVENT),
        encode(
            Event(v=1, room="r", seq=2, epoch="e", kind="member.left", at=6, sender="a", msg_no=1, members=0, chain="c")
        ),
        encode(
            Event(
                v=1,
                room="r",
                seq=9,
                epoch="f",
                kind="room.renumbered",
                at=7,
                sender="~roomlog",
                msg_no=1,
                members=0,
                chain="c",
                opens=Opens(kind="open", owner="ann"),
            )
        ),
    ],
    "verdict": [
        encode(Verdict(v=1, outcome="tick", at=1)),
        encode(Verdict(v=1, outcome="lost", at=1)),
        encode(Verdict(v=1, outcome="refused", at=1, room="r", code=Code.ROOM_NOT_FOUND, detail="no")),
        encode(
            Verdict(
                v=1,
                outcome="watch",
                at=1,
                room="r",
                watch=WatchAnswer(head_seq=1, first_seq=1, msg_no=1, epoch="e", denied={"bob": Code.FORBIDDEN}),
            )
        ),
    ],
    "writer": [encode(Writer(v=1, id="i")), encode(Writer(v=1, id="i", worker="w", version="1"))],
    "dead_letter": [PARKED.value or b""],
}

REQUIRED = {
    "CreateRoom": {"kind", "v", "room", "sender"},
    "JoinRoom": {"kind", "v", "room", "sender"},
    "LeaveRoom": {"kind", "v", "room", "sender"},
    "PostMessage": {"kind", "v", "room", "sender", "nonce"},
    "RenumberRoom": {"kind", "v", "room", "sender", "epoch"},
    "Tick": {"kind", "v"},
    "WatchRoom": {"kind", "v", "room", "users"},
    "Event": {"v", "room", "seq", "epoch", "kind", "at", "sender", "msg_no", "members", "chain"},
    "Membership": {"user", "role"},
    "Opens": {"kind", "owner"},
    "Verdict": {"v", "outcome", "at"},
    "WatchAnswer": {"head_seq", "first_seq", "msg_no", "epoch"},
    "Writer": {"v", "id"},
    "DeadLetter": {"v", "topic", "partition", "offset", "code", "detail", "worker"},
}
"""Of version 1, for ever: a field that becomes required makes older records unreadable."""


@pytest.mark.parametrize("name", schemas.TYPES)
def test_the_document_is_the_codes_own_schema(name: str) -> None:
    document = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert document == schemas.document(name), "run `faust -A app schema --write` and say it in CHANGELOG"


@pytest.mark.parametrize("name", schemas.TYPES)
def test_what_is_written_fits_its_schema(name: str) -> None:
    schema = json.loads(schemas.document(name))
    validator = jsonschema.Draft202012Validator(schema)
    for sample in SAMPLES[name]:
        validator.validate(json.loads(sample))


def test_no_field_of_version_1_becomes_required() -> None:
    required: dict[str, Any] = {}
    for name in schemas.TYPES:
        for title, definition in json.loads(schemas.document(name))["$defs"].items():
            if definition.get("type") == "object":
                required[title] = set(definition.get("required", []))
    assert required == REQUIRED


def test_a_reader_ignores_fields_that_it_does_not_know() -> None:
    for name, decode in (("event", decode_event), ("verdict", decode_verdict), ("command", decode_command)):
        for sample in SAMPLES[name]:
            known: Command | Event | Verdict = decode(sample)  # type: ignore[operator]
            assert decode(sample[:-1] + b',"added_later":{"x":[1]}}') == known  # type: ignore[operator]


def test_a_sample_without_a_required_field_is_refused() -> None:
    with pytest.raises(Refused):
        decode_event(b'{"v":1,"room":"r"}')


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (decode_event, b'{"v":2,"kind":"message","seq":{}}'),
        (decode_event, b'{"v":2,"kind":"room.painted"}'),
        (decode_event, SAMPLES["event"][0].replace(b'"kind":"message"', b'"kind":"room.painted"')),
        (decode_verdict, b'{"v":2}'),
        (decode_verdict, b'{"v":1,"outcome":"postponed","at":1}'),
        (decode_command, b'{"v":2,"kind":"post"}'),
        (decode_command, b'{"v":2,"kind":"paint","colour":1}'),
    ],
)
def test_what_a_newer_roomlog_wrote_is_told_from_what_nobody_of_ours_wrote(decode: Any, value: bytes) -> None:
    with pytest.raises(UnknownVersion, match="upgrade this worker"):
        decode(value)


@pytest.mark.parametrize("value", [b'{"v":1,"kind":"paint"}', b'{"v":"2","kind":"post"}', b'{"v":1}', b"[2]", b"2"])
def test_a_kind_of_command_that_is_not_known_is_refused(value: bytes) -> None:
    with pytest.raises(Refused):
        decode_command(value)
