"""Operations as a person types them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest

from agents.dead_letters import DeadLetters
from chat import schemas, settings
from chat.errors import Code
from chat.stores.cassandra import migrations
from tests.engines import ROOT, Namespace, Workers, clean_environment, eventually, free_ports
from tests.eventlog import EventLog, post
from tests.integration.test_projector_rebuilds import until_listed

pytestmark = pytest.mark.timeout(300)

OURS = ["accept-loss", "dead-letters", "migrate", "rebuild-redis", "replay-dead-letter", "schema", "settings", "topics"]


def faust(namespace: Namespace, *arguments: str, **changed: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", *arguments],
        env=clean_environment() | namespace.environment(**changed),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_help_lists_every_operation_with_a_sentence(namespace: Namespace) -> None:
    done = faust(namespace, "--help")
    listed = dict(re.findall(r"^  ([a-z-]+)  +(\S.*)$", done.stdout.partition("Commands:")[2], re.MULTILINE))
    assert set(OURS) <= set(listed)
    assert "worker" in listed
    assert list(listed) == sorted(listed)
    assert all(listed[name][0].isupper() for name in OURS)


def test_migrate_makes_the_keyspace_and_does_nothing_the_second_time(namespace: Namespace) -> None:
    first, second = faust(namespace, "migrate"), faust(namespace, "migrate")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "migration 0001 room_log: statement 1 of 4" in first.stdout
    assert second.stdout == f"keyspace {namespace.settings().keyspace}: up to date\n"
    migrations.drop(namespace.settings())


def test_topics_are_made_once_checked_and_refused_when_set_otherwise(namespace: Namespace) -> None:
    missing = faust(namespace, "topics", "--check")
    assert missing.returncode == 1
    assert re.fullmatch(r"roomlog: topic \S+ is missing: run `faust -A app topics`\n", missing.stderr)
    made = faust(namespace, "topics")
    assert made.returncode == 0, made.stderr
    assert f"made topic {namespace.name}.room.events" in made.stdout
    again = faust(namespace, "topics")
    assert again.returncode == 0
    assert "made topic" not in again.stdout
    assert faust(namespace, "topics", "--check").returncode == 0
    other = faust(namespace, "topics", partitions=3)
    assert other.returncode == 1
    assert re.fullmatch(r"roomlog: topic \S+ has 4 partitions, ROOMLOG_PARTITIONS is 3: .*\n", other.stderr)


@pytest.mark.parametrize(
    ("command", "engine"),
    [("migrate", "cassandra"), ("topics", "kafka"), ("dead-letters", "kafka"), ("rebuild-redis", "redis")],
)
def test_an_engine_that_is_not_there_is_one_line(namespace: Namespace, command: str, engine: str) -> None:
    address = f"127.0.0.1:{free_ports()}"
    done = faust(namespace, command, "--wait", "0.5", **{engine: address})
    assert done.returncode == 1
    assert done.stdout.count("\n") <= 1
    assert done.stdout.startswith("waiting for ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("roomlog: ")


async def test_dead_letters_are_shown_once_with_their_reason(topics: Namespace) -> None:
    letters = DeadLetters(topics.settings())
    record = letters.letter(
        "the.topic", 3, 17, code=Code.UNDECODABLE, detail="no event", key=b"k", value=b"\xff", headers=(("h", b"x"),)
    )
    await letters.park([record])
    await letters.park([record])  # parked again after a crash
    await letters.stop()
    shown = await asyncio.to_thread(faust, topics, "dead-letters")
    assert shown.returncode == 0, shown.stderr
    line, count = shown.stdout.splitlines()
    assert line.endswith("  the.topic-3-17  undecodable  no event")
    assert count == "1 of 1 dead letters"
    as_json = await asyncio.to_thread(faust, topics, "dead-letters", "--json")
    (letter,) = map(json.loads, as_json.stdout.splitlines())
    assert (letter["offset"], letter["value_b64"], letter["headers_b64"]) == (17, "/w==", [["h", "eA=="]])
    whole = await asyncio.to_thread(faust, topics, "dead-letters", "--show", "the.topic-3-17")
    assert whole.stdout.splitlines()[3:] == ["key        k", "header     h = x", "value      1 bytes", r"b'\xff'"]
    none = await asyncio.to_thread(faust, topics, "dead-letters", "--show", "the.topic-3-18")
    assert (none.returncode, none.stderr.count("\n")) == (1, 1)


async def test_redis_is_rebuilt_while_everything_runs(worker: Workers) -> None:
    config = worker.namespace.settings()
    await worker.together("archiver", "projector")
    async with EventLog(config) as log:
        events = await log.commands([post(f"room{n % 50}") for n in range(500)])
        await until_listed(config, events)
        running = asyncio.create_task(asyncio.to_thread(faust, worker.namespace, "rebuild-redis"))
        events += await log.commands([post(f"room{n % 60}") for n in range(300)])
        done = await running
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "all 4 partitions rebuilt"
        await until_listed(config, events)


async def test_a_rebuild_without_a_projector_says_so(topics: Namespace) -> None:
    done = await asyncio.to_thread(faust, topics, "rebuild-redis", "--wait", "1")
    assert done.returncode == 1
    assert "does a projector run" in done.stderr


def test_settings_and_schemas_are_printed_as_the_code_has_them(namespace: Namespace) -> None:
    assert faust(namespace, "settings").stdout.strip() == settings.document()
    for name in schemas.TYPES:
        assert json.loads(faust(namespace, "schema", name).stdout) == json.loads(schemas.document(name))


def test_a_wrong_setting_is_one_line(namespace: Namespace) -> None:
    done = faust(namespace, "migrate", partitions="many")
    assert (done.returncode, done.stderr) == (2, "roomlog: ROOMLOG_PARTITIONS=many: not a number\n")


async def test_migrate_waits_for_a_cassandra_that_is_still_starting(namespace: Namespace) -> None:
    from tests.forwarder import Forwarder

    async with Forwarder(namespace.engines.cassandra) as forwarder:
        await forwarder.off()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "faust", "-A", "app", "migrate",
            env=clean_environment() | namespace.environment(cassandra=forwarder.address),
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line.startswith(b"waiting for Cassandra at ")
        await forwarder.on()
        await eventually(lambda: forwarder.connections > 0, "it tries again")
        rest = await asyncio.wait_for(process.stdout.read(), 120)
        assert await process.wait() == 0
        assert b"1 migration(s) applied" in rest
    migrations.drop(namespace.settings())
