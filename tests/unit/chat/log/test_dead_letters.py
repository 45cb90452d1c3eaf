from __future__ import annotations

import base64

import orjson

from chat.errors import Code
from chat.log.dead_letters import ORIGINAL_BYTES_MAX, dead_letter


def letter(**more):
    found = {"key": b"k", "value": b"\xff\x00", "headers": [("a", b"\x01"), ("b", None)], **more}
    record = dead_letter("t", 3, 42, code=Code.UNDECODABLE, detail="not a command", worker="w", **found)
    return record, orjson.loads(record.value)


def test_a_dead_letter_says_where_why_and_what() -> None:
    record, parked = letter()
    assert record.key == b"t-3-42"
    assert (parked["topic"], parked["partition"], parked["offset"], parked["code"]) == ("t", 3, 42, "undecodable")
    assert base64.b64decode(parked["value_b64"]) == b"\xff\x00"
    assert parked["headers_b64"] == [["a", "AQ=="], ["b", None]]
    assert "truncated" not in parked


def test_the_same_record_parked_twice_has_one_key() -> None:
    assert letter()[0] == letter()[0]


def test_a_record_without_key_and_value_can_be_parked() -> None:
    _, parked = letter(key=None, value=None, headers=())
    assert "value_b64" not in parked


def test_what_is_too_large_is_cut_and_says_so() -> None:
    record, parked = letter(value=b"x" * (ORIGINAL_BYTES_MAX + 1))
    assert parked["truncated"] is True
    assert len(record.value) < 1_000_000


def test_a_flood_of_headers_is_cut_too() -> None:
    record, parked = letter(headers=[("h" * 1000, b"x" * 1000)] * 1000)
    assert parked["truncated"] is True
    assert len(record.value) < 1_500_000
