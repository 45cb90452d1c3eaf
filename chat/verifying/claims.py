"""What a store says about events that the walk has not come to.

The system runs while it is audited, so a store may be newer than the place where the walk of the log ended. What it
says beyond that is a claim: the log, read further, to an end that was looked up after the store was read, either holds
an event with that seq that says the same, or the claim is false.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chat.records import Event
from chat.verifying.findings import Findings, Store, Wrong


@dataclass(frozen=True, slots=True)
class Claim:
    """A store's word for event `seq` of `room`."""

    store: Store
    part: str
    room: str
    seq: int
    holds: Callable[[Event, bytes], bool]
    """True for the event (and its bytes) that the store speaks of."""
    otherwise: str = "the log has no such event"
    """Detail of the finding when the claim is false."""
    absent: Wrong = Wrong.TOO_MANY
    """What is wrong when there is no such event."""


class Claims:
    """Claims that wait for the log."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._waiting: dict[tuple[str, int], list[Claim]] = {}

    def add(self, claim: Claim) -> None:
        """Something that the rest of the log must say, too."""
        self._waiting.setdefault((claim.room, claim.seq), []).append(claim)

    def __len__(self) -> int:
        """Events that are waited for."""
        return len(self._waiting)

    def settle(self, event: Event, value: bytes) -> None:
        """The next event of the log, beyond where the claims were made."""
        for claim in self._waiting.pop((event.room, event.seq), ()):
            if not claim.holds(event, value):
                self._findings.add(claim.store, claim.part, claim.room, Wrong.DIFFERS, claim.seq)

    def close(self) -> None:
        """The log has ended: what still waits is about events that there are not."""
        for claims in self._waiting.values():
            for claim in claims:
                self._findings.add(claim.store, claim.part, claim.room, claim.absent, claim.seq, claim.otherwise)
        self._waiting.clear()
