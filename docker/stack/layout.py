"""Where a stack keeps what: everything lies under one data folder, so that copies do not meet."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

ENGINES = ROOT / "docker" / "engines"
BUILD = ROOT / "build"

LOG_BYTES_MAX = 32 * 1024 * 1024
"""A log longer than this is set aside as NAME.log.1 at the next start of its process: a night of retries must not fill
the disk twice."""

FREE_BYTES_MIN = 1024 * 1024 * 1024
"""Kafka and Cassandra allocate their first segments at start, and misbehave when the disk is full."""

PARTS = ("run", "log", "kafka", "cassandra", "redis", "faust")
"""The folders that the stack makes in the data folder, which are those that a reset removes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of one stack."""

    data: Path

    def make(self) -> None:
        """Create the folders; `StackError` when that is not possible or the disk is nearly full."""
        try:
            for part in ("run", "log"):
                (self.data / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot write to {self.data} ({error.strerror}); set ROOMLOG_DATA_DIR") from None
        free = shutil.disk_usage(self.data).free
        if free < FREE_BYTES_MIN:
            raise StackError(
                f"only {free // 2**20} MiB are free in {self.data}, {FREE_BYTES_MIN // 2**20} are needed; "
                "make room or set ROOMLOG_DATA_DIR"
            )

    def pid(self, name: str) -> Path:
        """The file that holds the process id of `name` while it runs."""
        return self.data / "run" / f"{name}.pid"

    def log(self, name: str) -> Path:
        """What `name` wrote, over all its starts."""
        return self.data / "log" / f"{name}.log"

    def overrides(self, name: str) -> dict[str, str]:
        """Environment of `name` alone, from run/NAME.env (a line each, VARIABLE=value), read at each of its starts."""
        try:
            lines = (self.data / "run" / f"{name}.env").read_text().splitlines()
        except OSError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @property
    def lock(self) -> Path:
        """Locked by the supervisor as long as it lives."""
        return self.data / "run" / "supervisor.lock"

    @property
    def state(self) -> Path:
        """What the supervisor says about itself, JSON, replaced whole."""
        return self.data / "run" / "state.json"

    @property
    def wanted(self) -> Path:
        """The numbers of workers that `scale` asks for, JSON."""
        return self.data / "run" / "wanted.json"

    def rotate(self, name: str) -> None:
        """Set a long log aside, before its process starts."""
        log = self.log(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))

    def last_lines(self, name: str, count: int = 8) -> str:
        """The end of a log, indented for a terminal."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        kept = [line for line in lines if line.strip()][-count:]
        return "\n".join(f"    {line[:400]}" for line in kept)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
