from __future__ import annotations

from types import MappingProxyType

import msgspec
import pytest

from chat.records import Event, Membership, Opens, PostMessage
from chat.rooms.chain import genesis, verify
from chat.rooms.decide import decide


class _Empty:
    head = None
    members = MappingProxyType({})
    senders = MappingProxyType({})


COMMAND = PostMessage(
    v=1,
    room="lobby",
    sender="ann",
    nonce="salt",
    client_id="c",
    content_type="t",
    headers={"a": "b"},
    body="x",
    create=True,
)


def first_event() -> Event:
    event = decide(_Empty(), COMMAND, 1_700_000_000_000_000)
    assert isinstance(event, Event)
    return event


def test_event_follows_its_genesis() -> None:
    event = first_event()
    assert verify(genesis("lobby", event.epoch), event)


@pytest.mark.parametrize(
    "change",
    [
        {"body": "y"},
        {"nonce": "other"},
        {"client_id": None},
        {"content_type": None},
        {"headers": {}},
        {"body_b64": "/w=="},
        {"seq": 2},
        {"at": 1},
        {"sender": "eve"},
        {"kind": "room.created"},
        {"msg_no": 2},
        {"members": 2},
        {"room": "other"},
        {"epoch": "f"},
        {"opens": Opens(kind="open", owner="eve")},
        {"member": Membership(user="eve", role="owner")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_part_of_an_event_can_be_altered_unseen(change) -> None:
    event = first_event()
    assert not verify(genesis("lobby", event.epoch), msgspec.structs.replace(event, **change))


def test_event_does_not_follow_another_history() -> None:
    event = first_event()
    assert not verify(genesis("elsewhere", event.epoch), event)
