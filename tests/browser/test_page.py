"""The page as a page: keyboard, input methods, a phone's width, light and dark, two languages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")

Picture = Callable[[Visitor, str], Awaitable[Path]]


async def test_enter_that_ends_a_composition_does_not_send(visit: Visit, room: str) -> None:
    ada = await visit("ada", room)
    await ada.composer.focus()
    keyboard = await ada.page.context.new_cdp_session(ada.page)
    await keyboard.send("Input.imeSetComposition", {"text": "한", "selectionStart": 1, "selectionEnd": 1})
    # What an input method makes of the Enter that ends its composition: a key down with the code 229.
    await keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 229})
    await keyboard.send("Input.insertText", {"text": "한글"})
    await expect(ada.composer).to_have_value("한글")
    await expect(ada.page.locator(".row.message")).to_have_count(0)
    await ada.composer.press("Enter")
    await ada.sees("한글")


async def test_shift_enter_starts_a_new_line(visit: Visit, room: str) -> None:
    ada = await visit("ada", room)
    await ada.composer.press_sequentially("one")
    await ada.composer.press("Shift+Enter")
    await ada.composer.press_sequentially("two")
    await ada.composer.press("Enter")
    await ada.sees("one\ntwo")
    await expect(ada.composer).to_have_value("")


async def test_everything_can_be_reached_by_keyboard(visit: Visit, room: str) -> None:
    ada = await visit("ada", f"{room}-1")
    await ada.say("in the first")
    await ada.sees("in the first")
    await ada.page.goto(f"{ada.url}/#/room/{room}-2")
    await expect(ada.page.locator("h1")).to_have_text(f"{room}-2")
    await ada.say("in the second")
    await ada.sees("in the second")
    # Find a room, walk the list, open it.
    await ada.page.keyboard.press("Control+k")
    await expect(ada.page.locator("#room-filter")).to_be_focused()
    await ada.page.keyboard.type(room)
    await expect(ada.page.locator(".rooms [data-room]")).to_have_count(2)
    await ada.page.keyboard.press("ArrowDown")
    await ada.page.keyboard.press("ArrowDown")
    await expect(ada.room_link(f"{room}-1")).to_be_focused()
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.locator("h1")).to_have_text(f"{room}-1")
    await expect(ada.composer).to_be_focused()
    await ada.sees("in the first")
    # Escape leaves a dialog and gives the focus back.
    settings = ada.page.get_by_role("button", name="Settings")
    await settings.focus()
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.get_by_role("dialog")).to_be_visible()
    await ada.page.keyboard.press("Escape")
    await expect(ada.page.get_by_role("dialog")).to_have_count(0)
    await expect(settings).to_be_focused()


async def test_new_messages_of_others_are_announced_to_a_screen_reader(visit: Visit, room: str) -> None:
    ada, bob = await visit("ada", room), await visit("bob", room)
    await bob.say("can you hear me?")
    await expect(ada.page.locator("[aria-live=polite]")).to_have_text("bob: can you hear me?")


async def test_a_phone_shows_one_thing_at_a_time(visit: Visit, picture: Picture, room: str) -> None:
    ada = await visit("ada", room, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    await ada.say("from a phone, " * 20)
    await expect(ada.messages).to_have_count(1)
    wide = await ada.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360, "the page is wider than the phone"
    await expect(ada.page.locator(".sidebar")).not_to_be_in_viewport()
    await picture(ada, "phone")
    await ada.page.get_by_role("button", name="Show rooms").click()
    await expect(ada.room_link(room)).to_be_in_viewport()
    await picture(ada, "phone-rooms")
    await ada.room_link(room).click()
    await expect(ada.page.locator(".sidebar")).not_to_be_in_viewport()
    await ada.page.get_by_role("button", name="People: 1 person").click()
    await expect(ada.page.locator(".people [data-user=ada]")).to_be_in_viewport()
    await ada.page.keyboard.press("Escape")
    await expect(ada.page.locator(".people [data-user=ada]")).not_to_be_in_viewport()


async def test_light_and_dark_follow_the_system_until_one_is_chosen(visit: Visit, picture: Picture, room: str) -> None:
    ada = await visit("ada", room, color_scheme="dark")
    await ada.say("good night")
    await ada.sees("good night")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = await ada.page.evaluate(paper)
    await picture(ada, "dark")
    await ada.page.emulate_media(color_scheme="light")
    light = await ada.page.evaluate(paper)
    assert light != dark
    await picture(ada, "light")
    await ada.page.get_by_role("button", name="Settings").click()
    await ada.page.get_by_role("radio", name="Dark").check()
    assert await ada.page.evaluate(paper) == dark
    await ada.page.reload()
    await ada.sees("good night")
    assert await ada.page.evaluate(paper) == dark


async def test_korean_browsers_get_korean_and_anybody_can_switch(visit: Visit, picture: Picture, room: str) -> None:
    minji = await visit("minji", room, locale="ko-KR")
    await minji.say("안녕하세요")
    await minji.sees("안녕하세요")
    await expect(minji.page.locator("html")).to_have_attribute("lang", "ko")
    await expect(minji.page.locator(".day")).to_have_text("오늘")
    await picture(minji, "korean")
    await minji.page.get_by_role("button", name="설정").click()
    await minji.page.get_by_role("radio", name="English").check()
    await expect(minji.page.get_by_role("dialog")).to_contain_text("Settings")
    await minji.page.reload()
    await expect(minji.page.locator(".day")).to_have_text("Today")


async def test_a_name_that_cannot_be_used_is_said_so_before_anything_is_asked(visit: Visit) -> None:
    ada = await visit("ada")
    await ada.page.get_by_role("button", name="Settings").click()
    await ada.page.get_by_role("button", name="Change name").click()
    await ada.page.fill("input[name=name]", "민지 김")
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.get_by_role("alert")).to_contain_text("can be used")
    await ada.page.fill("input[name=name]", "minji.kim")
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.locator(".me-name")).to_have_text("minji.kim")
    await ada.is_up()
