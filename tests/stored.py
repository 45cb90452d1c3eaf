"""Rooms in the log, in Cassandra and in Redis as sequencer, archiver and projector leave them, without those processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from chat.log.positions import commit
from chat.log.taking import Position
from chat.records import Command, Event, encode
from chat.settings import Settings
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.model import Stored
from chat.stores.redis import Projection
from tests.eventlog import EventLog


class StoredLog(EventLog):
    """An event log whose events are in both stores when `commands` returns, and whose readers have committed that."""

    def __init__(self, settings: Settings, state: dict[str, Any] | None = None) -> None:
        """`state`: an empty dictionary, or what a log before this one, on the same topics, has left in it."""
        super().__init__(settings)
        self.offsets: dict[int, int] = {}
        self._state = {} if state is None else state
        vars(self).update(self._state)
        self._archive = ArchiveStore(settings)
        self._projection = Projection(settings)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for partition in range(self.settings.partitions):
            if partition not in self.terms:
                await self.fence(partition)
        await self._projection.begin_rebuild(range(self.settings.partitions), "test")
        for partition in range(self.settings.partitions):
            await self._projection.finish_rebuild(partition, "test")
        await self.committed()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.update({name: getattr(self, name) for name in ("rooms", "terms", "srcs", "at", "offsets")})
        await self._archive.stop()
        await self._projection.clear()
        await self._projection.stop()
        await super().__aexit__(kind, error, trace)

    async def commands(self, commands: Iterable[Command]) -> list[Event]:
        """Decide and append `commands`, store what they came to."""
        events = await super().commands(commands)
        await self.store(events)
        await self.committed()
        return events

    async def store(self, events: Iterable[Event]) -> None:
        """What archiver and projector do."""
        stored = [Stored(event, encode(event)) for event in events]
        await self._archive.write_events(stored)
        await self._projection.write_events(stored)

    async def committed(self, *, roles: Iterable[str] = ("archiver", "projector")) -> None:
        """Commit where the log ends as what `roles` have reached."""
        positions = {p: Position(self.offsets[p], self.srcs[p], self.terms[p]) for p in self.offsets}
        await asyncio.gather(*(commit(self.settings, role, positions) for role in roles))

    async def raw(self, partition: int, *records: object) -> int:
        """Append records as they are; the offset of the first."""
        first = await super().raw(partition, *records)  # type: ignore[arg-type]
        self.offsets[partition] = first + len(records) - 1
        return first
