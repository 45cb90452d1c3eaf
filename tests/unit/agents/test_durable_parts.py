"""What a durable reader takes for an event, and what it leans on in Faust."""

from __future__ import annotations

import inspect

import pytest
from faust.app.base import App
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer

from agents.durable import read_event
from chat.errors import Code, Refused, UnknownVersion
from chat.records import Event, Membership, encode


def event(**changed: object) -> Event:
    fields = {
        "v": 1,
        "room": "r",
        "seq": 1,
        "epoch": "e",
        "kind": "message",
        "at": 1,
        "sender": "a",
        "msg_no": 1,
        "members": 1,
        "chain": "c",
    }
    return Event(**(fields | changed))  # type: ignore[arg-type]


def test_an_event_of_ours_is_taken_as_it_is() -> None:
    assert read_event(b"r", encode(event())) == event()


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_event_are_undecodable(value: bytes | None) -> None:
    with pytest.raises(Refused) as refused:
        read_event(b"r", value)
    assert refused.value.code is Code.UNDECODABLE


@pytest.mark.parametrize(
    "impossible",
    [
        event(room="no/id"),
        event(room="other"),
        event(seq=0),
        event(seq=2**63),
        event(at=0),
        event(at=2**60),
        event(msg_no=2),
        event(members=2**31),
        event(member=Membership(user="", role="member")),
    ],
)
def test_an_event_that_no_store_could_keep_is_impossible(impossible: Event) -> None:
    with pytest.raises(Refused) as refused:
        read_event(b"r", encode(impossible))
    assert refused.value.code is Code.IMPOSSIBLE


def test_a_newer_version_is_neither_parked_nor_passed() -> None:
    with pytest.raises(UnknownVersion):
        read_event(b"r", encode(event(v=2)))


def test_faust_still_has_what_reading_in_bulk_replaces() -> None:
    assert inspect.iscoroutinefunction(Consumer._drain_messages)
    assert inspect.iscoroutinefunction(Consumer._wait_next_records)
    assert inspect.iscoroutinefunction(ThreadDelegateConsumer.seek_wait)
    source = inspect.getsource(Consumer)
    for name in ("_buffered_partitions", "suspend_flow", "flow_active"):
        assert f"self.{name}" in source


def test_faust_still_waits_for_us_before_records_flow() -> None:
    lines = inspect.getsource(Recovery._resume_streams)
    assert lines.index("on_rebalance_complete.send()") < lines.index("perform_seek()") < lines.index("resume_flow()")
    assert "on_before_shutdown.send()" in inspect.getsource(App.on_stop)
