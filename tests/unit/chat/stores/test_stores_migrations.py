"""The folder of migrations."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.stores.cassandra import migrations


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.cql").write_text(text)
    return folder


def test_a_file_is_cut_into_statements_without_its_comments() -> None:
    (first, *_) = migrations.load()
    assert (first.version, first.name) == (1, "room_log")
    assert [statement.split("(")[0].split()[-1] for statement in first.statements] == [
        "room_log",
        "rooms",
        "user_rooms",
        "room_members",
    ]
    assert all(statement.startswith("CREATE TABLE IF NOT EXISTS") for statement in first.statements)


def test_a_missing_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(migrations.MigrationChanged, match="without a gap"):
        migrations.load(write(tmp_path, **{"0001_a": "A;", "0003_c": "C;"}))


def test_a_number_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(migrations.MigrationChanged, match="without a gap"):
        migrations.load(write(tmp_path, **{"0001_a": "A;", "0001_b": "B;"}))


def test_the_checksum_follows_the_text(tmp_path: Path) -> None:
    (one,) = migrations.load(write(tmp_path, **{"0001_a": "A;"}))
    (other,) = migrations.load(write(tmp_path, **{"0001_a": "B;"}))
    assert one.checksum != other.checksum
