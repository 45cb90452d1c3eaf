"""What a person types (through make): run, up, down, status, logs, reset, scale, page.

Each command is an exit status and lines that a person understands; a problem that a person can put right is one line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chat import settings as roomlog_settings
from chat.errors import SettingsError
from chat.settings import Settings
from stack import page, plan
from stack.errors import StackError
from stack.layout import PARTS, Layout, read_json, write_whole
from stack.plan import Counts
from stack.processes import end_orphans, orphans, supervisor_pid, take_lock
from stack.progress import Progress
from stack.status import show
from stack.supervisor import ORPHANS_WITHIN_S, Supervisor

POLL_S = 0.05
SCALE_WITHIN_S = 120.0
NOT_RUNNING = 3
"""Exit status of `status` when the stack is not running, as init scripts have it."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every command has."""

    settings: Settings
    layout: Layout
    arguments: argparse.Namespace


def main(argv: list[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="stack", description="The local stack of Roomlog.")
    commands = parser.add_subparsers(dest="command", required=True)
    table: dict[str, tuple[Callable[[Context], int], str]] = {
        "run": (run, "start all in the foreground; Ctrl-C stops it"),
        "up": (up, "start all in the background; return when it is ready"),
        "down": (down, "stop all"),
        "status": (status, "what runs, and is it ready"),
        "logs": (logs, "show logs"),
        "reset": (reset, "stop all and delete the data"),
        "scale": (scale, "change the numbers of workers while running: GATEWAYS=3 SEQUENCERS=2"),
        "page": (build_page, "build the chat page if its sources changed"),
    }
    for name, (_, text) in table.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in ("run", "up"):
            command.add_argument("--engines-only", action="store_true", help="Kafka, Cassandra and Redis, no workers")
            command.add_argument("--while", dest="while_pid", type=int, metavar="PID", help="stop when PID is gone")
        if name == "logs":
            command.add_argument("-f", "--follow", action="store_true")
            command.add_argument("names", nargs="*", help="gateway, kafka, supervisor ...; none: all")
    arguments = parser.parse_args(argv)
    try:
        settings = roomlog_settings.load()
        layout = Layout(settings.data.expanduser().resolve())
        return table[arguments.command][0](Context(settings, layout, arguments))
    except (StackError, SettingsError) as error:
        sys.stdout.flush()
        sys.stderr.write(f"roomlog: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def run(context: Context) -> int:
    """The supervisor, here."""
    layout = context.layout
    layout.make()
    lock = take_lock(layout)
    if lock is None:
        raise StackError(f"this stack is running already (process {supervisor_pid(layout)}); stop it with `make down`")
    with lock:
        arguments = context.arguments
        counts = Counts.none() if arguments.engines_only else Counts().changed(os.environ)
        asyncio.run(Supervisor(context.settings, layout, counts, while_pid=arguments.while_pid).run())
    return 0


def up(context: Context) -> int:
    """The supervisor in the background; its lines are shown here until it is ready."""
    layout, settings = context.layout, context.settings
    layout.make()
    if supervisor_pid(layout) is not None:
        running = read_json(layout.state)
        sys.stdout.write(f"running already: {running.get('page', '')}\n")
        if plan.counts_named(os.environ) and not running.get("engines_only"):
            return scale(context)
        return 0
    plan.ports(settings, Counts().changed(os.environ))
    layout.rotate("supervisor")
    log = layout.log("supervisor")
    with log.open("ab") as output:
        began_at = output.tell()
        command = [sys.executable, str(Path(__file__).parent), "run"]
        command += ["--engines-only"] if context.arguments.engines_only else []
        command += ["--while", str(context.arguments.while_pid)] if context.arguments.while_pid else []
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    with log.open() as lines:
        lines.seek(began_at)
        try:
            while supervisor.poll() is None:
                sys.stdout.write(lines.read())
                sys.stdout.flush()
                state = read_json(layout.state)
                if state.get("pid") == supervisor.pid and state.get("phase") == "ready":
                    break
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            supervisor.terminate()
            supervisor.wait()
        sys.stdout.write(lines.read())
    return supervisor.returncode or 0


def down(context: Context) -> int:
    """Stop the supervisor, which stops everything; end what a killed supervisor left."""
    layout = context.layout
    pid = supervisor_pid(layout)
    if pid is not None:
        log = layout.log("supervisor")
        began_at = log.stat().st_size if log.exists() else 0
        os.kill(pid, signal.SIGTERM)
        while supervisor_pid(layout) is not None:
            time.sleep(POLL_S)
        if log.exists():
            with log.open() as lines:
                lines.seek(began_at)
                sys.stdout.write(lines.read())
    left = end_orphans(layout.data, ORPHANS_WITHIN_S)
    for orphan in left:
        sys.stdout.write(f"{orphan.name} was left by a supervisor that is gone (process {orphan.pid}): ended\n")
        layout.pid(orphan.name).unlink(missing_ok=True)
    if pid is None and not left:
        sys.stdout.write("not running\n")
    return 0


def status(context: Context) -> int:
    """A line for each process. Exit status 0: all ready; 1: some not; 3: not running."""
    layout = context.layout
    if supervisor_pid(layout) is None:
        left = orphans(layout.data)
        names = ", ".join(f"{orphan.name} ({orphan.pid})" for orphan in left)
        left_text = f"; left by a supervisor that is gone: {names}; `make up` or `make down` ends them" if left else ""
        sys.stdout.write(f"not running{left_text}\n")
        return NOT_RUNNING
    return 0 if asyncio.run(show(context.settings, layout)) else 1


def logs(context: Context) -> int:
    """`tail` of the logs, which goes on with -f."""
    folder = context.layout.data / "log"
    there = {path.stem: str(path) for path in sorted(folder.glob("*.log"))}
    names: list[str] = context.arguments.names or list(there)
    for name in names:
        if name not in there:
            raise StackError(f"no log of {name} in {folder}; there are: {', '.join(there) or 'none'}")
    if not names:
        raise StackError(f"no logs in {folder}")
    options = ["-n", "40" if len(names) > 1 else "200", *(["-F"] if context.arguments.follow else [])]
    tail = ["tail", *options, *(there[name] for name in names)]
    sys.stdout.flush()
    os.execvp(tail[0], tail)  # noqa: S606


def reset(context: Context) -> int:
    """Delete what the stack wrote, after asking; FORCE=1 answers yes."""
    layout = context.layout
    if os.environ.get("FORCE", "") not in ("1", "yes", "true"):
        if not sys.stdin.isatty():
            raise StackError(f"this deletes all rooms and messages in {layout.data}; say FORCE=1 to mean it")
        answer = input(f"Delete all rooms and messages in {layout.data}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            sys.stdout.write("nothing deleted\n")
            return 1
    down(context)
    for part in PARTS:
        shutil.rmtree(layout.data / part, ignore_errors=True)
    sys.stdout.write(f"deleted: {', '.join(PARTS)} in {layout.data}\n")
    given = [name for name in ("kafka", "cassandra", "redis") if name not in plan.local_engines(context.settings)]
    if given:
        sys.stdout.write(f"not touched, since it is not ours: data in {', '.join(given)}\n")
    return 0


def scale(context: Context) -> int:
    """Tell the running supervisor other numbers of workers, and wait until they are there."""
    layout = context.layout
    pid = supervisor_pid(layout)
    running = read_json(layout.state)
    named = plan.counts_named(os.environ)
    if pid is None or "counts" not in running:
        raise StackError("not running; start it with `make up`")
    if running.get("engines_only"):
        raise StackError("only engines run here; stop them with `make down` first")
    if not named:
        raise StackError("say how many: make scale GATEWAYS=2 SEQUENCERS=3 ARCHIVERS=1 PROJECTORS=1")
    counts = plan.counts_from({**running["counts"], **named})
    log = layout.log("supervisor")
    write_whole(layout.wanted, json.dumps(counts.as_dict()))
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + SCALE_WITHIN_S
    while time.monotonic() < deadline:
        state = read_json(layout.state)
        if state.get("counts") == counts.as_dict() and state.get("phase") == "ready":
            return 0 if asyncio.run(show(context.settings, layout)) else 1
        time.sleep(POLL_S)
    raise StackError(f"not there after {SCALE_WITHIN_S:.0f} s; see {log}")


def build_page(context: Context) -> int:
    """Build the chat page."""
    context.layout.make()
    asyncio.run(page.build_alone(context.layout, Progress()))
    return 0
