"""Places where a test has a process kill itself. Inert unless `ROOMLOG_FAILPOINT` names one: `name` or `name:n`.

The n-th pass (1 without n) is the last: SIGKILL, so that nothing is flushed, committed or answered.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}


def arm(setting: str) -> None:
    """Arm the failpoint in `setting`; an empty one arms none."""
    _armed.clear()
    if setting:
        name, _, passes = setting.partition(":")
        _armed[name] = int(passes or 1)


def failpoint(name: str) -> None:
    """Die here if this failpoint is armed and its pass has come."""
    if _armed and name in _armed:
        _armed[name] -= 1
        if _armed[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
