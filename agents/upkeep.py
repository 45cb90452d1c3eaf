"""Operations that keep the log and the stores in shape: `faust -A app trim | rebuild-tables | re-archive | ...`.

What they do stands in agents/upkeeping/; docs/operations.md, "Recovery operations", says when which one is right and
what it costs. As with every operation (agents/operations.py): each may be repeated, and killed at any point.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
from faust.cli import argument, option

from agents.operations import WAIT, Operation
from agents.progress import Progress
from app import app
from app import settings as config
from chat import failpoints

KAFKA = f"Kafka at {','.join(config.kafka_servers)}"

PARTITION = option(
    "--partition", type=click.IntRange(0, config.partitions - 1), default=None, help="This one; else all of them."
)
FOLDER = argument("folder", type=click.Path(file_okay=False, path_type=Path))


def tell(line: str) -> None:
    """Say how far it is, on standard error: what an operation did goes to standard output."""
    click.echo(line, err=True)


@app.command(
    WAIT,
    option("--keep-days", type=float, default=None, help="Days to keep; else ROOMLOG_EVENTS_RETENTION_DAYS."),
    option("--dry-run", is_flag=True, default=False, help="Delete nothing: say what would go."),
    base=Operation,
)
async def trim(self: Operation, wait_s: float, keep_days: float | None, dry_run: bool) -> None:
    """Delete the oldest events of the log that both stores have and no recovery needs.

    Safe while everything runs. Cassandra keeps every event; what goes is the log's copy.
    """
    from agents.upkeeping import trimming  # noqa: PLC0415  (every worker imports this module: its parts only when asked)

    failpoints.arm(config.failpoint)
    keep_s = (config.events_retention_days if keep_days is None else max(keep_days, 0.0)) * 86_400
    cuts = await self.wait_for(wait_s, KAFKA, lambda: trimming.plan(config, keep_s, time.time()))
    for each in cuts:
        self.say(str(each))
    if dry_run:
        self.say(f"{sum(c.last + 1 - c.extent.beginning for c in cuts if c.origin)} records would be deleted")
        return
    self.say(f"{await trimming.trim(config, cuts, self.say, tell)} records deleted")


@app.command(
    argument("role", type=click.Choice(["archiver", "projector"])),
    WAIT,
    PARTITION,
    base=Operation,
)
async def begin_at_base(self: Operation, role: str, wait_s: float, partition: int | None) -> None:
    """Have a reader whose position was trimmed away begin where the log begins.

    Only while no worker of that role runs. What it never read stays missing in its store, if it is missing there.
    """
    from agents.upkeeping.beginning import begin_at_base as move  # noqa: PLC0415  (as above)

    moves = await self.wait_for(wait_s, KAFKA, lambda: move(config, role, partition))
    for each in moves:
        self.say(str(each))
    self.say(f"{len(moves)} positions of role {role} moved")


@app.command(WAIT, PARTITION, base=Operation)
async def rebuild_tables(self: Operation, wait_s: float, partition: int | None) -> None:
    """Make the sequencer's tables again from Cassandra and the log, where their changelogs are gone.

    While a sequencer runs, only partitions that stand still: it notices by itself.
    """
    from agents.upkeeping import rebuilding  # noqa: PLC0415  (as above)

    failpoints.arm(config.failpoint)
    wanted = range(config.partitions) if partition is None else [partition]
    engines = f"{KAFKA} and Cassandra"
    async with rebuilding.engines(config) as (log, archive):
        due = await self.wait_for(wait_s, engines, lambda: rebuilding.due(config, log, archive, wanted))
        async for rebuilt in rebuilding.rebuild(config, log, archive, due, tell):
            self.say(str(rebuilt))


@app.command(
    WAIT,
    PARTITION,
    option("--from-start", is_flag=True, default=False, help="Refuse a log that was trimmed."),
    option("--overwrite", is_flag=True, default=False, help="Also rows that somebody wrote over, with newer stamps."),
    base=Operation,
)
async def re_archive(self: Operation, wait_s: float, partition: int | None, from_start: bool, overwrite: bool) -> None:
    """Write every event that the log holds into Cassandra again.

    Safe while everything runs. Brings back what is missing; what was written over only with --overwrite.
    """
    from agents.upkeeping import rearchiving  # noqa: PLC0415  (as above)
    from chat.stores.cassandra.archive import ArchiveStore  # noqa: PLC0415

    failpoints.arm(config.failpoint)
    store = ArchiveStore(config)
    try:
        await self.wait_for(wait_s, "Cassandra", lambda: store.write_events([]))
        stretches = await self.wait_for(
            wait_s, KAFKA, lambda: rearchiving.stretches(config, partition, from_start=from_start)
        )
        total = sum(each.records for each in stretches)
        with Progress("records") as progress:
            rearchiver = rearchiving.Rearchiver(
                config, store, overwrite=overwrite, wait_s=wait_s, tell=lambda read: progress(read, total)
            )
            for each in stretches:
                events, skipped = await rearchiver.archive(each)
                unread = f", {skipped} records hold no event (see `dead-letters`)" if skipped else ""
                self.say(f"partition {each.partition}: {events} events from offset {each.start.offset + 1} on{unread}")
    finally:
        await store.stop()


@app.command(FOLDER, WAIT, base=Operation)
async def backup(self: Operation, folder: Path, wait_s: float) -> None:
    """Write every event of every room into files in FOLDER, while everything runs.

    Finished when manifest.json is there. Each partition is whole up to a moment between begin and end.
    """
    from agents.upkeeping.backup import back_up  # noqa: PLC0415  (as above)
    from chat.log.topics import check_topics  # noqa: PLC0415
    from chat.stores.cassandra.raw import RawArchive  # noqa: PLC0415

    failpoints.arm(config.failpoint)
    archive = RawArchive(config)
    try:
        await self.wait_for(wait_s, KAFKA, lambda: check_topics(config))
        await self.wait_for(wait_s, "Cassandra", archive.ready)
        with Progress("partitions") as progress:
            manifest = await back_up(config, archive, folder, lambda done, _: progress(done, config.partitions))
    finally:
        await archive.stop()
    events, rooms = sum(part.events for part in manifest.parts), sum(part.rooms for part in manifest.parts)
    self.say(f"{events} events of {rooms} rooms in {folder}, from {manifest.began_at} to {manifest.ended_at}")


@app.command(
    FOLDER,
    WAIT,
    option(
        "--new-epoch", is_flag=True, default=False, help="Clients saw more than the backup has: renumber all rooms."
    ),
    base=Operation,
)
async def restore(self: Operation, folder: Path, wait_s: float, new_epoch: bool) -> None:
    """Bring a backup back into an empty namespace, before any worker of it is started.

    Makes keyspace and topics, writes the archive, the sequencer's tables, and empties Redis.
    """
    from agents.upkeeping import files, rebuilding  # noqa: PLC0415  (as above)
    from agents.upkeeping import restore as restoring  # noqa: PLC0415
    from chat.log.topics import create_topics  # noqa: PLC0415
    from chat.stores.cassandra import migrations  # noqa: PLC0415
    from chat.stores.cassandra.archive import ArchiveStore  # noqa: PLC0415
    from chat.stores.redis import Projection  # noqa: PLC0415

    failpoints.arm(config.failpoint)
    manifest = await asyncio.to_thread(files.read_manifest, folder)
    ends = restoring.all_ends(folder, manifest)
    await self.wait_for(wait_s, KAFKA, lambda: create_topics(config))
    await asyncio.to_thread(migrations.migrate, config, wait_s=wait_s, say=self.say)
    store, projection = ArchiveStore(config), Projection(config)
    async with rebuilding.engines(config) as (log, archive):
        try:
            await self.wait_for(wait_s, f"{KAFKA} and Cassandra", lambda: rebuilding.connect(config, log, archive))
            await restoring.check_empty(config, log, archive, ends)
            with Progress("events") as progress:
                await restoring.write_archive(store, folder, manifest, progress)
            await restoring.make_tables(config, log, archive, self.say, tell)
            await self.wait_for(wait_s, "Redis", projection.clear)
            if new_epoch:
                self.say(f"{await restoring.renumber(config, ends.values())} rooms get a new epoch from the sequencer")
        finally:
            await store.stop()
            await projection.stop()
    self.say(f"{len(ends)} rooms restored from {folder}: start the workers")
