"""Having a reader begin where the log begins: for one whose position has been trimmed away under it.

A reader never resets its position by itself: what lies between would be missing in its store, unseen. Here somebody
says that this is known. For the projector it means nothing (Redis is rebuilt from Cassandra); for the archiver it means
that Cassandra has those events already, or never will.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from chat.errors import RoomlogError
from chat.log.bases import Base, begin_at, no_beginning, read_bases
from chat.log.positions import Checkpoint, commit, committed, live_members
from chat.log.taking import Position
from chat.log.topics import EVENTS
from chat.log.walking import Extent, extents
from chat.settings import Settings

ROLES: Final = ("archiver", "projector")


class Move(NamedTuple):
    """A position that lies before the log's beginning, and the one that takes its place."""

    partition: int
    before: int
    """Offset of the last record that this reader had written."""
    beginning: int
    position: Position

    def __str__(self) -> str:
        return (
            f"partition {self.partition}: offsets {self.before + 1} to {self.position.offset} were never read, "
            f"it goes on at {self.position.offset + 1}"
        )


async def begin_at_base(settings: Settings, role: str, partition: int | None) -> list[Move]:
    """Move what has to be moved of the positions of `role`, of one partition or of all; harmless to repeat.

    Raises:
        RoomlogError: a worker of that role is running, or a partition has no base.
        Unavailable: Kafka does not answer.
    """
    if members := await live_members(settings, role):
        raise RoomlogError(f"{members} worker(s) of role {role} are running: stop all of them first")
    held = await extents(settings, settings.topic(EVENTS))
    wanted = held if partition is None else {partition: held[partition]}
    moves = moves_of(settings.topic(EVENTS), wanted, await committed(settings, role), await read_bases(settings))
    if moves:
        await commit(settings, role, {move.partition: move.position for move in moves})
    return moves


def moves_of(
    topic: str, held: Mapping[int, Extent], known: Mapping[int, Checkpoint], bases: Mapping[int, Base]
) -> list[Move]:
    """Which positions have to be moved. Pure.

    Raises:
        RoomlogError: a partition that needs a base has none.
    """
    moves = []
    for partition, (beginning, _) in held.items():
        checkpoint = known.get(partition)
        if checkpoint is None or checkpoint.newest.offset + 1 >= beginning:
            continue
        position = begin_at(beginning, bases.get(partition))
        if position is None:
            raise RoomlogError(no_beginning(topic, partition, beginning))
        moves.append(Move(partition, checkpoint.newest.offset, beginning, position))
    return moves
