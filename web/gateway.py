"""The gateway: `/ws` in Faust's web side, and what all of its connections share.

It starts with the web server and serves at once, but a CONNECT is accepted only while the gateway is ready: its tail
has read the log to the end, and Kafka answers. It has no consumer group, so no rebalance can touch a socket. At a stop
it sends its clients away with 1001, spread over `drain_s`, after it has appended what it had read from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Coroutine
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

import app as roomlog
from chat import logs, metrics
from chat.auth import Authenticator, OpenIdentity
from chat.errors import Code, Refused, Unavailable
from chat.log.commands import BATCH_BYTES_MAX, CommandLog
from chat.log.positions import newest_positions
from chat.log.producer import make_producer
from chat.log.scan import LogScan
from chat.log.tail import Tail
from chat.log.topics import COMMANDS
from chat.readiness import readiness
from chat.settings import Settings
from chat.stomp.limits import Limits
from chat.stores.cassandra.history import HistoryStore
from chat.stores.redis import Directory, RecentTail
from chat.version import __version__
from web import closing
from web.backlog import Backlog
from web.connection import Connection
from web.dispatch import Dispatch
from web.hub import Hub
from web.inflight import InFlight
from web.messages import CLOSE, control_frame
from web.sockets import ClientSocket

log = logs.get(__name__)

WHEEL_SLOTS = 8
WHEEL_PERIOD_S = 0.5
"""Each connection for which something may be due is looked at once in so long; one timer serves all of them."""

MESSAGE_BYTES_MAX = 1_048_576
"""One WebSocket message: a full transaction of a client that puts many frames into one message, and some."""

WRITE_HIGH_BYTES = 262_144
"""A history stream waits while so much of it is unsent."""

EXIT_BROKEN = 70
"""The supervisor starts the process again (sysexits: EX_SOFTWARE)."""

TURN_AWAY_S = 1.0
"""For a client to read that there is no place for it."""

KAFKA_RETRY_S = 1.0
STOP_CLOSE_S = 6.0
"""For clients to answer the close frame: a little longer than each of them gets."""
STOP_APPEND_S = 3.0
"""For the log to take what was read from them."""
SESSION_BYTES = 9
SUBPROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")
"""Highest first."""


class Gateway:
    """What the connections of this process share. Made inside the running loop."""

    wheel_s = WHEEL_PERIOD_S

    def __init__(self, settings: Settings, authenticator: Authenticator) -> None:
        self.settings = settings
        self.authenticator = authenticator
        self.now = asyncio.get_running_loop().time
        self.limits = Limits.from_settings(settings)
        self.server_name = f"roomlog/{__version__}"
        self.connections: set[Connection] = set()
        self.in_flight = InFlight(
            per_connection=settings.in_flight_connection_max, per_user_room=settings.in_flight_user_room_max
        )
        self.commands = CommandLog(
            partial(make_producer, settings, batch_bytes=BATCH_BYTES_MAX),
            settings.topic(COMMANDS),
            settings.partitions,
            timeout_s=settings.command_timeout_s,
            limit=settings.in_flight_max,
            bytes_max=settings.in_flight_bytes_max,
            clock=self.now,
        )
        self.history = HistoryStore.open(settings)
        self.recent = RecentTail(settings)
        self.directory = Directory(settings)
        self.scan = LogScan(settings)
        self.backlog = Backlog(self.recent, self.history, self.scan.read_events)
        self.hub = Hub(self.commands, self.backlog, creates_on_first_use=settings.creates_on_first_use)
        self.tail = Tail(
            settings,
            self.hub,
            positions=lambda: newest_positions(settings),
            on_health=self._kafka_health,
        )
        self.dispatch = Dispatch(self)
        self.draining = False
        self._wheel: list[set[Connection]] = [set() for _ in range(WHEEL_SLOTS)]
        self._opened = 0
        self._admitted_at = 0.0
        self._admitted = 0
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------ start and stop

    def begin(self) -> None:
        """Start what runs beside the connections; readiness tells when it is done."""
        self._spawn(self._start(), "gateway-start")
        self._spawn(self._turn_wheel(), "gateway-wheel")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_leave_on_failure)
        self._tasks.append(task)

    async def _start(self) -> None:
        while True:
            try:
                await self.commands.start()
                break
            except Unavailable as error:
                self._kafka_health(False, str(error))
                await asyncio.sleep(KAFKA_RETRY_S)
        self._spawn(self.tail.run(), "tail")
        await self.tail.caught_up.wait()
        readiness.ok("tail")
        log.info("ready", worker=self.settings.worker, port=self.settings.web_port)

    async def drain(self) -> None:
        """Send every client away, spread over `drain_seconds`; harmless to repeat."""
        if self.draining:
            return
        self.draining = True
        readiness.lost("accepting", "this gateway is stopping")
        leaving = list(self.connections)
        log.info("draining", connections=len(leaving), over_s=self.settings.drain_seconds)
        pause_s = self.settings.drain_seconds / len(leaving) if leaving else 0.0
        for connection in leaving:
            connection.close(closing.GOING_AWAY, "going away: reconnect and resume")
            if pause_s:
                await asyncio.sleep(pause_s)
        if leaving:
            ends = [asyncio.create_task(connection.ended.wait()) for connection in leaving]
            await asyncio.wait(ends, timeout=STOP_CLOSE_S)
        await self.commands.drain(STOP_APPEND_S)

    async def stop(self) -> None:
        """Stop everything; nothing that was read from a client is left behind."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.commands.stop()
        await asyncio.gather(self.history.stop(), self.recent.stop(), self.directory.stop(), self.scan.stop())

    def _kafka_health(self, healthy: bool, reason: str) -> None:
        if healthy:
            readiness.ok("kafka")
        else:
            readiness.lost("kafka", reason)

    # ------------------------------------------------------------ connections

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """`GET /ws`: upgrade and serve one client."""
        if not self._origin_allowed(request):
            metrics.gateway_refusals.labels(Code.FORBIDDEN.value).inc()
            raise web.HTTPForbidden(text="this Origin is not allowed: see ROOMLOG_ORIGINS\n")
        if self.draining:
            raise web.HTTPServiceUnavailable(text="this gateway is stopping\n", headers={"Retry-After": "1"})
        offered = {name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
        chosen = tuple(name for name in SUBPROTOCOLS if name in offered)[:1]
        # Text comes as bytes: STOMP is parsed as octets, and most of it is ASCII.
        socket = ClientSocket(
            protocols=chosen,
            max_msg_size=MESSAGE_BYTES_MAX,
            compress=False,
            autoping=False,
            autoclose=False,
            decode_text=False,
        )
        await socket.prepare(request)
        if len(self.connections) >= self.settings.connections_max:
            if request.transport is not None:
                await _turn_away(request.transport, socket)
            return socket
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        connection = Connection(self, request, socket, secrets.token_urlsafe(SESSION_BYTES))
        slot = self._wheel[self._opened % WHEEL_SLOTS]
        self._opened += 1
        self.connections.add(connection)
        slot.add(connection)
        metrics.gateway_connections.inc()
        try:
            await connection.run()
        except ConnectionError:
            pass
        except Exception:
            # A defect of ours costs this one client its connection, and nobody else anything.
            log.exception("connection_failed", session=connection.session)
            connection.fail(Refused(Code.INTERNAL, "a defect of this server; it has been logged"))
        finally:
            connection.end()
            self.connections.discard(connection)
            slot.discard(connection)
            metrics.gateway_connections.dec()
        return socket

    def admit(self) -> None:
        """Raise `Refused` when a CONNECT cannot be accepted now."""
        if not readiness.ready:
            raise Refused(
                Code.UNAVAILABLE, "not ready: " + "; ".join(f"{k}: {v}" for k, v in readiness.reasons().items())
            )
        now = self.now()
        if now - self._admitted_at >= 1.0:
            self._admitted_at, self._admitted = now, 0
        self._admitted += 1
        if self._admitted > self.settings.connects_per_s:
            raise Refused(Code.TOO_MANY_CONNECTIONS, "too many connects at once: come back after a random delay")

    def _origin_allowed(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        # A browser always says its origin; other clients need not, and could say anything.
        if origin is None or "*" in self.settings.origins or origin in self.settings.origins:
            return True
        return urlsplit(origin).netloc == request.headers.get("Host")

    async def _turn_wheel(self) -> None:
        waiting = [0] * WHEEL_SLOTS
        at = 0
        while True:
            await asyncio.sleep(WHEEL_PERIOD_S / WHEEL_SLOTS)
            now = self.now()
            due = [connection for connection in self._wheel[at] if connection.look_at <= now]
            waiting[at] = sum([connection.tick(now) for connection in due])
            at = (at + 1) % WHEEL_SLOTS
            metrics.gateway_outbox_bytes.set(sum(waiting))
            self.in_flight.observe()
            self.commands.expire()


async def _turn_away(transport: asyncio.Transport, socket: ClientSocket) -> None:
    """Say why, and leave a moment to read it: shut with unread bytes, a socket takes our last frame with it."""
    reason = Code.TOO_MANY_CONNECTIONS.value.encode()
    transport.write(control_frame(CLOSE, closing.TOO_MANY.to_bytes(2, "big") + reason))
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(TURN_AWAY_S):
            while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING):
                pass
    transport.close()


def _leave_on_failure(task: asyncio.Task[None]) -> None:
    """Without its tail or its wheel a gateway would look alive and deliver nothing: better to leave and come back."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("leaving", task=task.get_name(), error=repr(error))
        os._exit(EXIT_BROKEN)


readiness.expect("tail", "reading the log")
readiness.expect("kafka", "not asked yet")

gateway: Gateway | None = None


def current() -> Gateway:
    """The gateway of this process."""
    if gateway is None:
        raise web.HTTPServiceUnavailable(text="starting\n")
    return gateway


async def _on_startup(_: web.Application) -> None:
    global gateway  # noqa: PLW0603  (one a process, made inside its loop)
    gateway = Gateway(roomlog.settings, OpenIdentity())
    gateway.begin()


async def _on_shutdown(_: web.Application) -> None:
    if gateway is not None:
        await gateway.drain()


async def _on_cleanup(_: web.Application) -> None:
    if gateway is not None:
        await gateway.stop()


@roomlog.app.on_before_shutdown.connect
async def _on_before_shutdown(*_: object, **__: object) -> None:
    if gateway is not None:
        await gateway.drain()


async def _ws(request: web.Request) -> web.StreamResponse:
    return await current().accept(request)


web_app: web.Application = roomlog.app.web.web_app  # type: ignore[attr-defined]  # Faust names no driver
# Faust leaves no other way to say it: aiohttp would keep a socket that never finishes its request for an hour.
roomlog.app.web._runner._kwargs["keepalive_timeout"] = roomlog.settings.connect_timeout_s  # type: ignore[attr-defined]  # noqa: SLF001
web_app.router.add_get("/ws", _ws)
web_app.on_startup.append(_on_startup)
web_app.on_shutdown.append(_on_shutdown)
web_app.on_cleanup.append(_on_cleanup)
