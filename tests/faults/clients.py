"""Clients that break off, hang, read nothing or come by the thousand: what it costs the others, and what it loses.

`python -m tests.faults clients` runs the long version on a stack of its own: each kind of rudeness beside somebody who
only chats (tests/faults/bystander.py), then 10,000 resets with resend. tests/faults/test_clients.py runs a short one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.bystander import Bystander, Comparison, Memory, compare
from tests.faults.rude import KINDS, Socket, opened, rude
from tests.faults.system import System
from tests.people import Reader, dial, hang_up
from tests.websocket import masked

LARGE_BYTES = 40_000
LARGE_MESSAGES = 300
"""A room of 12 MB: more than any bound of one connection."""
SEND_AT_ONCE = 100
RETRY_S = 0.2

_RECEIPT = re.compile(rb"RECEIPT\n(.*?)\n\n", re.DOTALL)


# ---------------------------------------------------------------- resets


@dataclass
class Resender:
    """Posts `count` messages, each only after its SEND was cut off by `resets` resets; then it is sent whole."""

    port: int
    login: str
    room: str
    count: int
    resets: int
    chance: random.Random
    receipts: dict[int, int] = field(default_factory=dict)
    """Number of the message to the seq that its RECEIPT said."""
    repeated: int = 0
    """RECEIPTs that said `x-duplicate`: a reset came after all of the SEND had arrived."""

    async def run(self) -> None:
        for n in range(self.count):
            for _ in range(self.resets):
                await self._cut_off(n)
            await self._whole(n)

    def _frame(self, n: int) -> bytes:
        head = f"SEND\ndestination:/room/{self.room}\nx-client-id:{self.login}-{n}\nreceipt:{n}\n\n"
        return masked(f"{head}{self.login} {n}\0".encode())

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Socket]:
        """Who is refused (too many come at once) tries again a moment later, as long as it takes."""
        while True:
            async with opened() as client:
                try:
                    await client.connect(self.port, self.login)
                except ConnectionResetError:
                    await asyncio.sleep(self.chance.uniform(0, 2 * RETRY_S))
                    continue
                yield client
                return

    async def _cut_off(self, n: int) -> None:
        async with self._connected() as client:
            frame = self._frame(n)
            await client.write(frame[: self.chance.randint(1, len(frame))])

    async def _whole(self, n: int) -> None:
        async with self._connected() as client:
            await client.write(self._frame(n))
            seen = b""
            while (found := _RECEIPT.search(seen)) is None:
                data = await client.read()
                assert data, f"{self.login} {n}: closed instead of a RECEIPT: {seen!r}"
                seen += data
        headers = dict(line.split(b":", 1) for line in found[1].split(b"\n"))
        assert headers[b"receipt-id"] == str(n).encode()
        self.receipts[n] = int(headers[b"x-seq"])
        self.repeated += b"x-duplicate" in headers


async def resend_over_resets(
    port: int, room: str, *, people: int, messages: int, resets: int, chance: random.Random
) -> list[Resender]:
    """`people` of them at once in one room. Fails when a message is missing, stands twice or is not where it was said."""
    resenders = [Resender(port, f"resender{i}", room, messages, resets, chance) for i in range(people)]
    async with asyncio.TaskGroup() as group:
        for resender in resenders:
            group.create_task(resender.run())
    total = people * messages
    reader = Reader(lambda: f"ws://127.0.0.1:{port}/ws", "checks", room)
    reading = asyncio.create_task(reader.run())
    try:
        await reader.until(total)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    told = {f"{r.login} {n}": seq for r in resenders for n, seq in r.receipts.items()}
    stands = [body for _, body in reader.seen]
    assert len(stands) == len(set(stands)), "a message stands twice"
    assert {body: seq for seq, body in reader.seen} == told, "a message is missing, or is not where its RECEIPT said"
    assert await head_of(port, room) == total, "something came that nobody was told of"
    return resenders


async def head_of(port: int, room: str) -> int:
    """The number of the room's last event."""
    line = await dial(lambda: f"ws://127.0.0.1:{port}/ws", "asks")
    await line.write(line.stomp.subscribe(f"/room/{room}", "0", receipt="s"))
    frame = await line.until("RECEIPT", receipt_id="s")
    await line.socket.close()
    return int(frame.headers["x-head-seq"])


async def fill(port: int, room: str, count: int, size: int) -> None:
    """A room with a long history."""
    line = await dial(lambda: f"ws://127.0.0.1:{port}/ws", "filler")
    for start in range(0, count, SEND_AT_ONCE):
        end = min(count, start + SEND_AT_ONCE)
        for n in range(start, end):
            await line.write(line.stomp.send(f"/room/{room}", f"{n} ".ljust(size, "x"), receipt=str(n)))
        await line.until("RECEIPT", receipt_id=str(end - 1))
    await line.socket.close()


# ---------------------------------------------------------------- beside somebody who only chats


@dataclass
class Beside:
    """What one kind of rudeness costs."""

    kind: str
    comparison: Comparison
    memory: Memory

    def __str__(self) -> str:
        return f"{self.kind}: {self.comparison}; {self.memory}"


async def beside(
    kind: str, port: int, pids: dict[str, int], *, rounds: int, seconds: float, room: str, login: str = "bystander"
) -> Beside:
    """Rude clients of one kind in `room`, and a bystander in a room of its own, on one gateway."""
    bystander = await Bystander.connect(f"ws://127.0.0.1:{port}/ws", f"beside-{kind}", login)
    memory = Memory(pids)
    watching = asyncio.create_task(memory.watch())
    try:
        comparison = await compare(bystander, lambda: rude(kind, port, room), rounds, seconds)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return Beside(kind, comparison, memory)


# ---------------------------------------------------------------- the long version


def main(arguments: Sequence[str]) -> int:
    """The long version; the exit status tells whether all of it held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults clients")
    parser.add_argument("--resets", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each quiet and each disturbed round")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of rudeness, in this order")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args(arguments)
    folder = (chosen.data or Path("build/faults") / f"clients-{chosen.seed}").resolve()
    return asyncio.run(_long(chosen, folder))


async def _long(chosen: argparse.Namespace, folder: Path) -> int:
    lines = [f"seed {chosen.seed}"]

    def say(line: str) -> None:
        lines.append(line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    counts = {"gateway": 1, "sequencer": 1, "archiver": 1, "projector": 1}
    system = System(folder / "stack", counts)
    system.stack.environ["ROOMLOG_CONNECTS_PER_S"] = "100"
    async with system:
        try:
            port = system.port("gateway")
            pids = {name: system.stack.pid(name) for name in system.workers()}
            await fill(port, "large", LARGE_MESSAGES, LARGE_BYTES)
            for kind in filter(None, chosen.kinds.split(",")):
                room = "large" if kind == "unread-history" else f"rude-{kind}"
                found = await beside(kind, port, pids, rounds=chosen.rounds, seconds=chosen.seconds, room=room)
                say(str(found))
            # 20 people, each message cut off twice.
            people, resets = 20, 2
            messages = max(1, chosen.resets // (people * resets))
            chance = random.Random(chosen.seed)
            done = await resend_over_resets(
                port, "resets", people=people, messages=messages, resets=resets, chance=chance
            )
            repeated = sum(resender.repeated for resender in done)
            say(
                f"{people * messages * resets} resets: {people * messages} messages, each there once, where its "
                f"RECEIPT said; {repeated} of them had arrived before a reset"
            )
        except AssertionError as error:
            say(f"FAILED: {error}")
            return 1
        finally:
            await hang_up()
            (folder / "clients.txt").write_text("\n".join(lines) + "\n")
    system.remove()
    return 0
