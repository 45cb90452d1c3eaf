"""An address that can be switched off and on, slowed and frozen: stands between a process and an engine or a gateway."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from tests.engines import free_ports

CHUNK_BYTES = 65_536
CHUNKS_MAX = 256
"""On their way in one direction; then the sender is held back, as by a full socket."""

_Queue = asyncio.Queue[tuple[float, bytes] | None]


class Forwarder:
    """Passes bytes between its own port and `target` (host:port). Starts switched on, at full speed."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._port = free_ports()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.delay_s = 0.0
        """Added to the way of every byte, in each direction."""
        self.connections = 0
        """Made so far."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.on()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        await self.off()

    async def on(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def off(self) -> None:
        """Refuse connections and break those that there are."""
        if self._server is None:
            return
        self._server.close()
        self.cut()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def cut(self) -> None:
        """Break the connections that there are; new ones are accepted."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Half open: connections stay, new ones are accepted, and no byte passes."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Let pass what has waited, and everything after it."""
        self._thawed.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(writer)
        try:
            await self._thawed.wait()
            there, back = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._serving.discard(task)
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._writers.add(sink)
        queue: _Queue = asyncio.Queue(CHUNKS_MAX)
        passing = asyncio.create_task(self._pass_on(queue, sink))
        loop = asyncio.get_running_loop()
        try:
            while data := await source.read(CHUNK_BYTES):
                await queue.put((loop.time() + self.delay_s, data))
            await queue.put(None)
            await passing
        except OSError:
            pass
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            self._writers.discard(sink)
            sink.close()

    async def _pass_on(self, queue: _Queue, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while (entry := await queue.get()) is not None:
            due, data = entry
            if (early_s := due - loop.time()) > 0:
                await asyncio.sleep(early_s)
            await self._thawed.wait()
            sink.write(data)
            await sink.drain()
