"""JSON Schema of everything that stands in the topics: the public interface for whoever reads them without us.

docs/schemas/ holds the documents (`faust -A app schema --write`), a test compares. A version `v` only ever gains
optional fields: readers ignore what they do not know.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chat.log.dead_letters import DeadLetter
from chat.records import Command, Event, Verdict, Writer

TYPES: Final[dict[str, Any]] = {
    "command": Command,
    "event": Event,
    "verdict": Verdict,
    "writer": Writer,
    "dead_letter": DeadLetter,
}
"""Documents by name."""


def document(name: str) -> str:
    """The JSON Schema of one kind of record, as text."""
    (root,), components = msgspec.json.schema_components([TYPES[name]], ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Roomlog {name.replace('_', ' ')}",
        **root,
        "$defs": dict(sorted(components.items())),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
