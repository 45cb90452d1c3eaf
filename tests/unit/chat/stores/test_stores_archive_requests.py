"""How events become requests to Cassandra."""

from __future__ import annotations

from collections import Counter

from chat.records import Event, Membership, Opens, encode
from chat.stores.cassandra import archive
from chat.stores.cassandra.session import bigint, integer
from chat.stores.model import Stored


def stored(room: str, seq: int, body: str = "hello", at: int | None = None, **more: object) -> Stored:
    event = Event(
        v=1,
        room=room,
        seq=seq,
        epoch="e",
        at=at or 1_000_000 + seq,
        sender="ann",
        msg_no=seq,
        members=1,
        chain="c",
        body=body,
        **{"kind": "message"} | more,  # type: ignore[arg-type]
    )
    return Stored(event, encode(event))


def rows_of(requests: list[list[archive.Encoded]], table: str) -> list[list[bytes]]:
    return [values for request in requests for cql, values in request if f"INTO {table} " in cql]


def test_rows_of_one_partition_go_together_and_no_batch_holds_two_partitions_of_them() -> None:
    events = [stored(f"r{n % 3}", 1 + n // 3) for n in range(90)]
    requests = list(archive.requests_of(events))
    batches = [request for request in requests if "INTO room_log" in request[0][0]]
    assert [len(batch) for batch in batches] == [30, 30, 30]
    assert all(len({values[0] for _, values in batch}) == 1 for batch in batches)


def test_a_room_that_passes_a_bucket_boundary_is_cut_there() -> None:
    requests = list(archive.requests_of([stored("r", seq) for seq in range(4990, 5010)]))
    rows = rows_of(requests, "room_log")
    assert {(row[1], row[2]) for row in rows} == {
        (integer(0 if seq < 5000 else 1), bigint(seq)) for seq in range(4990, 5010)
    }
    assert all(len({values[1] for _, values in request}) == 1 for request in requests if len(request[0][1]) == 8)


def test_no_batch_passes_its_bounds() -> None:
    events = [stored("big", seq, body="x" * 48_000) for seq in range(1, 101)]
    events += [stored(f"lone{n}", 1, body="y" * (n % 7) * 100) for n in range(500)]
    for request in archive.requests_of(events):
        if "room_log" in request[0][0] and len({values[0] for _, values in request}) == 1:
            assert len(request) <= archive.PARTITION_ROWS_MAX
            assert sum(len(values[6]) for _, values in request) <= archive.PARTITION_BYTES_MAX
        else:
            size = sum(archive.ROW_OVERHEAD_BYTES + sum(map(len, values)) for _, values in request)
            assert len(request) <= archive.MIXED_ROWS_MAX
            assert size <= archive.MIXED_BYTES_MAX or len(request) == 1


def test_every_event_is_written_once_byte_for_byte_with_its_own_time() -> None:
    events = [stored(f"r{n % 40}", 1 + n // 40) for n in range(97)]
    rows = rows_of(list(archive.requests_of(events)), "room_log")
    assert Counter(row[6] for row in rows) == Counter(event.value for event in events)
    assert all(row[3] == row[7] for row in rows)


def test_a_room_row_is_written_once_for_the_newest_event_in_whatever_order_they_come() -> None:
    events = [stored("r", seq) for seq in (3, 1, 2)]
    (row,) = rows_of(list(archive.requests_of(events)), "rooms")
    assert row[1] == bigint(3)
    assert row[-1] == bigint(1_000_003)


def test_nothing_is_written_as_null() -> None:
    opening = stored("r", 1, opens=Opens(kind="open", owner="ann"), member=Membership(user="ann", role="owner"))
    named = stored("s", 1, opens=Opens(kind="open", owner="ann", name="S"), member=Membership(user="ann", role="owner"))
    requests = list(archive.requests_of([opening, named]))
    assert all(value is not None for request in requests for _, values in request for value in values)
    assert [row for row in rows_of(requests, "rooms") if len(row) == 3] == [[b"s", b"S", bigint(1_000_001)]]


def test_a_membership_stands_in_both_of_its_views() -> None:
    left = stored("r", 9, member=Membership(user="bob", role="none"))
    requests = list(archive.requests_of([left]))
    assert rows_of(requests, "room_members") == [
        [b"r", b"bob", b"none", bigint(9), bigint(1_000_009), bigint(1_000_009)]
    ]
    assert rows_of(requests, "user_rooms") == [[b"bob", b"r", b"none", bigint(9), bigint(1_000_009), bigint(1_000_009)]]


def test_a_new_epoch_alters_what_the_room_is_and_not_when_it_was_made() -> None:
    anew = stored("r", 9, kind="room.renumbered", opens=Opens(kind="open", owner="ann"))
    (about,) = [
        (cql, values)
        for request in archive.requests_of([anew])
        for cql, values in request
        if "INTO rooms " in cql and "epoch" in cql
    ]
    assert "created_at" not in about[0]
    assert about[1][:5] == [b"r", b"open", b"ann", b"e", bigint(9)]
