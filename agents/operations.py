"""What people who run Roomlog type: `faust -A app migrate | topics | rebuild-redis | dead-letters | ...`.

Every operation may run twice and beside running workers, says what it does, and ends with status 0, or with one line
on standard error and status 1 (`verify` says more by its status). Those that need an engine wait for one that is still
starting (`--wait`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import click
import msgspec
from faust.cli import AppCommand, argument, option

from agents.dead_letters import describe, find_parked, parked
from app import app
from app import settings as config
from chat import logs, schemas
from chat import settings as roomlog_settings
from chat.errors import BrokenInvariant, RoomlogError, Unavailable
from chat.log import topics as log_topics

_T = TypeVar("_T")

RETRY_S = 0.5
SCHEMA_FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"

WAIT = option(
    "--wait", "wait_s", type=float, default=60.0, help="Seconds to wait for an engine that is still starting."
)


class Operation(AppCommand):
    """A command that runs on a loop of its own, without a worker, and says its errors in one line."""

    abstract: ClassVar[bool] = True

    def run_using_worker(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run to the end and leave with the exit status."""
        # The operation says once what it waits for; logs of each try would hide that.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logs.configure(replace(config, log_level="error"))
        try:
            asyncio.run(self.execute(*self.args, *args, **{**self.kwargs, **kwargs}))
        except RoomlogError as error:
            sys.stderr.write(f"roomlog: {error}\n")
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        raise SystemExit(0)

    async def wait_for(
        self, wait_s: float, what: str, call: Callable[[], Awaitable[_T]], *, say: Callable[[str], None] | None = None
    ) -> _T:
        """The result of `call()`, tried again for `wait_s` seconds while it raises `Unavailable`."""
        deadline = time.monotonic() + wait_s
        waiting = False
        while True:
            try:
                return await call()
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
            if not waiting:
                waiting = True
                (say or self.say)(f"waiting for {what}")
            await asyncio.sleep(RETRY_S)


@app.command(WAIT, base=Operation)
async def migrate(self: Operation, wait_s: float) -> None:
    """Make the Cassandra keyspace and its tables, or bring them up to date."""
    from chat.stores.cassandra import migrations  # noqa: PLC0415  (drivers cost every worker a part of its start)

    applied = await asyncio.to_thread(migrations.migrate, config, wait_s=wait_s, say=self.say)
    self.say(f"keyspace {config.keyspace}: " + (f"{applied} migration(s) applied" if applied else "up to date"))


@app.command(
    WAIT,
    option("--check", is_flag=True, default=False, help="Make nothing: say what is missing or set otherwise."),
    base=Operation,
)
async def topics(self: Operation, wait_s: float, check: bool) -> None:
    """Make the Kafka topics that are missing; refuse those that are set otherwise."""
    kafka = f"Kafka at {','.join(config.kafka_servers)}"
    if check:
        await self.wait_for(wait_s, kafka, lambda: log_topics.check_topics(config))
    else:
        for name in await self.wait_for(wait_s, kafka, lambda: log_topics.create_topics(config)):
            self.say(f"made topic {name}")
    self.say(f"{len(log_topics.topics(config))} topics with {config.partitions} partitions each are as they must be")


@app.command(WAIT, base=Operation)
async def rebuild_redis(self: Operation, wait_s: float) -> None:
    """Empty the room directory and the recent tails in Redis; returns when the projector has rebuilt them.

    Safe while everything runs: lists and resumes are read from Cassandra meanwhile, no message is late.
    """
    from chat.stores.redis import Projection  # noqa: PLC0415  (as above)

    projection = Projection(config)
    try:
        redis = f"Redis at {config.redis_address[0]}:{config.redis_address[1]}"
        removed = await self.wait_for(wait_s, redis, projection.clear)
        self.say(f"{removed} rooms and tails removed; the projector brings them back")
        deadline = time.monotonic() + wait_s
        shown = -1
        while (done := len(await projection.whole())) < config.partitions:
            if done != shown:
                shown = done
                self.say(f"{done} of {config.partitions} partitions rebuilt")
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"{done} of {config.partitions} partitions rebuilt after {wait_s:g} s: does a projector run, and "
                    "does Cassandra answer? It goes on by itself; run this again to watch it"
                )
            await asyncio.sleep(RETRY_S)
        self.say(f"all {config.partitions} partitions rebuilt")
    finally:
        await projection.stop()


@app.command(
    WAIT,
    option("--limit", type=int, default=20, help="Show the newest so many."),
    option("--json", "as_json", is_flag=True, default=False, help="One JSON object a line, originals included."),
    option("--show", "key", metavar="TOPIC-PARTITION-OFFSET", help="Show one of them whole, as far as it decodes."),
    base=Operation,
)
async def dead_letters(self: Operation, wait_s: float, limit: int, as_json: bool, key: str | None) -> None:
    """Show records that no code of ours wrote: where they were found, and why they were parked."""
    kafka = f"Kafka at {','.join(config.kafka_servers)}"
    if key is not None:
        for line in describe(await self.wait_for(wait_s, kafka, lambda: find_parked(config, key))):
            self.say(line)
        return
    found, count = await self.wait_for(wait_s, kafka, lambda: parked(config, max(limit, 1)))
    for one in found:
        letter = one.letter
        if as_json:
            self.say(msgspec.json.encode(letter).decode())
            continue
        at = datetime.fromtimestamp(one.at_ms / 1000, UTC).isoformat(timespec="seconds")
        done = f"  (replayed {one.replayed[-1]})" if one.replayed else ""
        self.say(f"{at}  {letter.topic}-{letter.partition}-{letter.offset}  {letter.code}  {letter.detail}{done}")
    if not as_json:
        self.say(f"{len(found)} of {count} dead letters")


@app.command(
    WAIT,
    option("--room", default=None, help="This room only."),
    option(
        "--partition", type=click.IntRange(0, config.partitions - 1), default=None, help="The rooms of this one only."
    ),
    option("--json", "as_json", is_flag=True, default=False, help="Findings as JSON objects, one a line."),
    base=Operation,
)
async def verify(self: Operation, wait_s: float, room: str | None, partition: int | None, as_json: bool) -> None:
    """Compare the log, Cassandra and Redis, event by event. Status 0: they agree; 1: they do not; 2: not all was read.

    Safe while everything runs. Changes nothing.
    """
    from agents.progress import Progress  # noqa: PLC0415  (as above)
    from agents.verify import Audit  # noqa: PLC0415  (as above)

    say: Callable[[str], None] = partial(click.echo, err=True) if as_json else self.say
    with Progress("records") as progress:
        audit = Audit(config, room=room, partition=partition, say=say, progress=progress)
        summary = audit.summary
        try:
            await self.wait_for(wait_s, "Kafka, Cassandra and Redis", audit.connect, say=say)
            await audit.run(wait_s)
        except (Unavailable, BrokenInvariant) as error:
            summary.unread.append(f"stopped: {error}")
        finally:
            await audit.stop()
    for finding in summary.findings:
        self.say(finding.encode() if as_json else str(finding))
    for line in summary.unread:
        sys.stderr.write(f"roomlog: {line}\n")
    say(str(summary))
    raise SystemExit(summary.status)


@app.command(base=Operation)
async def settings(self: Operation) -> None:
    """Show every setting: environment variable, default, meaning (Markdown)."""
    self.say(roomlog_settings.document())


@app.command(
    argument("name", type=click.Choice(sorted(schemas.TYPES)), required=False),
    option("--write", is_flag=True, default=False, help="Write all of them into docs/schemas/ instead."),
    base=Operation,
)
async def schema(self: Operation, name: str | None, write: bool) -> None:
    """Show the JSON Schema of a kind of record (command, event, verdict, writer, dead_letter)."""
    if write:
        for each in schemas.TYPES:
            path = SCHEMA_FOLDER / f"{each}.json"
            path.write_text(schemas.document(each), encoding="utf-8")
            self.say(f"wrote {path.relative_to(SCHEMA_FOLDER.parent.parent)}")
    else:
        self.say(schemas.document(name or "event").rstrip())
