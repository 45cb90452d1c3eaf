"""Somebody who only chats, and what the same chat costs while others misbehave: A, B, A, B in one run.

Wall clocks of a small machine are noise, and disturbances use its processors themselves; that is why each round of the
disturbance has a quiet round right before it, and why medians of medians are compared.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.people import Line, dial

PAUSE_S = 0.02
"""Between an answer and the next message: the bystander is no load."""
ANSWER_S = 30.0

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Disturbance = Callable[[], AbstractAsyncContextManager[object]]


def rss_mb(pid: int) -> float:
    """Memory of a process that is in RAM now, in MiB; 0 when there is no such process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * _PAGE_BYTES / 1_048_576


@dataclass
class Memory:
    """How much memory processes took at most while `watch` ran."""

    pids: dict[str, int]
    before: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = {name: rss_mb(pid) for name, pid in self.pids.items()}
        self.most = dict(self.before)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(0.1)
            self.look()

    def look(self) -> None:
        """Now."""
        for name, pid in self.pids.items():
            self.most[name] = max(self.most[name], rss_mb(pid))

    def grown(self, name: str) -> float:
        """MiB that it grew by at most."""
        return self.most[name] - self.before[name]

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.before[name]:.0f} -> {self.most[name]:.0f} MiB" for name in self.pids)


@dataclass
class Chat:
    """Times of one stretch, in seconds."""

    receipts_s: list[float] = field(default_factory=list)
    """SEND to RECEIPT."""
    messages_s: list[float] = field(default_factory=list)
    """SEND to one's own MESSAGE."""

    @property
    def p50_receipt_s(self) -> float:
        return statistics.median(self.receipts_s)

    @property
    def p50_message_s(self) -> float:
        return statistics.median(self.messages_s)


class Bystander:
    """One connection, subscribed to its own room, one message at a time."""

    def __init__(self, line: Line, room: str) -> None:
        self._line = line
        self._room = room
        self._sent = 0

    @classmethod
    async def connect(cls, address: str, room: str, login: str = "bystander") -> Bystander:
        """Subscribed when this returns."""
        line = await dial(lambda: address, login)
        await line.write(line.stomp.subscribe(f"/room/{room}", "0", receipt="s"))
        await line.until("RECEIPT", receipt_id="s")
        return cls(line, room)

    async def chat(self, seconds: float) -> Chat:
        """Messages for so long. Raises `ConnectionClosed` when the server ends it: a bystander is never refused."""
        chat = Chat()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self.say(chat)
            await asyncio.sleep(PAUSE_S)
        return chat

    async def say(self, chat: Chat) -> None:
        """One message, its MESSAGE and its RECEIPT."""
        self._sent += 1
        name = str(self._sent)
        frame = self._line.stomp.send(f"/room/{self._room}", name, receipt=name)
        began = time.monotonic()
        await self._line.write(frame)
        wanted = {"RECEIPT", "MESSAGE"}
        async with asyncio.timeout(ANSWER_S):
            while wanted:
                frame_ = await self._line.next()
                assert frame_.command in wanted, f"the bystander was sent {frame_}"
                wanted.discard(frame_.command)
                times = chat.receipts_s if frame_.command == "RECEIPT" else chat.messages_s
                times.append(time.monotonic() - began)
                said = frame_.headers.get("receipt-id") or frame_.body.decode()
                assert said == name, f"{said} came, {name} was sent"


@dataclass
class Comparison:
    """Quiet and disturbed rounds in turn, of the same length."""

    quiet: list[Chat] = field(default_factory=list)
    disturbed: list[Chat] = field(default_factory=list)

    @property
    def receipt_ratio(self) -> float:
        """Disturbed to quiet p50 of SEND to RECEIPT: the median of the rounds' own ratios."""
        return self._ratio(lambda chat: chat.p50_receipt_s)

    @property
    def message_ratio(self) -> float:
        """The same of SEND to MESSAGE."""
        return self._ratio(lambda chat: chat.p50_message_s)

    def _ratio(self, p50: Callable[[Chat], float]) -> float:
        pairs = zip(self.quiet, self.disturbed, strict=True)
        return statistics.median(p50(disturbed) / p50(quiet) for quiet, disturbed in pairs)

    def __str__(self) -> str:
        def ms(chats: list[Chat]) -> str:
            receipts = statistics.median(chat.p50_receipt_s for chat in chats) * 1000
            messages = statistics.median(chat.p50_message_s for chat in chats) * 1000
            return f"receipt {receipts:.2f} ms, message {messages:.2f} ms"

        return (
            f"p50 quiet: {ms(self.quiet)}; disturbed: {ms(self.disturbed)}; "
            f"ratio {self.receipt_ratio:.2f}, {self.message_ratio:.2f} ({len(self.quiet)} rounds)"
        )


async def compare(bystander: Bystander, disturbance: Disturbance, rounds: int, seconds: float) -> Comparison:
    """Chat for `seconds` without and with the disturbance, `rounds` times in turn."""
    comparison = Comparison()
    for _ in range(rounds):
        comparison.quiet.append(await bystander.chat(seconds))
        async with disturbance():
            comparison.disturbed.append(await bystander.chat(seconds))
    return comparison
