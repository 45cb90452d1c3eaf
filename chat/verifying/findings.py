"""What an audit reports: what is wrong, in which store, with which room, from which seq on.

A store that is spoilt is spoilt in many places, so equal findings about one room are one finding, with its first seq
and a count. Nothing here repairs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

ROOMS_MAX: Final = 10_000
"""Findings that are kept one by one; beyond that they are only counted, so that a lost store costs no memory."""


class Store(StrEnum):
    """Where something stands."""

    LOG = "log"
    CASSANDRA = "cassandra"
    REDIS = "redis"


class Wrong(StrEnum):
    """What can be wrong with what stands there."""

    MISSING = "missing"
    DIFFERS = "differs"
    CHAIN = "chain broken"
    ORDER = "out of order"
    TWICE = "twice"
    UNDECODABLE = "does not decode"
    TOO_MANY = "too many"
    STALE = "stale"


@dataclass(slots=True)
class Finding:
    """One thing that is wrong. `seq` is the first of `count` places, 0 where none can be named."""

    store: Store
    part: str
    """Table, key or topic partition."""
    room: str
    wrong: Wrong
    seq: int
    detail: str
    count: int = 1

    def __str__(self) -> str:
        """One line: store, part, room, first bad seq, what is wrong."""
        room = f" room {self.room}" if self.room else ""
        seq = f" seq {self.seq}" if self.seq else ""
        count = f" ({self.count} places)" if self.count > 1 else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.store} {self.part}{room}{seq}: {self.wrong}{count}{detail}"

    def encode(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()


class Findings:
    """Collects findings. Empty means that nothing is wrong."""

    def __init__(self) -> None:
        self._found: dict[tuple[Store, str, str, Wrong], Finding] = {}
        self.unlisted = 0
        """Places beyond those that are kept."""

    def add(
        self, store: Store, part: str, room: str, wrong: Wrong, seq: int = 0, detail: str = "", *, count: int = 1
    ) -> None:
        """Something is wrong in `count` places from `seq` on. The `detail` of the lowest seq is kept."""
        key = (store, part, room, wrong)
        known = self._found.get(key)
        if known is not None:
            known.count += count
            if seq < known.seq:
                known.seq, known.detail = seq, detail
        elif len(self._found) < ROOMS_MAX:
            self._found[key] = Finding(store, part, room, wrong, seq, detail, count)
        else:
            self.unlisted += count

    def update(self, others: Findings) -> None:
        """Take over what others have found."""
        for f in others:
            self.add(f.store, f.part, f.room, f.wrong, f.seq, f.detail, count=f.count)
        self.unlisted += others.unlisted

    def __iter__(self) -> Iterator[Finding]:
        """By room, then store, part and seq."""
        return iter(sorted(self._found.values(), key=lambda f: (f.room, f.store, f.part, f.seq, f.wrong)))

    def __len__(self) -> int:
        return len(self._found) + self.unlisted
