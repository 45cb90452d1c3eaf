"""`stompman` over its WebSocket transport: asyncio, STOMP 1.2, heart-beats from the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import stompman
from stompman.connection_ws import WebSocketConnection

MESSAGES = 200
DEADLINE_S = 30.0


@asynccontextmanager
async def client(port: int, user: str) -> AsyncIterator[stompman.Client]:
    server = stompman.ConnectionParameters("127.0.0.1", port, user, "", ws_uri_path="/ws")
    async with stompman.Client([server], connection_class=WebSocketConnection) as connected:
        yield connected


async def test_messages_arrive_in_order_and_a_transaction_as_one(port: int, room: str) -> None:
    heard: list[bytes] = []
    all_heard = asyncio.Event()

    async def on_message(frame: stompman.MessageFrame) -> None:
        heard.append(frame.body)
        if len(heard) == MESSAGES:
            all_heard.set()

    async with client(port, "reader") as reader, client(port, "writer") as writer:
        subscription = await reader.subscribe(
            f"/room/{room}", on_message, on_suppressed_exception=lambda *_: None, headers={"x-from-seq": "1"}
        )
        for n in range(MESSAGES - 10):
            await writer.send(str(n).encode(), f"/room/{room}")
        async with writer.begin() as transaction:
            for n in range(MESSAGES - 10, MESSAGES):
                await transaction.send(str(n).encode(), f"/room/{room}")
        await asyncio.wait_for(all_heard.wait(), DEADLINE_S)
        assert heard == [str(n).encode() for n in range(MESSAGES)]
        await subscription.unsubscribe()


async def test_a_message_is_acknowledged_and_the_next_ones_come(port: int, room: str, window: int) -> None:
    heard: list[bytes] = []
    all_heard = asyncio.Event()

    async def on_message(frame: stompman.AckableMessageFrame) -> None:
        heard.append(frame.body)
        await frame.ack()
        if len(heard) == 2 * window:
            all_heard.set()

    async with client(port, "mina") as mina:
        subscription = await mina.subscribe_with_manual_ack(f"/room/{room}", on_message, ack="client-individual")
        for n in range(2 * window):
            await mina.send(str(n).encode(), f"/room/{room}")
        await asyncio.wait_for(all_heard.wait(), DEADLINE_S)
        assert sorted(heard, key=int) == [str(n).encode() for n in range(2 * window)]
        await subscription.unsubscribe()
