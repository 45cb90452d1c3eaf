"""Replaying a dead letter: a command that was parked is appended to `room.commands` once more.

It gets a new offset and with it an answer of its own; the refusal that it got first stays in the log. That it was
replayed is written down twice: before, so that a run that was killed does not do it twice unasked, and afterwards with
the place.
"""

from __future__ import annotations

from agents.dead_letters import find_parked
from agents.sequencing.intake import read_command
from chat.errors import Refused, RoomlogError
from chat.ids import is_id
from chat.log.dead_letters import DeadLetter
from chat.log.producer import Record, append, append_batches, running_producer
from chat.log.topics import COMMANDS, DEAD_LETTERS, EVENTS, partition_of, record_bytes_max
from chat.settings import Settings


async def replay(settings: Settings, key: str, *, again: bool) -> str:
    """Append the original of the dead letter `key` to its topic; what was done, in a line.

    Raises:
        RoomlogError: it cannot be replayed, or it was (and `again` is false). Nothing was appended.
        UnknownVersion: it is of a newer version than this one.
        Unavailable: Kafka does not answer.
    """
    found = await find_parked(settings, key)
    if found.replayed and not again:
        raise RoomlogError(f"{key} was replayed already ({found.replayed[-1]}): --again does it once more")
    original = found.letter.original()
    partition = _place(settings, found.letter, original)
    topic, letters = settings.topic(COMMANDS), settings.topic(DEAD_LETTERS)
    async with running_producer(settings, "replay") as producer:
        await append(producer, letters, found.stands_in, [found.letter.mark("begun, place unknown")])
        offset = -1
        async for base, _ in append_batches(producer, topic, partition, [original]):
            offset = base
        await append(producer, letters, found.stands_in, [found.letter.mark(f"as {topic}-{partition}-{offset}")])
    return f"appended as {topic}-{partition}-{offset}: the sequencer decides it anew"


def _place(settings: Settings, letter: DeadLetter, original: Record) -> int:
    """The partition that the command belongs to, once it is known that the sequencer will not park it again."""
    if letter.topic != settings.topic(COMMANDS):
        why = "an event is only ever written by the sequencer" if letter.topic == settings.topic(EVENTS) else (
            "only commands are replayed"
        )  # fmt: skip
        raise RoomlogError(f"this was found in {letter.topic}: {why}")
    if letter.truncated:
        raise RoomlogError("the original was larger than what is kept of it: it is still in its topic for some days")
    room = (original.key or b"").decode("utf-8", "replace")
    partition = partition_of(room, settings.partitions) if is_id(room) else letter.partition
    try:
        read_command(
            original.key,
            original.value,
            tuple(original.headers),
            partition=partition,
            partitions=settings.partitions,
            value_bytes_max=record_bytes_max(settings),
        )
    except Refused as refusal:
        raise RoomlogError(f"it would be parked again: {refusal}") from None
    return partition
