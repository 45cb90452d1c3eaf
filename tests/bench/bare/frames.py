"""The least that anybody does to the frames that clients send: split the head off, and the head into headers.

No limits, no escapes, no states, no frame that spans two messages: what Roomlog spends beyond this is what it checks.
"""

from __future__ import annotations


def read(data: bytes) -> tuple[str, dict[str, str], bytes]:
    """Command, headers and body of the one frame in `data`."""
    head, _, body = data.partition(b"\n\n")
    command, *lines = head.decode().split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name, value)
    return command, headers, body.rstrip(b"\0")
