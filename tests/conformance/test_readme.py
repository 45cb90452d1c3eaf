"""The programs in the READMEs do what they say, as they stand there but for the address and the room."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.conformance.stompjs import JS
from tests.conformance.wire import connected

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


def program(page: str, language: str, port: int, room: str) -> str:
    """The code block behind `<!-- client: language -->`, pointed at the gateway under test."""
    found = re.search(rf"<!-- client: {language} -->\n```\w+\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found, f"{page} has no client in {language}"
    code = found[1]
    assert "6066" in code
    assert "/room/lobby" in code
    return code.replace("6066", str(port)).replace("/room/lobby", f"/room/{room}")


async def check(command: list[str], cwd: Path, port: int, room: str, greeting: str) -> None:
    """Run a program: it must print its own message, then one of somebody else."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    assert process.stdin
    assert process.stdout

    async def line_with(text: str) -> str:
        assert process.stdout
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, "the program ended"
        return line

    try:
        async with asyncio.timeout(DEADLINE_S):
            line = await line_with(greeting)
            assert re.search(r"\b1 (mina|jun) ", line), line
            async with connected(port, "somebody") as peer:
                await peer.send("SEND", "and hello back", destination=f"/room/{room}", receipt="r")
                await peer.receipt("r")
            assert await line_with("hello back") == "2 somebody and hello back\n"
    finally:
        process.stdin.write(b"\n")
        process.stdin.close()
        if process.returncode is None and command[0] == "node":
            process.kill()  # the page's program has no end
        await asyncio.wait_for(process.wait(), DEADLINE_S)


@pytest.mark.parametrize(
    ("page", "greeting"), [("README.md", "hello from Python"), ("README.ko.md", "Python에서 보냅니다")]
)
async def test_the_python_client_of_the_readme_works(
    page: str, greeting: str, port: int, room: str, tmp_path: Path
) -> None:
    (tmp_path / "client.py").write_text(program(page, "python", port, room))
    await check([sys.executable, "client.py"], tmp_path, port, room, greeting)


@pytest.mark.usefixtures("node_modules")
@pytest.mark.parametrize(
    ("page", "greeting"), [("README.md", "hello from JavaScript"), ("README.ko.md", "JavaScript에서 보냅니다")]
)
async def test_the_javascript_client_of_the_readme_works(
    page: str, greeting: str, port: int, room: str, tmp_path: Path
) -> None:
    (tmp_path / "client.mjs").write_text(program(page, "javascript", port, room))
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    await check(["node", "--import", str(JS / "websocket.mjs"), "client.mjs"], tmp_path, port, room, greeting)
