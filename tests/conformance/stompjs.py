"""`@stomp/stompjs` on Node, driven from a test: js/client.mjs under remote control."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

JS = Path(__file__).parent / "js"
DEADLINE_S = 30.0

Happening = dict[str, Any]


class StompJs:
    """One Node process with one stompjs client. Everything that happened to it stands in `happened`, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._changed = asyncio.Condition()
        self.happened: list[Happening] = []

    async def read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            async with self._changed:
                self.happened.append(json.loads(line))
                self._changed.notify_all()

    def do(self, op: str, **arguments: Any) -> None:
        """Tell the client to do something."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")

    async def until(self, what: str, holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Wait until `holds()`; fails with `what` and the last things that happened."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(holds), deadline_s)
            except TimeoutError:
                raise AssertionError(f"not within {deadline_s} s: {what}; last: {self.happened[-5:]}") from None

    async def one(self, event: str, *, nth: int = 1, **headers: str) -> Happening:
        """The `nth` event of that kind whose frame has these headers (`_` stands for `-`)."""
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}

        def matching() -> list[Happening]:
            return [h for h in self.of(event) if wanted.items() <= h.get("headers", {}).items()]

        await self.until(f"{event} {wanted or ''}", lambda: len(matching()) >= nth)
        return matching()[nth - 1]

    def of(self, event: str) -> list[Happening]:
        """Everything of one kind so far."""
        return [h for h in self.happened if h["event"] == event]

    @property
    def messages(self) -> list[Happening]:
        return self.of("message")

    async def message_count(self, count: int) -> list[Happening]:
        """The messages, once there are `count`."""
        await self.until(f"{count} messages, have {len(self.messages)}", lambda: len(self.messages) >= count)
        return self.messages


@asynccontextmanager
async def stompjs(url: str, user: str, **options: Any) -> AsyncIterator[StompJs]:
    """A connected client of `user`."""
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", cwd=JS, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
    client = StompJs(process)
    reader = asyncio.create_task(client.read())
    try:
        client.do("open", url=url, headers={"login": user}, **options)
        await client.one("connected")
        yield client
    finally:
        assert process.stdin
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader
