"""What people who run Roomlog type: `faust -A app migrate | topics | settings | schema | ...`.

Every operation may run twice and beside running workers, says what it does, and ends with status 0, or with one line
on standard error and status 1. Those that need an engine wait for one that is still starting (`--wait`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from faust.cli import AppCommand, option

from app import app
from app import settings as config
from chat import settings as roomlog_settings
from chat.errors import RoomlogError, Unavailable
from chat.log import topics as log_topics
from chat.stores.cassandra import migrations

_T = TypeVar("_T")

RETRY_S = 0.5

WAIT = option(
    "--wait", "wait_s", type=float, default=60.0, help="Seconds to wait for an engine that is still starting."
)


class Operation(AppCommand):
    """A command that runs on a loop of its own, without a worker, and says its errors in one line."""

    abstract: ClassVar[bool] = True

    def run_using_worker(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run to the end and leave with the exit status."""
        # aiokafka logs every try to connect; the operation says once what it waits for.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        try:
            asyncio.run(self.execute(*self.args, *args, **{**self.kwargs, **kwargs}))
        except RoomlogError as error:
            sys.stderr.write(f"roomlog: {error}\n")
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        raise SystemExit(0)

    async def wait_for(self, wait_s: float, what: str, call: Callable[[], Awaitable[_T]]) -> _T:
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
                self.say(f"waiting for {what}")
            await asyncio.sleep(RETRY_S)


@app.command(WAIT, base=Operation)
async def migrate(self: Operation, wait_s: float) -> None:
    """Make the Cassandra keyspace and its tables, or bring them up to date."""
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


@app.command(base=Operation)
async def settings(self: Operation) -> None:
    """Show every setting: environment variable, default, meaning (Markdown)."""
    self.say(roomlog_settings.document())
