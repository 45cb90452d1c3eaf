"""Each rule of the log, and the trace that breaks the sequencer without it (docs/architecture.md, the invariants).

Every trace is run twice: as the product does it, and with one rule left out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.sequencing.recovery import Restoring
from agents.sequencing.rows import load_rows
from chat.errors import BrokenInvariant
from chat.records import PostMessage, decode_event
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


@pytest.mark.parametrize("weakness", Weakness, ids=lambda weakness: weakness.name.lower())
def test_without_this_rule_the_trace_breaks(weakness: Weakness) -> None:
    with pytest.raises((AssertionError, BrokenInvariant)):
        _TRACES[weakness](Model(weakness))


@pytest.mark.parametrize("weakness", Weakness, ids=lambda weakness: weakness.name.lower())
def test_with_all_rules_the_trace_is_harmless(weakness: Weakness) -> None:
    _TRACES[weakness](Model())
