"""The Faust application, and the map of the system.

    client --STOMP/WebSocket--> gateway --command--> [room.commands] --> sequencer --event--> [room.events]
    [room.events] --> every gateway's tail --> subscribers; archiver --> Cassandra; projector --> Redis

Topics (key = room id, raw bytes, one partition count for all):

* `room.commands`      written by gateways and back ends; read by the sequencer
* `room.events`        written by the sequencer only; read by everybody: the truth
* `room.dead_letters`  written by any role that meets a record nobody of ours wrote; read by operators
* changelogs of the tables in tables/: written and read by the sequencer

One process does one role (`ROOMLOG_ROLE`), with a consumer group of its own, so that a slow one never blocks another.
`faust -A app worker` starts it; `faust -A app --help` lists the operations.
"""

from __future__ import annotations

import sys
from pathlib import Path

# `faust` takes the working directory off the path once this module is imported: put ours there for good.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from agents.engine import RoomlogApp
from chat import logs
from chat import settings as roomlog_settings

settings = roomlog_settings.load_or_exit()
logs.configure(settings)

MODULES = {
    "gateway": ["web.gateway", "web.api", "web.pages"],
    "sequencer": ["tables.rows", "agents.sequencer"],
    "archiver": ["agents.archiver"],
    "projector": ["agents.projector"],
}
"""What each role imports, beside `EVERYWHERE`."""
EVERYWHERE = ["web.health", "agents.operations", "agents.upkeep", "agents.losses"]

app = RoomlogApp.for_role(settings, modules=[*MODULES[settings.role], *EVERYWHERE])

commands_topic = app.topic(settings.topic("room.commands"), key_type=bytes, value_type=bytes)
events_topic = app.topic(settings.topic("room.events"), key_type=bytes, value_type=bytes, acks=False)
