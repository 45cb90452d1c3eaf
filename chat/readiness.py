"""Whether this worker may be sent work: a set of named conditions, each with the reason it does not hold.

A role declares its conditions at import (`readiness.expect("tail")`) and sets them as they come and go; `/readyz`
answers 503 with the reasons until all hold.
"""

from __future__ import annotations


class Readiness:
    """Named conditions of this process."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def expect(self, name: str, reason: str = "starting") -> None:
        """Declare a condition that does not hold yet."""
        self._reasons[name] = reason

    def ok(self, name: str) -> None:
        """The condition holds."""
        self._reasons[name] = ""

    def lost(self, name: str, reason: str) -> None:
        """The condition does not hold, and why."""
        self._reasons[name] = reason

    @property
    def ready(self) -> bool:
        """True when every declared condition holds."""
        return not any(self._reasons.values())

    def __str__(self) -> str:
        """What does not hold, in a line."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.reasons().items()) or "ready"

    def reasons(self) -> dict[str, str]:
        """Conditions that do not hold, with the reason of each."""
        return {name: reason for name, reason in self._reasons.items() if reason}


readiness = Readiness()
"""This process's."""
