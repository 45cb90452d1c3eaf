"""The sequencer's state as Faust tables: one row a room, a member, a sender; one checkpoint a partition.

Keys and values are bytes; what stands in them is agents/sequencing/rows.py. Faust owns which partitions are here and
reads the changelogs at an assignment; the rows are written by agents/sequencing/snapshots.py with a producer of our own
(docs/decisions/0003-snapshots.md says why). Read a row only through the partition's writer: nobody else knows whether
it is current.
"""

from __future__ import annotations

from typing import Any

from app import app, settings
from chat.log.topics import changelog


def _table(name: str, help_text: str) -> Any:
    return app.Table(
        name,
        help=help_text,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        changelog_topic=app.topic(
            settings.topic(changelog(name)), key_type=bytes, value_type=bytes, partitions=settings.partitions
        ),
    )


rooms = _table("rooms", "head of each room: seq, epoch, chain, counts")
members = _table("members", "one row a member: role, since which event")
senders = _table("senders", "one row a room and user that posted: ids and numbers of the last events")
checkpoints = _table("checkpoints", "one row a partition: how far its events are in the rows")
