"""Programs that must be there: Java 17, Maven, Node, Redis; spin with gcc for the model, Chromium for the page's tests.

As root on Debian they are installed; else told how.

Python and the virtual environment come before this (docker/bootstrap), since this runs in it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from stack.errors import StackError
from stack.layout import Layout
from stack.oneshot import run_logged
from stack.progress import Progress

PACKAGES = {
    "java": "openjdk-17-jre-headless",
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
    "redis-server": "redis-server",
    "spin": "spin",
    "gcc": "gcc libc6-dev",
    "chromium": "chromium",
}
"""Debian 12's packages of each program."""

Programs = Mapping[str, int]
"""Programs by name, with the oldest version that will do: 17 of Java means 17 and no other, 0 any."""


JAVA = 17
"""Both engines run on it; Cassandra 5 on no later one."""


@cache
def java() -> str | None:
    """Java 17, which both engines support: from JAVA_HOME, the path, or Debian's folder."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    candidates += [found] if (found := shutil.which("java")) else []
    candidates += [str(path) for path in sorted(Path("/usr/lib/jvm").glob("*17*/bin/java"))]
    return next((candidate for candidate in candidates if _version(candidate, "-version") == JAVA), None)


def missing(programs: Programs) -> list[str]:
    """Those of `programs` that are not there, or too old."""
    lacking = []
    for program, oldest in sorted(programs.items()):
        if program == "java":
            there = java() is not None
        elif program == "node":
            there = (_version(program, "--version") or 0) >= oldest
        else:
            there = shutil.which(program) is not None
        if not there:
            lacking.append(program)
    return lacking


async def provide(programs: Programs, layout: Layout, progress: Progress) -> None:
    """Return once all of `programs` are there; `StackError` with the command that installs them otherwise."""
    lacking = await asyncio.to_thread(missing, programs)
    if not lacking:
        return
    packages = [package for program in lacking for package in PACKAGES[program].split()]
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    names = ", ".join(lacking)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StackError(f"not found: {names}. Run: sudo apt-get update && sudo {' '.join(command)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    async with progress.step("packages", f"installing {' '.join(packages)}", f"{names} installed"):
        await run_logged("packages", ["apt-get", "update"], layout, env=environment)
        await run_logged("packages", command, layout, env=environment)
    java.cache_clear()
    if still := await asyncio.to_thread(missing, programs):
        raise StackError(f"{', '.join(still)}: installed, but not found or too old; see {layout.log('packages')}")


def _version(program: str, option: str) -> int | None:
    """First number of a program's version; None when it is not there."""
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    found = re.search(r'(?:version "|v)(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else None
