"""A person at the page: what they do, and what they see."""

from __future__ import annotations

import re

from playwright.async_api import ConsoleMessage, Locator, Page, expect

# What Chromium itself says when a test takes the network away, kills a gateway, or asks for a room that nobody made.
_EXPECTED = re.compile(r"WebSocket connection to|net::ERR_|Failed to load resource")

_SEQS = "rows => rows.map(row => Number(row.dataset.seq))"
_BODIES = "rows => rows.map(row => row.querySelector('.body').textContent)"

TIMEOUT_MS = 30_000
expect.set_options(timeout=TIMEOUT_MS)


class Visitor:
    """One page in a browser context of its own."""

    def __init__(self, page: Page, name: str, url: str) -> None:
        self.page = page
        self.name = name
        self.url = url
        self.complaints: list[str] = []
        """Errors that no person should cause: exceptions, and what the page's policy blocked."""
        self._watch(page)

    def _watch(self, page: Page) -> None:
        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not _EXPECTED.search(message.text):
                self.complaints.append(f"{self.name}: {message.text}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"{self.name}: {error}"))

    # ------------------------------------------------------------ what they do

    async def come(self, room: str | None = None) -> None:
        """Open the page, say who one is, and open a room by its link."""
        await self.page.goto(self.url + (f"/#/room/{room}" if room else "/"))
        await self.page.fill("input[name=name]", self.name)
        await self.page.keyboard.press("Enter")
        await expect(self.page.locator(".dot.up")).to_be_attached()
        if room:
            await expect(self.page.locator("ol.rows[aria-busy=false]")).to_be_attached()

    async def say(self, text: str) -> None:
        """Write a message and press Enter."""
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def another_tab(self, room: str) -> None:
        """Go on in a new tab of the same browser: the same name, the same storage."""
        context = self.page.context
        await self.page.close()
        self.page = await context.new_page()
        self._watch(self.page)
        await self.page.goto(f"{self.url}/#/room/{room}")

    async def scroll(self, by_px: int) -> None:
        """Turn the mouse wheel over the messages."""
        await self.page.mouse.move(560, 400)
        await self.page.mouse.wheel(0, by_px)

    # ------------------------------------------------------------ what they see

    @property
    def composer(self) -> Locator:
        return self.page.locator("textarea")

    @property
    def messages(self) -> Locator:
        """Messages that are in the log."""
        return self.page.locator(".row.message[data-seq]")

    @property
    def pending(self) -> Locator:
        """Messages that are not in the log yet, as far as the page knows."""
        return self.page.locator(".row.pending")

    @property
    def banner(self) -> Locator:
        return self.page.locator(".banner")

    @property
    def people(self) -> Locator:
        return self.page.locator(".people [data-user]")

    def room_link(self, room: str) -> Locator:
        return self.page.locator(f"[data-room='{room}']")

    async def seqs(self) -> list[int]:
        """Numbers of all events in the document; fails when one is missing, doubled or out of order."""
        found: list[int] = await self.page.locator(".row[data-seq]").evaluate_all(_SEQS)
        if found:
            assert found == list(range(found[0], found[0] + len(found))), f"{self.name} sees {found}"
        return found

    async def bodies(self) -> list[str]:
        """Texts of the messages that are in the log, as they stand in the document."""
        await self.seqs()
        found: list[str] = await self.messages.evaluate_all(_BODIES)
        return found

    async def sees(self, *texts: str) -> None:
        """Wait until exactly these messages are there, in this order, and nothing is pending."""
        await expect(self.messages.locator(".body")).to_have_text(list(texts))
        await expect(self.pending).to_have_count(0)
        await self.seqs()

    async def sees_failed(self, *texts: str) -> None:
        """Wait until exactly these messages stand there as not sent, each with its reason."""
        await expect(self.page.locator(".row.failed .body")).to_have_text(list(texts))
        await expect(self.page.locator(".row.failed .trouble")).to_contain_text(["Not sent."] * len(texts))

    async def is_up(self) -> None:
        """Wait for a connection."""
        await expect(self.page.locator(".dot.up")).to_be_attached()

    async def top_of(self, seq: int) -> float:
        """Where a row stands on the screen."""
        box = await self.page.locator(f".row[data-seq='{seq}']").bounding_box()
        assert box, f"row {seq} is not in the document"
        return float(box["y"])
