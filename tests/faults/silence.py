"""How long nothing came: for each fault the longest time without a RECEIPT and without a delivery, from its injection on.

Two ways to say it. "Anybody": nobody at all got anything. "Worst room": the room that waited longest; with several
workers of a role a fault silences some rooms only, and this is what their people notice. And how long an answer took
while the fault held: the time from SEND to RECEIPT. Pure.
"""

from __future__ import annotations

import math
import statistics
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge

from tests.faults.history import Calls, Disturbance, History, Outcome, longest_gap_s

AFTER_S = 2.0
"""A fault's window goes on for so long after all processes were ready again."""


@dataclass(frozen=True)
class Silence:
    """What clients noticed of one fault, in seconds."""

    kind: str
    detail: str
    began_s: float
    receipts_s: float
    receipts_worst_room_s: float
    deliveries_s: float
    deliveries_worst_reader_s: float
    lost_connections: int
    back_s: float
    """The longest that a client was without its connection, of those that lost it."""
    answers_s: tuple[float, ...] = ()
    """From SEND to RECEIPT, ascending, of every SEND between injection and healing that got one."""


@dataclass(frozen=True)
class Summary:
    """All faults of one kind: (median, maximum) of each figure."""

    kind: str
    count: int
    receipts: tuple[float, float]
    receipts_worst_room: tuple[float, float]
    deliveries: tuple[float, float]
    deliveries_worst_reader: tuple[float, float]
    back: tuple[float, float]
    answers: tuple[float, float]
    """SEND to RECEIPT under all of them together: (p50, p99). NaN when nothing was sent."""


def measure(history: History, *, quiet: tuple[float, float] | None = None) -> list[Silence]:
    """The silences of a run, one for each fault; `quiet` is a span without any fault, to compare with."""
    receipts = array("d", merge(*history.receipts_s.values()))
    deliveries = array("d", merge(*(record.at_s for record in history.records)))
    spans = list(history.disturbances)
    if quiet is not None:
        spans.insert(0, Disturbance("(no fault)", "", quiet[0], quiet[1] - AFTER_S, quiet[1] - AFTER_S))
    found = []
    for index, span in enumerate(spans):
        began_s, ended_s = span.began_s, span.ready_s + AFTER_S
        if index + 1 < len(spans):
            ended_s = min(ended_s, spans[index + 1].began_s)
        outages = [outage.back_s - outage.lost_s for outage in history.outages if began_s <= outage.lost_s < ended_s]
        found.append(
            Silence(
                kind=span.kind if not span.kind.startswith("together") else "several together",
                detail=span.detail,
                began_s=began_s,
                receipts_s=longest_gap_s(receipts, began_s, ended_s),
                receipts_worst_room_s=_worst(list(history.receipts_s.values()), began_s, ended_s),
                deliveries_s=longest_gap_s(deliveries, began_s, ended_s),
                deliveries_worst_reader_s=_worst(
                    [record.at_s for record in history.records if record.at_s and record.at_s[0] <= began_s],
                    began_s,
                    ended_s,
                ),
                lost_connections=len(outages),
                back_s=max(outages, default=0.0),
                answers_s=_answers(history.calls, began_s, span.healed_s or ended_s),
            )
        )
    return found


def summarise(silences: Sequence[Silence]) -> list[Summary]:
    """A line a kind, in the order of their first appearance."""
    kinds: dict[str, list[Silence]] = {}
    for silence in silences:
        kinds.setdefault(silence.kind, []).append(silence)
    return [
        Summary(
            kind,
            len(group),
            _spread([s.receipts_s for s in group]),
            _spread([s.receipts_worst_room_s for s in group]),
            _spread([s.deliveries_s for s in group]),
            _spread([s.deliveries_worst_reader_s for s in group]),
            _spread([s.back_s for s in group]),
            percentiles([answer_s for s in group for answer_s in s.answers_s]),
        )
        for kind, group in kinds.items()
    ]


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """(p50, p99) of some values, each one of them; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan, math.nan
    return ordered[(len(ordered) - 1) // 2], ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]


def _answers(calls: Calls, began_s: float, ended_s: float) -> tuple[float, ...]:
    first, last = bisect_left(calls.invoked_s, began_s), bisect_left(calls.invoked_s, ended_s)
    return tuple(
        sorted(
            calls.answered_s[call] - calls.invoked_s[call]
            for call in range(first, last)
            if calls.outcome[call] in (Outcome.NUMBERED, Outcome.REPEATED)
        )
    )


def _worst(series: Sequence[array[float]], began_s: float, ended_s: float) -> float:
    return max((longest_gap_s(times, began_s, ended_s) for times in series), default=0.0)


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), max(values)
