"""Each rule of the log, and the trace that breaks the sequencer without it (docs/architecture.md, the invariants).

Every trace is run twice: as the product does it, and with one rule left out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.sequencing.recovery import Restoring
from agents.sequencing.rows import load_rows
from chat.errors import BrokenInvariant
from chat.records import JoinRoom, LeaveRoom, PostMessage, decode_event
from tests.property.sequencing_model import Model, Weakness

Trace = Callable[[Model], None]
_TRACES: dict[Weakness, Trace] = {}


def without(weakness: Weakness) -> Callable[[Trace], Trace]:
    """The trace that shows what `weakness` costs."""

    def register(trace: Trace) -> Trace:
        _TRACES[weakness] = trace
        return trace

    return register


def post(model: Model, room: str, body: str = "") -> None:
    model.append_command(PostMessage(v=1, room=room, sender="ann", nonce="n", body=body, create=True), 1)


def finish(model: Model) -> None:
    """One more owner answers what is left; everything must be as if nothing had happened."""
    last = model.start()
    model.write(last, len(model.commands))
    dense(model)
    assert len(model.taken()) == len(model.commands), "a command has no answer"


def dense(model: Model) -> None:
    """Seqs of each room are 1..n, whichever version decided."""
    seqs: dict[str, int] = {}
    for record in model.taken():
        if dict(record.headers)["kind"] != b"verdict":
            event = decode_event(record.value)
            assert event.seq == seqs.get(event.room, 0) + 1, f"{event.room}: {event.seq}"
            seqs[event.room] = event.seq


@without(Weakness.NO_FENCE)
def two_versions_write_at_once(model: Model) -> None:
    old = model.start()
    post(model, "a", "x")
    post(model, "a")
    late = model.decide(old, 1)
    new = model.start()
    new.strict = True
    batch = model.decide(new, 2)
    model.land(old, late)
    model.land(new, batch)
    dense(model)


@without(Weakness.BASE_OFFSET_NOT_LOOKED_AT)
def an_owner_that_is_out_snapshots_what_nobody_took(model: Model) -> None:
    old = model.start()
    heir = model.start()
    post(model, "a")
    model.write(old)
    model.snapshot(old)
    model.show(old)
    model.kill(heir)
    finish(model)


@without(Weakness.CHECKPOINT_BEFORE_ITS_ROWS)
def the_checkpoint_lands_and_its_rows_do_not(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner, 1)
    model.kill(owner)
    post(model, "a")
    finish(model)


@without(Weakness.ROWS_OF_THE_FOLD_NOT_DIRTY)
def the_checkpoint_goes_past_a_row_that_only_the_fold_changed(model: Model) -> None:
    first = model.start()
    post(model, "a")
    model.write(first)
    model.snapshot(first)
    model.show(first)
    post(model, "a")
    model.write(first)
    model.kill(first)
    second = model.start()
    post(model, "b")
    model.write(second)
    model.snapshot(second)
    model.show(second)
    model.kill(second)
    post(model, "a")
    finish(model)


@without(Weakness.KEYS_WITHOUT_TERM)
def a_zombies_late_row_lands_over_a_newer_one(model: Model) -> None:
    zombie = model.start()
    post(model, "a")
    model.write(zombie)
    model.snapshot(zombie)
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    model.show(zombie, 1)
    model.kill(owner)
    post(model, "a")
    finish(model)


@without(Weakness.OLD_ROWS_DELETED_BEFORE_OWN)
def old_rows_go_before_the_new_ones_come(model: Model) -> None:
    first = model.start()
    post(model, "a")
    model.write(first)
    model.snapshot(first)
    model.show(first)
    model.kill(first)
    second = model.start()
    post(model, "a")
    model.write(second)
    model.snapshot(second)
    model.show(second, 1)
    model.kill(second)
    post(model, "a")
    finish(model)


@without(Weakness.READERS_TRUST_ANY_TERM)
def a_zombies_answer_is_believed(model: Model) -> None:
    zombie = model.start()
    post(model, "a", "x")
    late = model.decide(zombie, 1)
    owner = model.start()
    owner.strict = True
    model.land(zombie, late)
    post(model, "a")
    model.write(owner, 2)
    dense(model)
    assert dict(model.taken()[0].headers)["kind"] == b"verdict", "the zombie's answer was taken"


@without(Weakness.ROWS_READ_BEFORE_CHECKPOINTS)
def rows_are_read_then_a_snapshot_lands_then_its_checkpoint_is_read(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    rows_first = model.read_rows()
    model.show(owner)
    if model.weakness is Weakness.ROWS_READ_BEFORE_CHECKPOINTS:
        data = {**rows_first, "checkpoints": model.read_rows()["checkpoints"]}
    else:
        data = {**model.read_rows(), "checkpoints": rows_first["checkpoints"]}
    post(model, "a")
    heir = model.fence(data)
    model.write(heir)
    dense(model)


@without(Weakness.FENCE_BEFORE_ROWS)
def a_slow_owner_fences_and_reads_a_checkpoint_from_after_its_fence(model: Model) -> None:
    slow = model.read_rows()
    if model.weakness is Weakness.FENCE_BEFORE_ROWS:
        model.append_fence("slow")
    quick = model.start()
    post(model, "a")
    model.write(quick)
    model.snapshot(quick)
    model.show(quick)
    if model.weakness is Weakness.FENCE_BEFORE_ROWS:
        model.fold(Restoring(0, load_rows([0], model.read_rows())[0], "slow"))  # type: ignore[arg-type]
    else:
        model.fence(slow)
    finish(model)


@without(Weakness.FENCE_KNOWN_BY_WORKER)
def a_restarted_worker_adopts_its_dead_term(model: Model) -> None:
    model.kill(model.start())
    again = model.start()
    post(model, "a")
    model.write(again)
    assert len(model.taken()) == 1, "nobody takes what the restarted worker writes"


@without(Weakness.END_READ_BEFORE_THE_FENCE)
def a_batch_lands_between_the_end_that_was_seen_and_the_fence(model: Model) -> None:
    old = model.start()
    post(model, "a", "x")
    post(model, "a")
    late = model.decide(old, 1)
    end = len(model.log)
    model.land(old, late)
    heir = model.fence(model.read_rows(), saw_end=end)
    heir.strict = True
    model.write(heir, 2)
    dense(model)


@without(Weakness.POSITION_FROM_COMMITS)
def a_command_was_handed_over_and_its_owner_died(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    post(model, "a")
    model.decide(owner, 1)
    model.kill(owner)
    finish(model)


@without(Weakness.SNAPSHOT_WHEN_OUT)
def who_is_out_snapshots_under_its_heirs_term(model: Model) -> None:
    old = model.start()
    heir = model.start()
    post(model, "a")
    model.write(old)
    assert old.out
    model.snapshot(old)
    model.show(old)
    model.kill(heir)
    finish(model)


@without(Weakness.SNAPSHOTS_NOT_IDEMPOTENT)
def a_row_that_was_sent_again_lands_after_a_newer_one(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    sent_again = owner.pending[:1]
    model.show(owner)
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    if model.weakness is Weakness.SNAPSHOTS_NOT_IDEMPOTENT:
        owner.pending += sent_again
        model.show(owner)
    model.kill(owner)
    post(model, "a")
    finish(model)


@without(Weakness.ALL_OLD_ROWS_DELETED)
def a_row_that_nobody_changed_goes_with_its_term(model: Model) -> None:
    first = model.start()
    post(model, "a")
    post(model, "b")
    model.write(first, 2)
    model.snapshot(first)
    model.show(first)
    model.kill(first)
    second = model.start()
    post(model, "a")
    model.write(second)
    model.snapshot(second)
    model.show(second)
    model.kill(second)
    post(model, "b")
    finish(model)


@without(Weakness.ENDED_ROWS_DELETED)
def somebody_leaves_and_an_old_row_brings_them_back(model: Model) -> None:
    zombie = model.start()
    post(model, "a")
    model.append_command(JoinRoom(v=1, room="a", sender="bob"), 1)
    model.write(zombie, 2)
    model.snapshot(zombie)
    owner = model.start()
    model.append_command(LeaveRoom(v=1, room="a", sender="bob"), 1)
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    model.show(zombie)
    model.kill(owner)
    model.append_command(LeaveRoom(v=1, room="a", sender="bob"), 1)
    finish(model)
    model.check()


@without(Weakness.COMPACTED_WHILE_READ)
def a_row_is_compacted_between_the_end_and_the_reading(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    before = model.read_rows()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    if model.weakness is Weakness.COMPACTED_WHILE_READ:
        before["rooms"] = {key: row for key, row in before["rooms"].items() if model.changelogs["rooms"][key] == row}
    model.kill(owner)
    heir = model.fence(before)
    post(model, "a")
    model.write(heir)
    dense(model)


def two_posts_snapshotted_and_trimmed(model: Model) -> dict[str, dict[bytes, bytes]]:
    """The rows as somebody read them before."""
    owner = model.start()
    before = model.read_rows()
    post(model, "a", "x")
    post(model, "a")
    model.write(owner, 2)
    model.snapshot(owner)
    model.show(owner)
    model.trim()
    model.kill(owner)
    return before


@without(Weakness.STOPPED_BY_OLD_ROWS)
def the_log_is_trimmed_past_rows_that_somebody_has_just_read(model: Model) -> None:
    model.fence(two_posts_snapshotted_and_trimmed(model))
    post(model, "a")
    finish(model)


@without(Weakness.POSITION_RESET)
def a_recovery_whose_position_is_gone_begins_where_the_log_does(model: Model) -> None:
    heir = model.fence(two_posts_snapshotted_and_trimmed(model))
    heir.strict = True
    post(model, "a")
    model.write(heir, 3)
    dense(model)
    assert len(model.taken()) == 3


@without(Weakness.FIRST_RECORD_TRUSTED)
def the_first_record_that_a_tail_meets_is_a_zombies(model: Model) -> None:
    zombie = model.start()
    model.start()
    tail = model.tail_begins()
    post(model, "a")
    model.land(zombie, model.decide(zombie, 1))
    model.follow(tail)
    assert tail.taken == [], "a RECEIPT is sent for what nobody else takes"


@without(Weakness.FENCE_WAITED_FOR)
def the_only_fence_has_been_trimmed(model: Model) -> None:
    owner = model.start()
    post(model, "a")
    model.write(owner)
    model.snapshot(owner)
    model.show(owner)
    model.trim()
    tail = model.tail_begins()
    post(model, "a")
    model.write(owner)
    model.follow(tail)
    assert len(tail.taken) == 1, "the tail never begins"


@without(Weakness.TERM_OF_THE_LAST_TAKEN)
def a_reader_restarts_behind_a_fence_and_a_zombie_writes(model: Model) -> None:
    zombie = model.start()
    post(model, "a")
    model.write(zombie)
    model.start()
    reader = model.tail_begins()
    model.follow(reader)
    reader = model.restarted(reader)
    post(model, "a")
    model.land(zombie, model.decide(zombie, 1))
    model.follow(reader)
    assert reader.taken == [record.value for record in model.taken()]


@pytest.mark.parametrize("weakness", Weakness, ids=lambda weakness: weakness.name.lower())
def test_without_this_rule_the_trace_breaks(weakness: Weakness) -> None:
    with pytest.raises((AssertionError, BrokenInvariant)):
        _TRACES[weakness](Model(weakness))


@pytest.mark.parametrize("weakness", Weakness, ids=lambda weakness: weakness.name.lower())
def test_with_all_rules_the_trace_is_harmless(weakness: Weakness) -> None:
    _TRACES[weakness](Model())
