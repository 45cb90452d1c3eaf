"""What the tests of `verify` share."""

from __future__ import annotations

import asyncio
import re
import subprocess
from typing import Any

from agents.verify import Audit, Summary
from chat.settings import Settings
from chat.stores.cassandra.session import open_cluster
from tests.engines import Namespace
from tests.integration.test_operations_commands import faust as any_operation

WAIT_S = 60.0


async def audit(settings: Settings, room: str | None = None, *, wait_s: float = WAIT_S) -> Summary:
    made = Audit(settings, room=room)
    try:
        await made.connect()
        return await made.run(wait_s)
    finally:
        await made.stop()


def faust(namespace: Namespace, *arguments: str, **changed: object) -> subprocess.CompletedProcess[str]:
    """An operation, without the lines in which it says how far it is (it does so when it takes long)."""
    done = any_operation(namespace, *arguments, **changed)
    done.stderr = re.sub(r"^.* records, .*/s, .* s left\n", "", done.stderr, flags=re.MULTILINE)
    return done


def found(summary: Summary) -> set[tuple[str, str, str, int, str]]:
    assert not summary.unread
    return {(f.store.value, f.part, f.room, f.seq, f.wrong.value) for f in summary.findings}


async def cql(settings: Settings, statement: str, *values: Any) -> list[Any]:
    def run() -> list[Any]:
        cluster = open_cluster(settings)
        try:
            return list(cluster.connect(settings.keyspace).execute(statement, values))
        finally:
            cluster.shutdown()

    return await asyncio.to_thread(run)
