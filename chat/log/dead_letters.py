"""What is parked: a record that no code of ours wrote, or that cannot be what it says, with its reason.

Its key names where it was found, `topic-partition-offset`, so one that is parked again after a crash can be told from a
second one. The original's octets go along as base64, as far as they fit.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

import msgspec

from chat.errors import Code
from chat.log.producer import Record

ORIGINAL_BYTES_MAX: Final = 524_288
"""Octets of key, value and headers that are kept of one record. The original stays in its topic for days."""

DETAIL_CHARS_MAX: Final = 500


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `room.dead_letters`."""

    v: int
    topic: str
    partition: int
    offset: int
    code: Code
    detail: str
    worker: str
    key_b64: str | None = None
    value_b64: str | None = None
    headers_b64: tuple[tuple[str, str | None], ...] = ()
    truncated: bool = False
    """The original was larger than what is kept."""
    replayed: str = ""
    """On a later record of the same key, which holds no original: what somebody did about the letter."""

    def original(self) -> Record:
        """The record that was found, as far as it is kept."""
        return Record(
            _octets(self.key_b64),
            _octets(self.value_b64),
            [(name, _octets(value) or b"") for name, value in self.headers_b64],
        )

    def mark(self, replayed: str) -> Record:
        """The record that says what has been done about this letter; append it to where the letter is."""
        note = DeadLetter(
            v=self.v,
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            code=self.code,
            detail=self.detail,
            worker=self.worker,
            replayed=replayed,
        )
        return Record(_key(self.topic, self.partition, self.offset), _encode(note), [])


def _octets(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _key(topic: str, partition: int, offset: int) -> bytes:
    return f"{topic}-{partition}-{offset}".encode()


_encode = msgspec.json.Encoder().encode


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    *,
    code: Code,
    detail: str,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    worker: str,
) -> Record:
    """The record that parks the one found at `offset`; append it to any partition of `room.dead_letters`."""
    left = ORIGINAL_BYTES_MAX
    truncated = False

    def keep(octets: bytes | None) -> str | None:
        nonlocal left, truncated
        if octets is None:
            return None
        kept = octets[:left]
        truncated = truncated or len(kept) < len(octets)
        left -= len(kept)
        return base64.b64encode(kept).decode()

    key_b64, value_b64 = keep(key), keep(value)
    kept_headers = []
    for name, octets in headers:
        left -= len(name)
        if left <= 0:
            truncated = True
            break
        kept_headers.append((name, keep(octets)))
    letter = DeadLetter(
        v=1,
        topic=topic,
        partition=partition,
        offset=offset,
        code=code,
        detail=detail[:DETAIL_CHARS_MAX],
        worker=worker,
        key_b64=key_b64,
        value_b64=value_b64,
        headers_b64=tuple(kept_headers),
        truncated=truncated,
    )
    return Record(_key(topic, partition, offset), _encode(letter), [("code", code.value.encode())])
