"""The archiver: every event of the log into Cassandra (`room_log` and the views that follow from it)."""

from __future__ import annotations

from typing import Any, Final

from agents.durable import DurableReader
from app import app, events_topic, settings
from chat.failpoints import failpoint
from chat.stores.cassandra.archive import ArchiveStore
from chat.stores.model import Stored

EVENTS_MAX: Final = 5_000
"""Of one write: enough that the events of a room, which lie apart in the log, meet in one batch to their partition."""
IN_FLIGHT_MAX: Final = 2
LINGER_S: Final = 0.05
"""Nobody waits for the archive: a little patience halves the requests of a quiet system."""
AGAIN_S: Final = 60.0
"""A Cassandra node acknowledges up to `commitlog_sync_period` (10 s by default) before it has synced."""

archive = ArchiveStore(settings)


async def write(events: list[Stored]) -> None:
    """Archive `events`; harmless to repeat."""
    await archive.write_events(events)
    failpoint("archiver-mid-batch")


reader = DurableReader(
    app,
    settings,
    store="cassandra",
    write=write,
    events_max=EVENTS_MAX,
    in_flight_max=IN_FLIGHT_MAX,
    linger_s=LINGER_S,
    again_s=AGAIN_S,
    is_there=lambda: archive.is_there,
    parks=True,
    on_stop=archive.stop,
)


@app.agent(events_topic)
async def archive_room_events(stream: Any) -> None:
    """Take every record of the assigned partitions."""
    await reader.follow(stream)
