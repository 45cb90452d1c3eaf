"""`make model`: has spin check sequencing.pml, and shows that each of its rules is missed when it is left out.

One line a check. With every rule kept all states within the bounds are looked at, and none may break an assertion.
With a rule left out the shortest run that breaks one is looked for (breadth first), and there must be one; the same
for the questions whether runs get anywhere at all. The exit status is 0 when everything is as it has to be.

A counterexample is kept in build/model/NAME; `python docs/model/check.py --show NAME` tells it as a story.
"""
# ruff: noqa: INP001, S603  (a script beside what it checks; what it starts is spin, gcc, and what they made)

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "docker"), str(ROOT)]

from stack.errors import StackError  # noqa: E402  (after the path is right)
from stack.layout import BUILD, Layout  # noqa: E402
from stack.needs import provide  # noqa: E402
from stack.progress import Progress  # noqa: E402

MODEL: Final = ROOT / "docs" / "model" / "sequencing.pml"
WORK: Final = BUILD / "model"

MEMORY_MB_MAX: Final = 4_000
DEPTH_MAX: Final = 10_000
"""Steps of one run; a hundred times what there are."""
TIME_MAX_S: Final = 900.0

QUICK: Final = ((2, 3), (3, 2))
"""(writers, commands): a million states; the rules left out are missed within the last of them."""
FULL: Final = (*QUICK, (3, 3))
"""Tens of millions of states."""
HASH_BITS: Final = {(3, 3): 27}
"""Slots of the hash table as a power of two, where the usual four million are too few."""


@dataclass(frozen=True, slots=True)
class Check:
    """One run of the checker."""

    name: str
    writers: int
    commands: int

    @property
    def is_spec(self) -> bool:
        """Every rule is kept: an assertion that breaks is a defect of the design, or of the model."""
        return self.name == "KEPT"

    @property
    def folder(self) -> Path:
        """Where it works, and where its counterexample stays."""
        return WORK / (f"{self.name}-{self.writers}-{self.commands}" if self.is_spec else self.name)

    @property
    def options(self) -> list[str]:
        """What spin has to know."""
        bounds = [f"-DWRITERS={self.writers}", f"-DCOMMANDS={self.commands}"]
        return bounds if self.is_spec else [*bounds, f"-DBUG={self.name}", "-DSCRATCH="]


def names() -> list[str]:
    """The rules that can be left out and the questions, as the model numbers them."""
    found = re.findall(r"^#define ([A-Z_]+) +([1-9]\d*)\b", MODEL.read_text(), re.MULTILINE)
    return [name for name, number in found if name not in ("WRITERS", "COMMANDS", "FENCE") and int(number) < 100]


def check(one: Check) -> tuple[bool, str]:
    """Whether `one` went as it has to, and a line that says how."""
    began = time.monotonic()
    shutil.rmtree(one.folder, ignore_errors=True)
    one.folder.mkdir(parents=True)
    shutil.copy(MODEL, one.folder)
    _run(one, "spin", "-a", *one.options, MODEL.name)
    # Without its rules the model breaks early: compiling well would take longer than looking badly.
    how = ["-O2"] if one.is_spec else ["-O0", "-DBFS"]
    _run(one, "gcc", "-w", *how, "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB_MAX}", "-o", "pan", "pan.c")
    bits = HASH_BITS.get((one.writers, one.commands), 22)
    said = _run(one, "./pan", f"-m{DEPTH_MAX}", f"-w{bits}")
    states = int(_found(r"(\d+) states, stored", said) or 0)
    broken = _found(r"assertion violated (.*) \(at depth", said) or _found(r"pan:\d+: (.*)", said)
    # A search that was cut short by a bound has proved nothing.
    whole = "errors: 0" in said and "search was not completed" not in said and "max search depth" not in said
    took_s = time.monotonic() - began
    if one.is_spec:
        bounds = f"{one.writers} writers, {one.commands} commands: {states:,} states"
        good = whole and not broken and states > 0
        return good, f"{bounds}, {'no error' if good else broken or 'not all were looked at'} ({took_s:.0f} s)"
    depth = _found(r"\(at depth (\d+)\)", said)
    if broken is None or depth is None:
        return False, f"NOT FOUND in {states:,} states ({took_s:.0f} s)"
    return True, f"{'reached' if one.name.startswith('REACH') else 'found'} in {depth} steps ({took_s:.0f} s)"


def show(name: str) -> None:
    """Tell the last counterexample of `name`: one column a process, one line a step that others can see."""
    writers, commands = QUICK[-1]
    folders = [Check(name, writers, commands).folder] if name in names() else sorted(WORK.glob("KEPT-*"))
    for folder in folders:
        if (folder / f"{MODEL.name}.trail").exists():
            _, *bounds = folder.name.split("-")
            one = Check(name, *map(int, bounds)) if bounds else Check(name, writers, commands)
            sys.stdout.write(_run(one, "spin", "-t", "-B", *one.options, MODEL.name).partition("#processes")[0])
            return
    raise StackError(f"{name}: no counterexample in {WORK}; run make model first")


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return None if match is None else match[1]


def _run(one: Check, *argv: str) -> str:
    try:
        done = subprocess.run(
            argv, cwd=one.folder, capture_output=True, text=True, timeout=TIME_MAX_S, check=False, env=os.environ
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{one.name}: {argv[0]} took more than {TIME_MAX_S:.0f} s") from None
    if done.returncode != 0 and argv[0] != "./pan":
        raise StackError(f"{one.name}: {' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(description="Check docs/model/sequencing.pml with spin.")
    parser.add_argument("--full", action="store_true", help="larger bounds too: some minutes, up to 4 GB")
    parser.add_argument("--show", metavar="NAME", help="tell the last counterexample of NAME (KEPT: of the whole)")
    arguments = parser.parse_args()
    progress = Progress()
    try:
        data = Path(os.environ.get("ROOMLOG_DATA_DIR") or ROOT / ".roomlog")
        layout = Layout(data)
        layout.make()
        asyncio.run(provide({"spin": 0, "gcc": 0}, layout, progress))
        if arguments.show:
            show(arguments.show)
            return 0
        bounds = FULL if arguments.full else QUICK
        checks = [Check("KEPT", *each) for each in bounds] + [Check(name, *QUICK[-1]) for name in names()]
        failed = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for one, (good, line) in zip(checks, pool.map(check, checks), strict=True):
                failed += not good
                title = "all rules kept" if one.is_spec else one.name.lower().replace("_", " ")
                progress.say("model", f"{'' if good else 'FAILED  '}{title}: {line}")
    except StackError as error:
        sys.stderr.write(f"roomlog: {error}\n")
        return 1
    if failed:
        sys.stderr.write(f"roomlog: {failed} of {len(checks)} checks failed; see docs/model/README.md\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
