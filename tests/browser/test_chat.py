"""Does a person get a chat? Two people, one room, on the real engines."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.engines import Worker, eventually
from tests.people import Writer, hang_up

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def write(gateway: Worker, room: str, login: str, count: int, in_flight: int = 100) -> None:
    """Somebody with another client posts `count` messages: `login 0`, `login 1` ..."""
    await Writer(lambda: gateway.ws, login, room, count, in_flight).run()
    await hang_up()


async def test_two_people_talk_and_see_one_order(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    said = []
    for turn in range(4):
        for person in (ada, bob):
            said.append(f"{person.name} says {turn}")
            await person.say(said[-1])
            await ada.sees(*said)
            await bob.sees(*said)
    assert await ada.seqs() == await bob.seqs()


async def test_a_message_of_ones_own_shows_its_number_once_it_is_in_the_log(visit: Visit, room: str) -> None:
    ada = await visit("ada", room)
    await ada.say("first")
    await ada.sees("first")
    seq = (await ada.seqs())[-1]
    await expect(ada.messages.last.locator(".mark-seq")).to_have_attribute("title", f"Sent, message {seq}")


async def test_many_lines_typed_at_once_arrive_in_the_order_of_typing(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    said = [f"line {number}" for number in range(20)]
    for line in said:
        await ada.say(line)
    await ada.sees(*said)
    await bob.sees(*said)


async def test_a_reload_finds_room_people_and_messages_again(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    await ada.say("before the reload")
    await bob.say("and an answer")
    await ada.sees("before the reload", "and an answer")
    await ada.page.reload()
    await ada.sees("before the reload", "and an answer")
    await expect(ada.people).to_have_count(2)
    await ada.say("after it")
    await bob.sees("before the reload", "and an answer", "after it")


async def test_who_opens_a_room_is_one_of_its_people_and_who_leaves_is_not(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    await expect(ada.page.locator(".people [data-user=bob]")).to_be_visible()
    await expect(bob.page.locator(".people [data-user=ada] .tag", has_text="owner")).to_be_visible()
    await bob.page.get_by_role("button", name="Leave room").click()
    await bob.page.get_by_role("dialog").get_by_role("button", name="Leave room").click()
    await expect(ada.page.locator(".people [data-user=bob]")).to_have_count(0)
    await expect(ada.page.locator("[data-kind='member.left']")).to_contain_text("bob left")
    await expect(bob.page.locator("textarea")).to_have_count(0)


async def test_a_room_with_a_name_in_any_writing_is_made_and_found_by_others(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada"), await visit("bob")
    await ada.page.get_by_role("button", name="New room").first.click()
    await ada.page.fill("input[name=room-name]", f"점심 {room}")
    await ada.page.fill("input[name=room-id]", room)
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.locator("h1")).to_have_text(f"점심 {room}")
    await ada.say("배고파요")
    await ada.sees("배고파요")
    await bob.room_link(room).filter(has_text="점심").click()
    await bob.sees("배고파요")
    # The address is taken now.
    await bob.page.get_by_role("button", name="New room").first.click()
    await bob.page.fill("input[name=room-id]", room)
    await bob.page.keyboard.press("Enter")
    await expect(bob.page.get_by_role("alert")).to_contain_text("There is a room with this address already.")


async def test_rooms_that_one_does_not_look_at_count_what_is_unread(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    await ada.say("hello")
    await bob.sees("hello")
    await ada.page.goto(f"{ada.url}/#/room/{room}-other")
    await expect(ada.page.locator("h1")).to_have_text(f"{room}-other")
    await bob.say("are you there?")
    await bob.say("ada?")
    await expect(ada.room_link(room).locator(".badge")).to_have_text("2")
    await expect(ada.page).to_have_title(f"(2) {room}-other · Roomlog")
    await ada.room_link(room).click()
    await ada.sees("hello", "are you there?", "ada?")
    await expect(ada.page.locator(".new-line")).to_have_text("New")
    await expect(ada.room_link(room).locator(".badge")).to_have_count(0)


async def test_markup_and_addresses_in_messages_do_nothing_but_link(visit: Visit, room: str) -> None:
    ada = await visit("ada", room)
    text = "<img src=x onerror=alert(1)> javascript:alert(1) https://example.org/a?b=1&c=2. done"
    await ada.say(text)
    await ada.sees(text)
    body = ada.messages.last.locator(".body")
    assert await body.locator("img").count() == 0
    link = body.locator("a")
    await expect(link).to_have_count(1)
    await expect(link).to_have_attribute("href", "https://example.org/a?b=1&c=2")
    assert "noopener" in (await link.get_attribute("rel") or "")


async def test_history_is_read_back_to_the_first_message(visit: Visit, gateway: Worker, room: str) -> None:
    await write(gateway, room, "writer", 230)
    ada = await visit("ada", room)
    await expect(ada.messages.last.locator(".body")).to_have_text("writer 229")
    assert (await ada.seqs())[0] > 100, "a room opens at its end"

    async def at_the_top() -> bool:
        seqs = await ada.seqs()
        await ada.scroll(-900)
        return seqs[0] == 1

    await eventually(at_the_top, "the first message", within_s=60, every_s=0.1)
    await expect(ada.page.locator(".history")).to_contain_text("This is the beginning")
    assert (await ada.bodies())[:230] == [f"writer {number}" for number in range(230)]


async def test_what_one_reads_stays_in_place_while_messages_come_in(visit: Visit, gateway: Worker, room: str) -> None:
    await write(gateway, room, "writer", 120)
    ada, bob = await visit("ada", room), await visit("bob", room)
    await expect(ada.page.locator("[data-kind='member.joined']", has_text="bob")).to_be_attached()
    await ada.scroll(-1_200)
    jump = ada.page.locator(".jump")
    await expect(jump).to_have_text("Latest messages")
    reading = await settled_row(ada)
    top = await ada.top_of(reading)
    for number in range(3):
        await bob.say(f"news {number}")
    await expect(jump).to_have_text("3 new messages")
    assert abs(await ada.top_of(reading) - top) < 2
    await jump.click()
    await expect(ada.messages.last.locator(".body")).to_have_text("news 2")
    await expect(ada.messages.last).to_be_in_viewport()
    await expect(jump).to_have_count(0)


async def settled_row(visitor: Visitor) -> int:
    """A row in the middle of the screen, once scrolling and loading of older pages have come to rest."""
    middle = """() => [...document.querySelectorAll('.row[data-seq]')]
        .find(row => row.getBoundingClientRect().top > 300).dataset.seq"""
    last: tuple[int, float, int] | None = None

    async def at_rest() -> bool:
        nonlocal last
        seq = int(await visitor.page.evaluate(middle))
        now = (seq, await visitor.top_of(seq), len(await visitor.seqs()))
        rest, last = now == last, now
        return rest

    await eventually(at_rest, "the page comes to rest", every_s=0.4)
    assert last
    return last[0]


async def test_a_flood_keeps_the_document_small_and_the_reader_at_the_end(
    visit: Visit, gateway: Worker, room: str
) -> None:
    ada = await visit("ada", room)
    await asyncio.gather(write(gateway, room, "flood", 3_000, in_flight=120))
    await expect(ada.messages.last.locator(".body")).to_have_text("flood 2999")
    assert len(await ada.seqs()) <= 240
    await expect(ada.messages.last).to_be_in_viewport()
