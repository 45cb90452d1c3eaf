"""Kafka and Cassandra as jars: fetched once by Maven from a pinned pom into build/engines/, shared by all stacks."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import re
import shutil
from pathlib import Path

from stack.layout import BUILD, ENGINES, Layout
from stack.oneshot import run_logged
from stack.progress import Progress


def version(engine: str) -> str:
    """The version that the pom of `engine` pins."""
    dependency = _pom(engine).read_text().partition("<dependency>")[2]
    found = re.search(r"<version>(.+?)</version>", dependency)
    assert found, f"{_pom(engine)} pins no version"
    return found[1]


def folder(engine: str) -> Path:
    """Where the jars of `engine` are, or will be: another pom is another folder."""
    digest = hashlib.sha256(_pom(engine).read_bytes()).hexdigest()[:8]
    return BUILD / "engines" / f"{engine}-{version(engine)}-{digest}"


async def fetch(engine: str, layout: Layout, progress: Progress) -> Path:
    """The folder of the engine's jars, complete. Fetched if they are not there; another stack may do the same."""
    jars = folder(engine)
    if jars.is_dir():
        return jars
    jars.parent.mkdir(parents=True, exist_ok=True)
    with (jars.parent / f".{engine}.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        partial = jars.with_name(f".{jars.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        async with progress.step(engine, f"fetching {version(engine)} with Maven (once)", "fetched"):
            # -C: a jar whose checksum is wrong is an error, not a warning.
            maven = ["mvn", "-B", "-ntp", "-C", "-f", str(_pom(engine)), "dependency:copy-dependencies"]
            options = [f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
            await run_logged(f"{engine}-fetch", [*maven, *options], layout)
        # The folder gets its name when it is whole: an interrupted download is never taken for a complete one.
        partial.rename(jars)
    return jars


def _pom(engine: str) -> Path:
    return ENGINES / engine / "pom.xml"
