from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.sequencing.recovery import Restoring
from agents.sequencing.rows import TABLES, Checkpoint, Rows
from chat.errors import BrokenInvariant, LogHole, UnknownVersion
from chat.log.taking import Position
from chat.records import Event, PostMessage, Verdict, Writer, encode, record_headers
from chat.rooms.decide import decide

MINE = "my-attempt"


class Partition:
    """Builds the records of one partition of the event log."""

    def __init__(self) -> None:
        self.records: list = []
        self.rows = Rows(0, {t: {} for t in TABLES})
        self.term = -1
        self.src = -1

    def raw(self, value: bytes | None, headers) -> None:
        self.records.append(
            SimpleNamespace(offset=len(self.records), value=value, headers=tuple(headers), timestamp=1_700_000_000_000)
        )

    def fence(self, attempt: str) -> int:
        self.term = len(self.records)
        self.raw(encode(Writer(v=1, id=attempt)), [("kind", b"writer")])
        return self.term

    def post(self, room: str = "lobby") -> None:
        command = PostMessage(v=1, room=room, sender="ann", nonce="n", create=True)
        event = decide(self.rows.of(room), command, 1000 + len(self.records))
        assert isinstance(event, Event)
        self.rows.fold(event)
        self.src += 1
        self.raw(encode(event), record_headers(self.src, self.term, event.kind))

    def verdict(self, outcome: str) -> None:
        self.src += 1
        self.raw(
            encode(Verdict(v=1, outcome=outcome, at=1000 + len(self.records))),  # type: ignore[arg-type]
            record_headers(self.src, self.term, "verdict"),
        )


def restore(log: Partition, rows: Rows | None = None) -> Restoring:
    restoring = Restoring(0, rows or Rows(0, {t: {} for t in TABLES}), MINE)
    for record in log.records[restoring.taker.offset + 1 :]:
        restoring.feed(record)
        if restoring.done:
            break
    return restoring


def test_an_empty_partition_begins_with_its_first_fence() -> None:
    log = Partition()
    log.fence(MINE)
    restored = restore(log)
    assert restored.done
    assert restored.taker.position == Position(0, -1, 0)
    assert not restored.unsnapshotted


def test_state_is_the_fold_of_what_counts_before_the_own_fence() -> None:
    log = Partition()
    log.fence("w0")
    log.post()
    log.post()
    log.fence(MINE)
    restored = restore(log)
    assert restored.rows.of("lobby").head.seq == 2
    assert restored.taker.position == Position(3, 1, 3)
    assert restored.unsnapshotted


def test_a_zombies_record_between_two_fences_is_not_folded() -> None:
    log = Partition()
    old = log.fence("w0")
    log.post()
    log.fence("w1")
    log.raw(b"zombie", record_headers(1, old, "message"))
    log.fence(MINE)
    assert restore(log).rows.of("lobby").head.seq == 1


def test_of_two_copies_of_the_own_fence_the_first_is_the_term() -> None:
    log = Partition()
    log.fence("w0")
    term = log.fence(MINE)
    log.fence(MINE)
    assert restore(log).taker.term == term


def test_a_fence_of_somebody_else_is_not_taken_for_the_own_one() -> None:
    log = Partition()
    log.fence("w0")
    log.raw(b"no json", [("kind", b"writer")])
    log.fence("w2")
    restored = restore(log)
    assert not restored.done


def test_folding_goes_on_from_the_checkpoint() -> None:
    log = Partition()
    log.fence("w0")
    log.post()
    data: dict = {t: {} for t in TABLES}
    rows = Rows(0, data)
    restore_first = Restoring(0, rows, MINE)
    for record in log.records:
        restore_first.feed(record)
    rows.capture(Checkpoint(offset=1, src=0, term=0, at=1001))
    log.post()
    log.fence(MINE)
    restored = restore(log, rows)
    assert restored.rows.of("lobby").head.seq == 2
    assert restored.taker.position == Position(3, 1, 3)


@pytest.mark.parametrize(("outcome", "unsnapshotted"), [("tick", False), ("refused", True), ("watch", True)])
def test_ticks_alone_leave_nothing_to_snapshot(outcome: str, unsnapshotted: bool) -> None:
    log = Partition()
    log.fence("w0")
    log.verdict(outcome)
    log.fence(MINE)
    assert restore(log).unsnapshotted is unsnapshotted


def test_log_time_goes_on_from_verdicts_too() -> None:
    log = Partition()
    log.fence("w0")
    log.post()
    log.verdict("refused")
    log.fence(MINE)
    assert restore(log).clock.at == 1002


def test_a_kind_that_is_not_known_stops() -> None:
    log = Partition()
    term = log.fence("w0")
    log.raw(b"{}", record_headers(0, term, "room.painted"))
    with pytest.raises(UnknownVersion):
        restore(log)


@pytest.mark.parametrize("kind", ["message", "verdict"])
def test_a_newer_version_stops(kind: str) -> None:
    log = Partition()
    term = log.fence("w0")
    log.raw(b'{"v":2}', record_headers(0, term, kind))
    with pytest.raises(UnknownVersion):
        restore(log)


@pytest.mark.parametrize("kind", ["message", "verdict"])
def test_a_record_that_counts_and_does_not_decode_stops(kind: str) -> None:
    log = Partition()
    term = log.fence("w0")
    log.raw(b"junk", record_headers(0, term, kind))
    with pytest.raises(BrokenInvariant):
        restore(log)


def test_a_missing_command_stops() -> None:
    log = Partition()
    log.fence("w0")
    log.src = 4
    log.post()
    with pytest.raises(LogHole):
        restore(log)
