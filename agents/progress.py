"""How far an operation is, on standard error: a bar for a person, a line a second for a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

import click

LINE_S: Final = 1.0


class Progress:
    """Tells how much of a known amount is done, how fast, and how long the rest takes. What is quick says nothing."""

    def __init__(self, what: str) -> None:
        """`what` is counted: `records`."""
        self._what = what
        self._bar: Any = None
        self._started = self._told = 0.0
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total`; `total` may grow. The first call begins it."""
        now = time.monotonic()
        if not self._started:
            self._started = self._told = now
        if now - self._told < (LINE_S / 10 if self._bar is not None else LINE_S):
            return
        self._told = now
        per_s = done / (now - self._started)
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(
                    length=total, file=sys.stderr, show_pos=True, item_show_func=lambda rate: f"{rate or 0:,.0f}/s"
                )
            self._bar.length = max(total, done)
            self._bar.update(done - self._shown, per_s)
            self._shown = done
        else:
            left_s = max(total - done, 0) / per_s
            sys.stderr.write(f"{done:,} of {total:,} {self._what}, {per_s:,.0f}/s, {left_s:,.0f} s left\n")
            sys.stderr.flush()
