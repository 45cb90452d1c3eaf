"""The one exception of the stack."""

from __future__ import annotations


class StackError(Exception):
    """Something that a person has to put right. `str()` says what and how: one line, and a log's last lines if any."""
