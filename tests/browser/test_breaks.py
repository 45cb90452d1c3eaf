"""Connections break; what was written is in the log once, in order, and everybody sees all of it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.browser.conftest import Visit
from tests.engines import Workers

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_offline_spell_costs_nothing(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    await ada.say("before")
    await bob.sees("before")
    await ada.page.context.set_offline(True)
    await expect(ada.banner).to_contain_text("Connection lost.")
    await ada.say("written offline 1")
    await ada.say("written offline 2")
    await expect(ada.pending).to_have_count(2)
    await expect(ada.banner).to_contain_text("2 messages wait and will be sent.")
    await bob.say("said meanwhile")
    await bob.sees("before", "said meanwhile")
    await ada.page.context.set_offline(False)
    await ada.sees("before", "said meanwhile", "written offline 1", "written offline 2")
    await bob.sees("before", "said meanwhile", "written offline 1", "written offline 2")
    await expect(ada.banner).to_have_count(0)
    assert await ada.seqs() == await bob.seqs()


async def test_a_killed_gateway_costs_nothing(visit: Visit, roomlog: Workers, room: str) -> None:
    gateway = await roomlog("gateway")
    ada = await visit("ada", room, url=gateway.url)
    bob = await visit("bob", room)
    said = ["before"]
    await ada.say("before")
    await bob.sees("before")
    for spell in range(2):
        gateway.kill9()
        await expect(ada.banner).to_be_visible()
        written = [f"ada while away {spell}.{number}" for number in range(3)]
        for text in written:
            await ada.say(text)
        await bob.say(f"bob meanwhile {spell}")
        said += [f"bob meanwhile {spell}", *written]
        await expect(bob.messages.last.locator(".body")).to_have_text(f"bob meanwhile {spell}")
        await asyncio.gather(gateway.start(), bob.sees(*said), ada.sees(*said))
    gateway.kill9()


async def test_what_is_pending_survives_a_closed_page(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    # From now on the network takes everything and answers nothing.
    await ada.page.route_web_socket("**/ws", lambda _: None)
    await ada.page.reload()
    await ada.say("do not lose this")
    await ada.say("nor this")
    await expect(ada.pending).to_have_count(2)
    await ada.another_tab(room)
    await ada.sees("do not lose this", "nor this")
    await bob.sees("do not lose this", "nor this")


async def test_an_answer_that_got_lost_doubles_nothing(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    sent: list[str] = []
    cut: list[asyncio.Task[None]] = []

    def lose_the_answer(socket: WebSocketRoute) -> None:
        """The first message reaches the log; instead of its answers the page gets the end of the connection."""
        server = socket.connect_to_server()

        def from_page(frame: str | bytes) -> None:
            if "only once" in str(frame):
                sent.append(str(frame))
            server.send(frame)

        def from_server(frame: str | bytes) -> None:
            if len(sent) == 1 and str(frame).startswith(("RECEIPT", "MESSAGE")):
                if not cut:
                    cut.append(asyncio.create_task(socket.close(code=4008)))
            else:
                socket.send(frame)

        socket.on_message(from_page)
        server.on_message(from_server)

    await ada.page.route_web_socket("**/ws", lose_the_answer)
    await ada.page.reload()
    await ada.is_up()
    await ada.say("only once")
    await ada.sees("only once")
    await bob.sees("only once")
    assert cut, "the wire lost nothing"
    assert len(sent) == 2, "it was not sent again"


async def test_a_message_that_the_wire_lost_is_fetched_before_the_next_is_shown(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    lost: list[str] = []

    def lose_one(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def from_server(frame: str | bytes) -> None:
            if not lost and "two of three" in str(frame) and str(frame).startswith("MESSAGE"):
                lost.append(str(frame))
            else:
                socket.send(frame)

        server.on_message(from_server)

    await ada.page.route_web_socket("**/ws", lose_one)
    await ada.page.reload()
    await ada.is_up()
    await bob.say("one of three")
    await ada.sees("one of three")
    await bob.say("two of three")
    await bob.say("three of three")
    await ada.sees("one of three", "two of three", "three of three")
    assert lost, "the wire lost nothing"


async def test_a_refused_message_says_why_and_can_be_sent_again_or_discarded(visit: Visit, room: str) -> None:
    ada = await visit("ada", room)
    spoiling = True

    def spoil(socket: WebSocketRoute) -> None:
        """Puts a header of the server's into a SEND, which the gateway refuses."""
        server = socket.connect_to_server()

        def from_page(frame: str | bytes) -> None:
            if spoiling and isinstance(frame, str) and "spoiled" in frame:
                frame = frame.replace("SEND\n", "SEND\nx-seq:9\n", 1)
            server.send(frame)

        socket.on_message(from_page)

    await ada.page.route_web_socket("**/ws", spoil)
    await ada.page.reload()
    await ada.is_up()
    await ada.say("spoiled 1")
    await ada.say("spoiled 2")
    await ada.say("well")
    await ada.sees_failed("spoiled 1", "spoiled 2")
    await expect(ada.messages.locator(".body")).to_have_text(["well"])
    await expect(ada.banner).to_have_count(0)
    spoiling = False
    await ada.pending.first.get_by_role("button", name="Try again").click()
    await expect(ada.messages.locator(".body")).to_have_text(["well", "spoiled 1"])
    await ada.pending.first.get_by_role("button", name="Discard").click()
    await ada.sees("well", "spoiled 1")
