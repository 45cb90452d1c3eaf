"""Time on a connection: heart-beats, silence, and a CONNECT that does not come.

The gateway of these tests has a heart-beat period of one second and half a second for CONNECT (`brisk_port`), so that
each test waits for an event that has a known time, not for a time.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.stompjs import stompjs
from tests.conformance.test_stomp_py import client
from tests.conformance.wire import connected, upgraded

PERIOD_S = 1.0
SPARE_S = 4.0


@pytest.mark.parametrize(("version", "offered"), [("1.0", "0,0"), ("1.1", "10000,10000"), ("1.2", "10000,10000")])
async def test_the_server_offers_its_period_both_ways_except_in_1_0(port: int, version: str, offered: str) -> None:
    async with connected(port, version=version, beats="5000,5000") as peer:
        assert peer.connected
        assert peer.connected.headers["heart-beat"] == offered


async def test_a_silent_server_sends_line_ends_in_the_agreed_period(brisk_port: int) -> None:
    async with connected(brisk_port, beats="0,1000") as peer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while peer.beats < 3:
            with pytest.raises(AssertionError, match="no frame"):  # nothing but beats arrives
                await peer.next(deadline_s=PERIOD_S / 4)
            assert loop.time() - started < 3 * PERIOD_S + SPARE_S
        assert peer.pings == 0


async def test_a_client_that_falls_silent_is_pinged_and_then_closed(brisk_port: int) -> None:
    async with connected(brisk_port, beats="1000,0") as peer:
        peer.auto_pong = False
        loop = asyncio.get_running_loop()
        started = loop.time()
        await peer.expect("ERROR", error_code="heart_beat_missed")
        assert peer.pings >= 1
        assert loop.time() - started >= 3 * PERIOD_S - 0.1, "closed before three periods of silence"
        assert await peer.closed() == 4008


async def test_a_pong_counts_as_life(brisk_port: int) -> None:
    async with connected(brisk_port, beats="1000,0") as peer:
        await peer.quiet(5 * PERIOD_S)
        assert peer.pings >= 1
        await peer.send("BEGIN", transaction="t", receipt="r")
        await peer.expect("RECEIPT", receipt_id="r")


async def test_any_byte_counts_as_a_beat(brisk_port: int) -> None:
    async with connected(brisk_port, beats="1000,0") as peer:
        for _ in range(5):
            await peer.text("\n")
            await peer.quiet(PERIOD_S)
        assert peer.pings == 0


async def test_a_socket_without_connect_is_closed(brisk_port: int) -> None:
    async with upgraded(brisk_port) as peer:
        await peer.expect("ERROR", error_code="connect_timeout")
        assert await peer.closed() == 1002


async def test_line_ends_do_not_put_connect_off_for_ever(brisk_port: int) -> None:
    async with upgraded(brisk_port) as peer:
        await peer.text("\n")
        await peer.expect("ERROR", error_code="connect_timeout")


@pytest.mark.usefixtures("node_modules")
async def test_stompjs_and_the_server_keep_a_silent_connection_alive(brisk_port: int) -> None:
    async with stompjs(f"ws://127.0.0.1:{brisk_port}/ws", "mina", beats=[1_000, 1_000]) as mina:
        await asyncio.sleep(5 * PERIOD_S)  # the silence is what is tested
        assert not mina.of("closed")
        mina.do("publish", destination="/room/alive", body="hi", headers={"receipt": "r"})
        await mina.one("receipt", receipt_id="r")


def test_stomp_py_and_the_server_keep_a_silent_connection_alive(brisk_port: int, room: str) -> None:
    with client(brisk_port, "mina", heartbeats=(1_000, 1_000)) as (mina, heard):
        with pytest.raises(AssertionError, match="not within"):
            heard.until("the end", lambda: heard.disconnected, 5 * PERIOD_S)
        mina.send(f"/room/{room}", "hi", receipt="r")
        heard.until("the receipt", lambda: "r" in heard.receipts)
