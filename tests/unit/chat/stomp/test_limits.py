"""Limits come from settings by name."""

from __future__ import annotations

from chat.settings import Settings
from chat.stomp.limits import Limits


def test_the_defaults_are_those_of_the_settings() -> None:
    assert Limits.from_settings(Settings()) == Limits()
