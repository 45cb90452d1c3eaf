"""The one process that starts a stack in order, keeps it alive and stops it in order.

Start: engines side by side, while the page is built; then migrations and topics; then all workers side by side; ready
when every gateway says so. Stop: gateways (their clients are told to go elsewhere), other workers, engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from chat.settings import Settings
from stack import engines, needs, page, plan, ports, roles
from stack.errors import StackError
from stack.layout import Layout, read_json, write_whole
from stack.plan import Counts
from stack.processes import end_orphans
from stack.progress import Progress
from stack.standby import Standby
from stack.watched import Service, Watched

ORPHANS_WITHIN_S = 30.0
OTHERS_READY_S = 30.0
"""The stack is ready when its gateways are; the other roles have this long to be ready with them, else it is said."""


class Supervisor:
    """A stack, from its first step to its last. The caller holds the stack's lock."""

    def __init__(self, settings: Settings, layout: Layout, counts: Counts, *, while_pid: int | None = None) -> None:
        self._settings = settings
        self._layout = layout
        self._counts = counts
        self._engines_only = counts == Counts.none()
        self._while_pid = while_pid
        self._progress = Progress()
        self._engines: dict[str, Watched] = {}
        self._workers: dict[str, Watched] = {}
        self._standby = Standby(layout)
        self._stop = asyncio.Event()
        self._rescale = asyncio.Event()
        self._phase = "starting"

    async def run(self) -> None:
        """Start all, watch until told to stop, stop all. `StackError` when the start fails, with all stopped again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._rescale.set)
        if self._while_pid is not None:
            # Readable when that process ends: a test run that is killed leaves no engines behind.
            loop.add_reader(_handle(self._while_pid), self._stop.set)
        try:
            if await self._unless_stopped(self._start()):
                await self._watch()
        finally:
            await self._stop_all()

    # ------------------------------------------------------------ start

    async def _start(self) -> None:
        settings, layout = self._settings, self._layout
        self._note()
        for orphan in await asyncio.to_thread(end_orphans, layout.data, ORPHANS_WITHIN_S):
            self._progress.say(orphan.name, f"was left by a supervisor that is gone (process {orphan.pid}): ended")
        ports.check(plan.ports(settings, self._counts), settings.web_host)
        programs = engines.programs_needed(settings)
        if not (self._engines_only or page.is_current()):
            programs |= {"node": page.node_min(), "npm": 0}
        await needs.provide(programs, layout, self._progress)
        starts = [self._start_engine(name) for name in plan.local_engines(settings)]
        starts.append(engines.check_external(settings))
        if not self._engines_only:
            starts.append(page.build(layout, self._progress))
        await _together(starts)
        if not self._engines_only:
            async with self._progress.step("data", "migrations and topics", "migrations and topics are there"):
                await _together(roles.operation(name, layout) for name in roles.OPERATIONS)
            await self._start_workers()
            self._standby.prepare()
        self._phase = "ready"
        self._note()
        self._progress.say(
            "roomlog", "engines are ready" if self._engines_only else f"ready: {roles.page_address(settings)}"
        )

    async def _start_engine(self, name: str) -> None:
        service = await engines.ENGINES_LOCAL[name](self._settings, self._layout, self._progress)
        self._engines[name] = watched = self._watched(service)
        async with self._progress.step(name, "starting", f"ready at {service.address}"):
            await watched.ready()

    async def _start_workers(self) -> None:
        wanted = {worker.name: worker for worker in plan.workers(self._settings, self._counts)}
        for name, worker in wanted.items():
            if name not in self._workers:
                self._workers[name] = self._watched(roles.service(worker, self._settings, self._layout))
        gateways = [name for name, worker in wanted.items() if worker.role == "gateway"]
        others = asyncio.gather(*(self._ready(name) for name in wanted if name not in gateways))
        try:
            await _together(self._ready(name) for name in gateways)
            await asyncio.wait_for(others, OTHERS_READY_S)
        except TimeoutError:
            late = [name for name in wanted if not self._workers[name].was_ready]
            self._progress.say("roomlog", f"not ready yet: {', '.join(late)}; see `make status` and `make logs`")
        finally:
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)

    async def _ready(self, name: str) -> None:
        watched = self._workers[name]
        if not watched.was_ready:
            async with self._progress.step(name, "starting", f"ready at {watched.service.address}"):
                await watched.ready()

    def _watched(self, service: Service) -> Watched:
        def tell(name: str, text: str) -> None:
            self._progress.say(name, text)
            self._note()

        return Watched(service, self._layout, tell, self._standby)

    # ------------------------------------------------------------ watch

    async def _watch(self) -> None:
        while True:
            rescale = asyncio.create_task(self._rescale.wait())
            await self._unless_stopped(_discard(rescale))
            rescale.cancel()
            if self._stop.is_set():
                return
            self._rescale.clear()
            try:
                await self._unless_stopped(self._scale())
            except StackError as error:
                self._progress.say("roomlog", f"scale: {error}")
            self._phase = "ready"
            self._note()

    async def _scale(self) -> None:
        counts = plan.counts_from(read_json(self._layout.wanted))
        new_ports = plan.ports(self._settings, counts)
        held = plan.ports(self._settings, self._counts)
        ports.check({port: whose for port, whose in new_ports.items() if port not in held}, self._settings.web_host)
        self._counts = counts
        self._phase = "scaling"
        self._note()
        wanted = {worker.name for worker in plan.workers(self._settings, counts)}
        leaving = [name for name in self._workers if name not in wanted]
        await asyncio.gather(*(self._stop_one(self._workers, name) for name in leaving))
        await self._start_workers()

    # ------------------------------------------------------------ stop

    async def _stop_all(self) -> None:
        self._phase = "stopping"
        self._note()
        self._progress.say("roomlog", "stopping")
        await self._standby.stop()
        gateways = [name for name in self._workers if name.startswith("gateway")]
        for group, names in (
            (self._workers, gateways),
            (self._workers, [name for name in self._workers if name not in gateways]),
            (self._engines, list(self._engines)),
        ):
            await asyncio.gather(*(self._stop_one(group, name) for name in names))
        self._layout.state.unlink(missing_ok=True)
        self._progress.say("roomlog", "stopped")

    async def _stop_one(self, group: dict[str, Watched], name: str) -> None:
        began = time.monotonic()
        await group[name].stop()
        del group[name]
        self._progress.say(name, f"stopped ({time.monotonic() - began:.1f} s)")

    # ------------------------------------------------------------ helpers

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, unless told to stop before it is done; then it is cancelled. True when it was done."""
        doing = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((doing, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if doing.done():
            doing.result()
            return True
        doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing
        return False

    def _note(self) -> None:
        """Write down what `status`, `up` and `scale` of other processes want to know."""
        services = {
            name: {"pid": watched.pid, "restarts": watched.restarts, "address": watched.service.address}
            for name, watched in {**self._engines, **self._workers}.items()
        }
        state = {
            "pid": os.getpid(),
            "phase": self._phase,
            "engines_only": self._engines_only,
            "counts": self._counts.as_dict(),
            "page": roles.page_address(self._settings),
            "services": services,
        }
        write_whole(self._layout.state, json.dumps(state))


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


def _handle(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise StackError(f"--while {pid}: {error.strerror}") from None


async def _discard(task: asyncio.Task[bool]) -> None:
    await task
