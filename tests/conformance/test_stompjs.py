"""`@stomp/stompjs` as it comes from the registry, on Node: what a front end does."""

from __future__ import annotations

import base64

import pytest

from tests.conformance.stompjs import StompJs, stompjs

pytestmark = pytest.mark.usefixtures("node_modules")

MESSAGES = 1_000
VERSIONS = ["1.0", "1.1", "1.2"]


def bodies(client: StompJs) -> list[str]:
    return [message["body"] for message in client.messages]


def seqs(client: StompJs) -> list[int]:
    return [int(message["headers"]["x-seq"]) for message in client.messages]


async def subscribe(client: StompJs, room: str, **headers: str) -> None:
    wanted = {name.replace("_", "-"): value for name, value in headers.items()}
    client.do("subscribe", destination=f"/room/{room}", headers={"id": "s", "receipt": "subscribed", **wanted})
    await client.one("receipt", receipt_id="subscribed")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_thousand_messages_with_receipts_are_seen_by_all_in_one_order(
    ws_url: str, room: str, version: str
) -> None:
    everything = list(range(1, MESSAGES + 1))
    async with (
        stompjs(ws_url, "writer", versions=[version]) as writer,
        stompjs(ws_url, "early", versions=[version]) as early,
    ):
        assert writer.of("connected")[0]["version"] == version
        await subscribe(early, room)
        writer.do("publishMany", destination=f"/room/{room}", first=1, last=MESSAGES)
        await writer.until(f"{MESSAGES} receipts", lambda: len(writer.of("receipt")) >= MESSAGES)
        numbers = {r["headers"]["receipt-id"]: int(r["headers"]["x-seq"]) for r in writer.of("receipt")}
        assert numbers == {f"r-{n}": n for n in everything}

        await early.message_count(MESSAGES)
        async with stompjs(ws_url, "late", versions=[version]) as late:
            await subscribe(late, room, x_from_seq="1")
            await late.message_count(MESSAGES)
            assert seqs(early) == seqs(late) == everything
            assert bodies(early) == bodies(late) == [str(n) for n in everything]


@pytest.mark.parametrize("force_binary", [False, True])
async def test_a_binary_body_arrives_octet_for_octet(ws_url: str, room: str, *, force_binary: bool) -> None:
    octets = base64.b64encode(bytes(range(256)) * 4).decode()
    async with stompjs(ws_url, "mina", binary=force_binary) as mina, stompjs(ws_url, "jun") as jun:
        await subscribe(mina, room)
        await subscribe(jun, room)
        mina.do("publish", destination=f"/room/{room}", base64=octets, headers={"content-type": "image/png"})
        for client in (mina, jun):
            message = await client.one("message")
            assert message["base64"] == octets
            assert message["headers"]["content-type"] == "image/png"


async def test_text_in_any_script_and_headers_with_escapes_arrive_unaltered(ws_url: str, room: str) -> None:
    async with stompjs(ws_url, "mina") as mina:
        await subscribe(mina, room)
        headers = {"mood": "a:b\nc \\ d", "제목": "안녕"}
        mina.do("publish", destination=f"/room/{room}", body="안녕 👋\n\n line", headers=headers)
        message = await mina.one("message")
        assert message["body"] == "안녕 👋\n\n line"
        assert headers.items() <= message["headers"].items()


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_mode_is_a_window_that_an_ack_opens(ws_url: str, room: str, window: int, version: str) -> None:
    async with stompjs(ws_url, "writer") as writer, stompjs(ws_url, "reader", versions=[version]) as reader:
        await subscribe(reader, room, ack="client")
        writer.do("publishMany", destination=f"/room/{room}", first=1, last=window + 10)
        await writer.until("all receipts", lambda: len(writer.of("receipt")) == window + 10)
        await reader.message_count(window)
        reader.do("ack", subscription="s", id=f"{room}/{window // 2}")
        await reader.message_count(window + 10)
        assert seqs(reader) == list(range(1, window + 11))


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_nack_in_client_mode_sends_again_from_there(ws_url: str, room: str, version: str) -> None:
    async with stompjs(ws_url, "reader", versions=[version]) as reader:
        await subscribe(reader, room, ack="client")
        reader.do("publishMany", destination=f"/room/{room}", first=1, last=5)
        await reader.message_count(5)
        reader.do("nack", subscription="s", id=f"{room}/3")
        await reader.message_count(8)
        assert seqs(reader) == [1, 2, 3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_nack_in_individual_mode_skips_that_one(ws_url: str, room: str, window: int, version: str) -> None:
    async with stompjs(ws_url, "reader", versions=[version]) as reader:
        await subscribe(reader, room, ack="client-individual")
        reader.do("publishMany", destination=f"/room/{room}", first=1, last=window + 2)
        await reader.message_count(window)
        reader.do("nack", subscription="s", id=f"{room}/7")
        reader.do("ack", subscription="s", id=f"{room}/3")
        await reader.message_count(window + 2)
        assert seqs(reader) == list(range(1, window + 3))


async def test_a_transaction_appears_at_its_commit_or_never(ws_url: str, room: str) -> None:
    async with stompjs(ws_url, "mina") as mina:
        await subscribe(mina, room)
        for name, ending in (("kept", "commit"), ("dropped", "abort")):
            mina.do("begin", name=name)
            for n in range(3):
                mina.do("publish", destination=f"/room/{room}", body=f"{name} {n}", headers={"transaction": name})
            mina.do("publish", destination=f"/room/{room}", body=f"before {name}", headers={"receipt": name})
            await mina.one("receipt", receipt_id=name)
            mina.do(ending, name=name)
        mina.do("publish", destination=f"/room/{room}", body="last")
        await mina.until("the last message", lambda: "last" in bodies(mina))
        assert bodies(mina) == ["before kept", "kept 0", "kept 1", "kept 2", "before dropped", "last"]


async def test_after_a_lost_connection_the_client_resumes_without_hole_or_repeat(ws_url: str, room: str) -> None:
    async with stompjs(ws_url, "writer") as writer, stompjs(ws_url, "reader") as reader:
        await subscribe(reader, room)
        writer.do("publishMany", destination=f"/room/{room}", first=1, last=100)
        await reader.message_count(100)
        reader.do("drop")
        await reader.one("closed")
        writer.do("publishMany", destination=f"/room/{room}", first=101, last=300)
        await reader.until("the second CONNECTED", lambda: len(reader.of("connected")) == 2)
        reader.do("subscribe", destination=f"/room/{room}", headers={"id": "s", "x-after-seq": str(seqs(reader)[-1])})
        await reader.message_count(300)
        assert seqs(reader) == list(range(1, 301))


async def test_sends_repeated_after_a_lost_connection_keep_their_order_and_stand_once(ws_url: str, room: str) -> None:
    async with stompjs(ws_url, "writer") as writer, stompjs(ws_url, "reader") as reader:
        await subscribe(reader, room)
        writer.do("publishMany", destination=f"/room/{room}", first=1, last=50)
        writer.do("drop")
        await writer.until("the second CONNECTED", lambda: len(writer.of("connected")) == 2)
        writer.do("publishMany", destination=f"/room/{room}", first=1, last=50)
        await writer.one("receipt", receipt_id="r-50")
        await reader.message_count(50)
        writer.do("publish", destination=f"/room/{room}", body="last")
        await reader.until("the last message", lambda: "last" in bodies(reader))
        assert bodies(reader) == [*(str(n) for n in range(1, 51)), "last"]


async def test_a_refusal_reaches_the_error_handler_and_the_client_is_closed(ws_url: str) -> None:
    async with stompjs(ws_url, "mina") as mina:
        mina.do("publish", destination="/nowhere", body="hi", headers={"receipt": "r"})
        error = await mina.one("error", receipt_id="r")
        assert error["headers"]["error-code"] == "unknown_destination"
        assert (await mina.one("closed"))["code"] == 1002


async def test_a_graceful_deactivation_gets_its_receipt_and_a_normal_close(ws_url: str, room: str) -> None:
    async with stompjs(ws_url, "mina") as mina:
        await subscribe(mina, room)
        mina.do("close")
        await mina.one("deactivated")
        assert (await mina.one("closed"))["code"] == 1000
