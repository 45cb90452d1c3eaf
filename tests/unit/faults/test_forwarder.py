"""The harness's TCP proxy: it slows, freezes and cuts, and never alters or reorders a byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.forwarder import Forwarder

LARGE = bytes(range(256)) * 4096


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def link() -> AsyncIterator[Forwarder]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with Forwarder(f"{host}:{port}") as link:
        yield link
    server.close()
    await server.wait_closed()


async def dial(link: Forwarder) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = link.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_bytes_pass_unaltered_and_in_order(link: Forwarder) -> None:
    reader, writer = await dial(link)
    writer.write(LARGE)
    assert await asyncio.wait_for(reader.readexactly(len(LARGE)), 10) == LARGE
    assert link.connections == 1
    writer.close()


async def test_a_slow_link_delays_each_way_and_keeps_the_order_when_it_recovers(link: Forwarder) -> None:
    reader, writer = await dial(link)
    link.delay_s = 0.2
    began = time.monotonic()
    writer.write(b"slow")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"slow"
    assert time.monotonic() - began >= 0.4
    writer.write(b"before")
    await asyncio.sleep(0.05)  # the time between two writes
    link.delay_s = 0.0
    writer.write(b"after")
    assert await asyncio.wait_for(reader.readexactly(11), 10) == b"beforeafter"
    writer.close()


async def test_a_frozen_link_keeps_connections_and_passes_nothing_until_it_thaws(link: Forwarder) -> None:
    reader, writer = await dial(link)
    writer.write(b"a")
    assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
    link.freeze()
    writer.write(b"b")
    newcomer, new_writer = await dial(link)
    new_writer.write(b"c")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(reader_task := asyncio.ensure_future(reader.readexactly(1))), 0.3)
    link.thaw()
    assert await asyncio.wait_for(reader_task, 10) == b"b"
    assert await asyncio.wait_for(newcomer.readexactly(1), 10) == b"c"
    writer.close()
    new_writer.close()


async def test_a_cut_breaks_what_there_is_and_takes_new_connections(link: Forwarder) -> None:
    reader, writer = await dial(link)
    writer.write(b"a")
    assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
    link.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    again, again_writer = await dial(link)
    again_writer.write(b"b")
    assert await asyncio.wait_for(again.readexactly(1), 10) == b"b"
    writer.close()
    again_writer.close()


async def test_a_link_that_is_off_refuses_until_it_is_on_again(link: Forwarder) -> None:
    await link.off()
    with pytest.raises(ConnectionRefusedError):
        await dial(link)
    await link.on()
    reader, writer = await dial(link)
    writer.write(b"a")
    assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
    writer.close()
