"""Is it there, and is it what we think? One exchange in each engine's own protocol, one request to a worker.

An open port is not enough: it may be a stranger's, and Kafka and Redis listen before they answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[bool]]
"""True when the other side is ready; never raises for one that is not."""

ANSWER_S = 2.0
"""An engine on loopback that has not answered by then is not ready."""

# ApiVersions v0, correlation id 7, client id of length 0; OPTIONS of CQL v4, stream 0.
_KAFKA_HELLO = bytes.fromhex("0000000a 0012 0000 00000007 0000".replace(" ", ""))
_CASSANDRA_HELLO = bytes.fromhex("04 00 0000 05 00000000".replace(" ", ""))


async def kafka(host: str, port: int) -> bool:
    """True when a Kafka broker answers there."""
    answer = await _exchange(host, port, _KAFKA_HELLO, 10)
    return answer[4:10] == bytes.fromhex("000000070000")


async def cassandra(host: str, port: int) -> bool:
    """True when a node of Cassandra takes CQL there."""
    answer = await _exchange(host, port, _CASSANDRA_HELLO, 9)
    return answer[:1] == b"\x84" and answer[4:5] == b"\x06"


async def redis(host: str, port: int) -> bool:
    """True when Redis answers there (one that asks for a password answers too)."""
    answer = await _exchange(host, port, b"PING\r\n", 5)
    return answer.startswith((b"+PONG", b"-NOAU"))


async def worker(host: str, port: int) -> bool:
    """True when a worker says that it is ready."""
    answer = await _exchange(host, port, _readyz(host, port), 12)
    return answer[9:12] == b"200"


async def waiting_for(host: str, port: int) -> str:
    """What a worker that is not ready says that it waits for; empty when it says nothing."""
    _, _, body = (await _exchange(host, port, _readyz(host, port), None)).partition(b"\r\n\r\n")
    try:
        reasons = json.loads(body)["waiting_for"]
        return ", ".join(f"{name}: {reason}" for name, reason in reasons.items())
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _readyz(host: str, port: int) -> bytes:
    return f"GET /readyz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()


async def _exchange(host: str, port: int, request: bytes, answer_bytes: int | None) -> bytes:
    """The first `answer_bytes` of the answer (None: all of it), or nothing."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            return await (reader.read() if answer_bytes is None else reader.readexactly(answer_bytes))
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
