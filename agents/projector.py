"""The projector: every event of the log into Redis (the directory of rooms, the last events of active ones).

Redis may lose everything at any time. Each partition of the log has a mark there that says its rooms are all there;
once a second the projector looks for the marks of its partitions and rebuilds where one is missing, while it goes on:

1. note how far the archiver is, and how far this reader is;
2. copy the partition's rooms from Cassandra: they are true at the archiver's position or later;
3. read the log again from the archiver's position on, until where this reader had been;
4. set the mark, unless Redis lost its memory once more since the attempt began.

Whatever is written meanwhile mixes with that in any order: of two values the one with the higher seq stays.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from agents.durable import DurableReader
from app import app, events_topic, settings
from chat import logs, metrics
from chat.errors import Unavailable
from chat.failpoints import failpoint
from chat.log.positions import archiver_positions
from chat.log.taking import START, Position
from chat.log.topics import partition_of
from chat.readiness import readiness
from chat.stores.cassandra.history import LIST_MAX, HistoryStore
from chat.stores.model import Stored
from chat.stores.redis import Projection

log = logs.get(__name__)

EVENTS_MAX: Final = 2_000
LINGER_S: Final = 0.01
"""Lists may be a moment behind, resumes look here first: short."""
LOOK_PERIOD_S: Final = 1.0
POLL_S: Final = 0.05

projection = Projection(settings)
history = HistoryStore(settings)


async def write(events: list[Stored]) -> None:
    """Bring directory and tails up to date; harmless to repeat."""
    await projection.write_events(events)
    failpoint("projector-mid-batch")


# ---------------------------------------------------------------- rebuild


async def keep_whole() -> None:
    """Rebuild what Redis has lost, as soon as it shows; for ever."""
    while True:
        try:
            if missing := reader.positions().keys() - await projection.whole():
                readiness.lost("directory", f"{len(missing)} partitions are being rebuilt")
                await rebuild(missing)
            readiness.ok("directory")
        except Unavailable as error:
            readiness.lost("directory", str(error))
        await asyncio.sleep(LOOK_PERIOD_S)


async def rebuild(partitions: set[int]) -> None:
    """Bring all rooms of `partitions` back. `Unavailable`: an engine is away, call it again."""
    attempt = secrets.token_hex(8)
    await projection.begin_rebuild(partitions, attempt)
    archived = await archiver_positions(settings)
    reached = reader.positions()
    rooms = await _copy_rooms(partitions)
    failpoint("projector-mid-rebuild")
    await reader.rewind({partition: archived.get(partition, START) for partition in partitions})
    for partition in partitions & reached.keys():
        if await _until_written(partition, reached[partition]) and await projection.finish_rebuild(partition, attempt):
            metrics.projector_rebuilds.inc()
    log.info("directory_rebuilt", partitions=len(partitions), rooms=rooms)


async def _copy_rooms(partitions: set[int]) -> int:
    copied = 0
    after: str | None = None
    while page := await history.list_rooms(LIST_MAX, after):
        after = page[-1].room
        mine = [info for info in page if partition_of(info.room, settings.partitions) in partitions]
        await projection.write_rooms(mine)
        copied += len(mine)
    return copied


async def _until_written(partition: int, position: Position) -> bool:
    # False when the partition went to another worker, which finds the mark missing, too.
    while (written := reader.written(partition)) is not None:
        if written.offset >= position.offset:
            return True
        await asyncio.sleep(POLL_S)
    return False


async def stop() -> None:
    """Close the stores."""
    await projection.stop()
    await history.stop()


readiness.expect("directory")
reader = DurableReader(
    app,
    settings,
    store="redis",
    write=write,
    events_max=EVENTS_MAX,
    in_flight_max=1,  # a tail takes the events of a room in their order
    linger_s=LINGER_S,
    beside=keep_whole,
    on_stop=stop,
)


@app.agent(events_topic)
async def project_room_events(stream: Any) -> None:
    """Take every record of the assigned partitions."""
    await reader.follow(stream)
