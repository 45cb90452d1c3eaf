"""The chat page: built by npm from web/ui into web/static, when its sources changed."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from stack import needs
from stack.layout import BUILD, ROOT, Layout, read_json, write_whole
from stack.oneshot import run_logged
from stack.progress import Progress

SOURCES = ROOT / "web" / "ui"
BUILT = ROOT / "web" / "static" / "index.html"
STAMP = BUILD / "page.stamp"
"""Digest of the sources that were built."""

NODE_MIN = 18
"""Debian 12's own, unless web/ui/package.json asks for more."""

# Folders of web/ui that are made, not written.
_MADE = {"node_modules", "dist", "coverage"}


def node_min() -> int:
    """The oldest major version of Node that builds the page, as its package.json says."""
    engines = read_json(SOURCES / "package.json").get("engines", {})
    found = re.search(r"\d+", str(engines.get("node", "")))
    return int(found[0]) if found else NODE_MIN


def is_current() -> bool:
    """True when there is nothing to build."""
    if not (SOURCES / "package.json").exists():
        return True
    return BUILT.exists() and STAMP.exists() and STAMP.read_text() == _digest()


async def build(layout: Layout, progress: Progress) -> None:
    """Build the page unless it is current."""
    if is_current():
        return
    BUILD.mkdir(exist_ok=True)
    # Several stacks share the checkout: one builds, the others then find the page current.
    with (BUILD / ".page.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not is_current():
            await _build(layout, progress)


async def _build(layout: Layout, progress: Progress) -> None:
    digest = _digest()
    async with progress.step("page", "building (npm)", "built"):
        # `npm ci` empties node_modules first: only when what it installs has changed.
        lock = _digest_of([SOURCES / "package.json", SOURCES / "package-lock.json"])
        installed = SOURCES / "node_modules" / ".roomlog-stamp"
        if not installed.exists() or installed.read_text() != lock:
            await run_logged("page", ["npm", "ci", "--no-audit", "--no-fund"], layout, cwd=SOURCES)
            write_whole(installed, lock)
        await run_logged("page", ["npm", "run", "build"], layout, cwd=SOURCES)
    write_whole(STAMP, digest)


def _digest() -> str:
    return _digest_of(sorted(_sources()))


def _digest_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes() if file.exists() else b""
        digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for parent, folders, files in os.walk(SOURCES):
        folders[:] = [folder for folder in folders if folder not in _MADE]
        yield from (Path(parent) / file for file in files)


async def build_alone(layout: Layout, progress: Progress) -> None:
    """`build` outside a start of the stack: brings Node first."""
    if not is_current():
        await needs.provide({"node": node_min(), "npm": 0}, layout, progress)
        await build(layout, progress)
