"""docs/protocol.md, section 3: acknowledge modes as flow control, and transactions, as a client sees them."""

from __future__ import annotations

import pytest

from tests.conformance.rooms import fill, numbers, post, subscribe, traffic
from tests.conformance.wire import Frame, connected, frame

# ---------------------------------------------------------------- acknowledge modes


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_no_more_than_a_window_is_sent_before_an_ack(port: int, room: str, window: int, version: str) -> None:
    await fill(port, room, window + 5)
    async with connected(port, version=version) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", ack="client", x_from_seq="1")
        messages = await peer.messages(window)
        await peer.quiet(0.3)
        last = messages[-1].headers
        names = {
            "1.0": {"message-id": last["message-id"]},
            "1.1": {"message-id": last["message-id"], "subscription": "s"},
            "1.2": {"id": last.get("ack", "")},
        }[version]
        await peer.text(frame("ACK", names))
        assert numbers(await peer.messages(5)) == list(range(window + 1, window + 6))


async def test_an_individual_ack_opens_the_window_by_one(port: int, room: str, window: int) -> None:
    await fill(port, room, window + 2)
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", ack="client-individual", x_from_seq="1")
        messages = await peer.messages(window)
        await peer.send("ACK", id=messages[-1].headers["ack"])
        assert numbers(await peer.messages(1)) == [window + 1]
        await peer.quiet(0.3)


async def test_a_nack_in_client_mode_repeats_three_times_and_then_counts_as_ack(port: int, room: str) -> None:
    await fill(port, room, 2)
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", ack="client", x_from_seq="1")
        for _ in range(4):
            first, second = await peer.messages(2)
            assert numbers([first, second]) == [1, 2]
            await peer.send("NACK", id=first.headers["ack"])
        await peer.quiet(0.3)
        await fill(port, room, 1)
        assert numbers(await peer.messages(1)) == [3]


async def test_auto_needs_no_ack(port: int, room: str, window: int) -> None:
    await fill(port, room, 3 * window)
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", ack="auto", x_from_seq="1")
        messages = await peer.messages(3 * window)
        assert all("ack" not in message.headers for message in messages)


async def test_an_ack_in_a_transaction_counts_at_its_commit(port: int, room: str, window: int) -> None:
    await fill(port, room, window + 1)
    async with connected(port) as peer:
        await peer.send("SUBSCRIBE", id="s", destination=f"/room/{room}", ack="client", x_from_seq="1")
        last = (await peer.messages(window))[-1]
        for transaction in ("dropped", "kept"):
            await peer.send("BEGIN", transaction=transaction)
            await peer.send("ACK", id=last.headers["ack"], transaction=transaction)
        await peer.send("ABORT", transaction="dropped", receipt="aborted")
        await peer.expect("RECEIPT", receipt_id="aborted")
        await peer.quiet(0.3)
        await peer.send("COMMIT", transaction="kept")
        assert numbers(await peer.messages(1)) == [window + 1]


# ---------------------------------------------------------------- transactions


async def test_a_commit_appends_its_sends_together_and_in_order(port: int, room: str) -> None:
    async with connected(port) as peer, traffic(port, room):
        await subscribe(peer, room)
        await peer.send("BEGIN", transaction="t")
        for n in range(100):
            await peer.send("SEND", str(n), destination=f"/room/{room}", transaction="t", receipt=f"r-{n}")
        await peer.send("COMMIT", transaction="t", receipt="committed")
        mine: list[Frame] = []
        receipts: list[str] = []
        while "committed" not in receipts:
            found = await peer.next()
            if found.command == "RECEIPT":
                receipts.append(found.headers["receipt-id"])
            elif found.headers["x-sender"] == "mina":
                mine.append(found)
        assert [message.body for message in mine] == [b"%d" % n for n in range(100)]
        assert numbers(mine) == list(range(mine[0].seq, mine[0].seq + 100)), "nothing of others between"
        assert receipts == [*(f"r-{n}" for n in range(100)), "committed"]


async def test_a_lost_connection_drops_open_transactions(port: int, room: str) -> None:
    async with connected(port, "reader") as reader:
        await subscribe(reader, room)
        async with connected(port, "writer") as writer:
            await writer.send("BEGIN", transaction="t")
            await writer.send("SEND", "never", destination=f"/room/{room}", transaction="t")
            await writer.send("SEND", "outside", destination=f"/room/{room}", receipt="r")
            await writer.receipt("r")
            writer.abort()
        await post(reader, room, "last")
        async with connected(port, "late") as late:
            await subscribe(late, room, x_from_seq="1")
            assert [message.body for message in await late.messages(2)] == [b"outside", b"last"]
