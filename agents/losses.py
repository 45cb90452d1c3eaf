"""Operations for what cannot be repaired: `faust -A app accept-loss | replay-dead-letter`.

What they do stands in agents/mending/; docs/decisions/0007-accepted-losses.md argues why nobody is misled by it. As
with every operation (agents/operations.py): each may be repeated, and killed at any point.
"""

from __future__ import annotations

import sys
from functools import partial

import click
from faust.cli import argument, option

from agents.operations import WAIT, Operation
from app import app
from app import settings as config
from chat import failpoints
from chat.errors import RoomlogError

KAFKA = f"Kafka at {','.join(config.kafka_servers)}"
YES = option("--yes", is_flag=True, default=False, help="Do not ask.")


def accepted(self: Operation, what: str, *, yes: bool) -> bool:
    """Whether somebody says yes to `what`.

    Raises:
        RoomlogError: nobody is there to be asked.
    """
    self.say(what)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RoomlogError("nothing was changed: there is nobody to ask, and --yes was not given")
    return bool(click.confirm("Accept this?"))


@app.command(
    option(
        "--partition", type=click.IntRange(0, config.partitions - 1), required=True, help="The one that stands still."
    ),
    option(
        "--without-cassandra", is_flag=True, default=False, help="Cassandra lost events, too: `rebuild-tables` said so."
    ),
    YES,
    WAIT,
    base=Operation,
)
async def accept_loss(self: Operation, partition: int, without_cassandra: bool, yes: bool, wait_s: float) -> None:
    """Have a partition that stands still go on without what is lost. Says first what that is, and asks.

    Changes nothing when nothing is lost, or when another operation brings it back.
    """
    from agents.mending import commands, events  # noqa: PLC0415  (every worker imports this: its parts only when asked)
    from agents.upkeeping.rebuilding import engines  # noqa: PLC0415

    failpoints.arm(config.failpoint)
    async with engines(config) as (log, archive):
        find_loss = partial(events.find_loss, config, log, partition, cassandra=not without_cassandra)
        loss = await self.wait_for(wait_s, KAFKA, find_loss)
        gap = None
        if loss is None:
            gap = await self.wait_for(wait_s, KAFKA, lambda: commands.find_gap(config, log, partition))
        if loss is None and gap is None:
            self.say(f"partition {partition}: nothing is lost")
            return
        if not accepted(self, str(loss or gap), yes=yes):
            raise RoomlogError("nothing was changed")
        await log.start()
        if loss is not None:
            await self.wait_for(wait_s, "Cassandra", archive.ready)
            rooms = await events.accept_loss(config, log, archive, loss, self.say)
            self.say(f"{rooms} rooms are numbered anew")
            for role in loss.behind:
                self.say(
                    f"role {role} was behind what is lost: stop it, run `faust -A app begin-at-base {role}`, start it"
                )
        else:
            await commands.accept_gap(config, log, partition, self.say)
    self.say(f"partition {partition} goes on: a sequencer that stands still notices within a few seconds")


@app.command(
    argument("key", metavar="TOPIC-PARTITION-OFFSET"),
    option("--again", is_flag=True, default=False, help="Also when it was replayed before."),
    WAIT,
    base=Operation,
)
async def replay_dead_letter(self: Operation, key: str, again: bool, wait_s: float) -> None:
    """Append a command that was parked once more: it is decided anew, as if it had just been sent.

    Commands only: whatever else was parked is written by Roomlog itself.
    """
    from agents.mending import letters  # noqa: PLC0415  (as above)

    self.say(await self.wait_for(wait_s, KAFKA, lambda: letters.replay(config, key, again=again)))
