"""A gateway without engines: the real one, over real sockets, and behind it a log in memory that the real rules write.

What is replaced is Kafka (a producer that sequences at once), Cassandra and Redis (the events in a list), and the tail.
For tests that throw thousands of connections at dispatch; whether the engines agree is asked in tests/integration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from agents.sequencing.intake import read_command
from agents.sequencing.rows import TABLES, Rows
from chat.auth import OpenIdentity
from chat.log.commands import CommandLog
from chat.log.taking import Take
from chat.readiness import readiness
from chat.records import Event, encode, header, record_headers
from chat.rooms.decide import decide, log_time
from chat.settings import load
from chat.stomp.limits import Limits
from tests.conformance.wire import Peer, connected
from web.dispatch import Dispatch
from web.gateway import WHEEL_SLOTS, Gateway
from web.hub import Hub
from web.inflight import InFlight

SETTINGS = load(
    {
        "ROOMLOG_CONNECT_BYTES_MAX": "1024",
        "ROOMLOG_HEADERS_MAX": "12",
        "ROOMLOG_HEADER_BYTES_MAX": "256",
        "ROOMLOG_PASSED_HEADERS_BYTES_MAX": "256",
        "ROOMLOG_BODY_BYTES_MAX": "1024",
        "ROOMLOG_SUBSCRIPTIONS_MAX": "6",
        "ROOMLOG_TRANSACTIONS_MAX": "2",
        "ROOMLOG_TRANSACTION_FRAMES_MAX": "4",
        "ROOMLOG_TRANSACTION_BYTES_MAX": "2048",
        "ROOMLOG_ACK_WINDOW": "3",
        "ROOMLOG_IN_FLIGHT_CONNECTION_MAX": "6",
        "ROOMLOG_IN_FLIGHT_USER_ROOM_MAX": "4",
    }
)
"""Small bounds, so that a short run meets all of them."""

DEADLINE_S = 20.0
BYSTANDER = "bystander"


class Batch:
    """What a producer fills."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, Any]] = []

    def append(self, *, key: bytes, value: bytes, timestamp: int | None, headers: Any) -> bool:
        del timestamp
        self.records.append((key, value, tuple(headers)))
        return True

    def close(self) -> None:
        pass


class MemoryLog:
    """Producer, sequencer, tail and history in one: an appended command is answered one turn of the loop later."""

    def __init__(self) -> None:
        self.hub: Hub | None = None
        self.rows = Rows(0, {table: {} for table in TABLES})
        self.events: dict[str, list[Event]] = {}
        self.src = 0
        self.at = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        del topic
        loop = asyncio.get_running_loop()
        loop.call_soon(self._sequence, batch, partition)
        done: asyncio.Future[None] = loop.create_future()
        done.set_result(None)
        return done

    def _sequence(self, batch: Batch, partition: int) -> None:
        assert self.hub is not None
        for key, value, headers in batch.records:
            # A gateway that appends what the sequencer refuses to read has let something through.
            command, _ = read_command(
                key, value, headers, partition=partition, partitions=SETTINGS.partitions, value_bytes_max=1_000_000
            )
            self.at = log_time(0, self.at)
            answer = decide(self.rows.of(getattr(command, "room", "")), command, self.at)
            take, kind = Take.VERDICT, "verdict"
            if isinstance(answer, Event):
                self.rows.fold(answer)
                self.events.setdefault(answer.room, []).append(answer)
                take, kind = Take.EVENT, str(answer.kind)
            record = SimpleNamespace(
                key=key,
                value=encode(answer),
                headers=tuple(record_headers(self.src, 0, kind, header(headers, "cmd"))),
                timestamp=0,
                partition=partition,
                offset=self.src,
            )
            self.src += 1
            self.hub.record(take, record)

    async def read(self, room: str, from_seq: int, limit: int, **_: Any) -> tuple[list[Event], str]:
        await asyncio.sleep(0)
        return self.events.get(room, [])[from_seq - 1 : from_seq - 1 + limit], "cassandra"


class GatewayAlone(Gateway):
    """The gateway's connections, without what it starts."""

    def __init__(self) -> None:
        self.settings = SETTINGS
        self.authenticator = OpenIdentity()
        self.now = asyncio.get_running_loop().time
        self.limits = Limits.from_settings(SETTINGS)
        self.server_name = "roomlog/test"
        self.connections = set()
        self.in_flight = InFlight(
            per_connection=SETTINGS.in_flight_connection_max, per_user_room=SETTINGS.in_flight_user_room_max
        )
        self.log = MemoryLog()
        self.commands = CommandLog(
            lambda: self.log,  # type: ignore[arg-type,return-value]
            "commands",
            SETTINGS.partitions,
            timeout_s=SETTINGS.command_timeout_s,
            limit=SETTINGS.in_flight_max,
            bytes_max=SETTINGS.in_flight_bytes_max,
            clock=self.now,
        )
        self.hub = self.log.hub = Hub(self.commands, self.log, creates_on_first_use=True)  # type: ignore[arg-type]
        self.dispatch = Dispatch(self)
        self.draining = False
        self._wheel = [set() for _ in range(WHEEL_SLOTS)]
        self._opened = self._admitted = 0
        self._admitted_at = 0.0

    @property
    def at_rest(self) -> bool:
        """Nothing that was read waits for anything."""
        return not (self.in_flight.total or len(self.commands) or self.hub._watches or self.hub._catch_ups)


class Complaints:
    """Stands for the loggers of the web side, and keeps what is worse than a warning."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def debug(self, event: str, **_: Any) -> None:
        pass

    info = warning = debug

    def error(self, event: str, **fields: Any) -> None:
        self.heard.append(f"{event} {fields}")

    critical = exception = error


class World:
    """A gateway, and somebody on it who must notice nothing."""

    def __init__(self, gateway: GatewayAlone, port: int, bystander: Peer, complaints: Complaints) -> None:
        self.gateway = gateway
        self.port = port
        self.complaints = complaints
        self._bystander = bystander
        self._posts = 0

    async def until(self, condition: Any, what: str) -> None:
        """Wait for `condition()`."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise AssertionError(f"{what} within {DEADLINE_S} s") from None

    async def nobody_else_noticed(self) -> None:
        """The bystander posts and reads as ever, nothing is left of anybody else, and nothing was complained about."""
        gateway = self.gateway
        await self.until(lambda: len(gateway.connections) == 1, "only the bystander is connected")
        await self.until(lambda: gateway.at_rest, "no command waits")
        self._posts += 1
        await self._bystander.send("SEND", "hello", destination=f"/room/{BYSTANDER}", receipt=str(self._posts))
        message = await self._bystander.expect("MESSAGE", x_seq=str(self._posts))
        assert message.body == b"hello"
        await self._bystander.expect("RECEIPT", receipt_id=str(self._posts), x_seq=str(self._posts))
        assert set(gateway.hub._rooms) == {BYSTANDER.encode()}
        assert not gateway.in_flight._counts
        assert self.complaints.heard == []


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A gateway of its own on a free port."""
    complaints = Complaints()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.heard.append(str(context)))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("connection", "dispatch", "gateway", "hub"):
            patch.setattr(f"web.{module}.log", complaints, raising=False)
        patch.setattr(readiness, "_reasons", {})
        gateway = GatewayAlone()
        app = web.Application()
        app.router.add_get("/ws", gateway.accept)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with connected(port, BYSTANDER) as bystander:
                await bystander.send("SUBSCRIBE", id="0", destination=f"/room/{BYSTANDER}", receipt="s")
                await bystander.expect("RECEIPT", receipt_id="s")
                yield World(gateway, port, bystander, complaints)
        finally:
            await runner.cleanup()
