"""When Cassandra counts as away, for whoever writes again what it may have lost."""

from __future__ import annotations

import pytest

from chat.stores.cassandra.session import has_majorities


@pytest.mark.parametrize(
    ("nodes_up", "replication", "expected"),
    [
        ([True], 1, True),
        ([False], 1, False),
        ([], 1, False),
        ([None], 1, False),
        ([True, True, True], 3, True),
        ([True, None, True], 3, True),
        ([True, False, True], 3, True),
        ([True, False, False], 3, False),
        ([True, True, False], 2, False),
        ([True] * 10 + [False] * 2, 3, False),
        ([True, True, True, False, False], 5, True),
    ],
)
def test_a_write_is_safe_while_a_majority_of_any_replicas_is_up(
    nodes_up: list[bool | None], replication: int, expected: bool
) -> None:
    assert has_majorities(nodes_up, replication) is expected
