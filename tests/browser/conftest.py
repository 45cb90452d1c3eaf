"""One Chromium and one Roomlog for all browser tests; every test has people and rooms of its own.

The browser is the system's (Playwright downloads none), the page is the one that `make page` built. A test that ends
with an error in a page's console, or with something that the page's policy forbids, has failed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from stack.layout import Layout
from stack.needs import provide
from stack.progress import Progress
from tests.browser.visitor import Visitor
from tests.engines import ROOT, Engines, Namespace, Worker, Workers, in_thread

SCREENSHOTS = ROOT / "build" / "screenshots"
"""Ignored by git; the last run's pictures stay there for people to look at."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Programs that will do. None there: Debian's is installed where that may be done, else a line says how."""

_ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="session")
def roomlog(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    assert (ROOT / "web" / "static" / "index.html").exists(), "the page is not built: make page"
    namespace = Namespace(engines, f"browser-{os.getpid()}", tmp_path_factory.mktemp("browser"))
    namespace.make_topics()
    namespace.make_keyspace()
    workers = Workers(namespace)
    try:
        in_thread(workers.together("sequencer", "archiver", "projector", "gateway"))
        yield workers
    finally:
        workers.kill()


@pytest.fixture(scope="session")
def gateway(roomlog: Workers) -> Worker:
    return next(worker for worker in roomlog.all if worker.role == "gateway")


@pytest.fixture
def room() -> str:
    """A room of this test's own."""
    return f"b-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        layout = Layout(tmp_path_factory.mktemp("packages"))
        layout.make()
        await provide({"chromium": 0}, layout, Progress())
        chromium = shutil.which("chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, gateway: Worker) -> AsyncIterator[Visit]:
    """`await visit("ada")`: a person with a browser of their own, at the page; `changed` are context options."""
    visitors: list[Visitor] = []

    async def come(name: str, room: str | None = None, url: str | None = None, **changed: object) -> Visitor:
        options = {"locale": "en-GB", "viewport": {"width": 1280, "height": 800}, **changed}
        context = await browser.new_context(**options)  # type: ignore[arg-type]  # options by name
        context.set_default_timeout(20_000)
        visitor = Visitor(await context.new_page(), name, url or gateway.url)
        visitors.append(visitor)
        await visitor.come(room)
        return visitor

    yield come
    for visitor in visitors:
        await visitor.page.context.close()
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Visitor, str], Awaitable[Path]]:
    """`await picture(visitor, "dark")` keeps a screenshot."""

    async def take(visitor: Visitor, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        await visitor.page.screenshot(path=path)
        return path

    return take
