"""The tables, made by numbered .cql files: `faust -A app migrate`.

Applied files are remembered with their checksum in `schema_migrations`. A file runs statement by statement, and each
statement may run twice and beside itself, so a migration that was killed, or two at the same time, end in the same
tables; a file that was altered after it had been applied is refused. Blocking: run it in a thread.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from chat.errors import RoomlogError, Unavailable
from chat.settings import Settings
from chat.stores.cassandra.session import open_cluster, unavailable

FOLDER: Final = Path(__file__).resolve().parent.parent / "migrations"
REQUEST_TIMEOUT_S: Final = 60.0
"""A schema change waits for every node to agree."""
RETRY_S: Final = 0.5

_APPLIED: Final = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version int PRIMARY KEY, name text, checksum text, applied_at timestamp)"""


class MigrationChanged(RoomlogError):
    """A file differs from what was applied under its number."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the folder."""

    version: int
    name: str
    checksum: str
    statements: tuple[str, ...]


def load(folder: Path = FOLDER) -> list[Migration]:
    """The folder's migrations in order. `MigrationChanged` when numbers are missing or given twice."""
    migrations = []
    for path in sorted(folder.glob("*.cql")):
        text = path.read_text(encoding="utf-8")
        number, _, name = path.stem.partition("_")
        migrations.append(Migration(int(number), name, hashlib.sha256(text.encode()).hexdigest(), _statements(text)))
    if [m.version for m in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationChanged(f"{folder}: the numbers of the .cql files must be 0001, 0002, ... without a gap")
    return migrations


def _statements(text: str) -> tuple[str, ...]:
    bare = re.sub(r"--[^\n]*", "", text)
    return tuple(statement.strip() for statement in bare.split(";") if statement.strip())


def migrate(
    settings: Settings,
    *,
    wait_s: float = 0.0,
    say: Callable[[str], None] = lambda _line: None,
    folder: Path = FOLDER,
) -> int:
    """Bring the keyspace of `settings` to the newest version; the number of files applied.

    A Cassandra that is still starting is waited for, `wait_s` seconds at most; then `Unavailable`.

    Raises:
        MigrationChanged: an applied file has another content than when it was applied.
    """
    migrations = load(folder)
    deadline = time.monotonic() + wait_s
    waiting = False
    while True:
        try:
            return _migrate_once(settings, migrations, say)
        except (DriverException, NoHostAvailable, OSError) as error:
            if time.monotonic() >= deadline:
                raise _away(settings, error) from None
            if not waiting:
                waiting = True
                say(f"waiting for Cassandra at {_nodes(settings)}")
        time.sleep(RETRY_S)


def drop(settings: Settings) -> None:
    """Remove the keyspace and everything in it. For tests: no operation calls this.

    Raises:
        Unavailable: Cassandra does not answer.
    """
    cluster = open_cluster(settings, request_timeout_s=REQUEST_TIMEOUT_S)
    try:
        cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {settings.keyspace}")
    except (DriverException, NoHostAvailable, OSError) as error:
        raise _away(settings, error) from None
    finally:
        cluster.shutdown()


def _away(settings: Settings, error: Exception) -> Unavailable:
    return Unavailable(f"{_nodes(settings)}: {unavailable(error)}")


def _nodes(settings: Settings) -> str:
    return ",".join(f"{host}:{port}" for host, port in settings.cassandra_nodes)


def _migrate_once(settings: Settings, migrations: list[Migration], say: Callable[[str], None]) -> int:
    cluster = open_cluster(settings, request_timeout_s=REQUEST_TIMEOUT_S)
    try:
        session = cluster.connect()
        # NetworkTopologyStrategy from the first day: more data centres are one ALTER away.
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {settings.keyspace} WITH replication = {{'class': "
            f"'NetworkTopologyStrategy', '{settings.cassandra_datacenter}': {settings.cassandra_replication}}}"
        )
        session.set_keyspace(settings.keyspace)
        session.execute(_APPLIED)
        applied = {row[0]: row[1] for row in session.execute("SELECT version, checksum FROM schema_migrations")}
        return sum(_apply(session, migration, applied.get(migration.version), say) for migration in migrations)
    finally:
        cluster.shutdown()


def _apply(session: Any, migration: Migration, applied: str | None, say: Callable[[str], None]) -> bool:
    label = f"{migration.version:04d} {migration.name}"
    if applied == migration.checksum:
        return False
    if applied is not None:
        raise MigrationChanged(f"migration {label} was altered after it had been applied: restore it, add a new number")
    for number, statement in enumerate(migration.statements, 1):
        say(f"migration {label}: statement {number} of {len(migration.statements)}")
        session.execute(statement)
    session.execute(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (%s, %s, %s, toTimestamp(now()))",
        (migration.version, migration.name, migration.checksum),
    )
    return True
