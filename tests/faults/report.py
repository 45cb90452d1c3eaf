"""A run as a person reads it: Markdown, with everything that is needed to repeat it."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.auditor import Findings, Kind
from tests.faults.history import History, Outcome
from tests.faults.silence import Silence, summarise


@dataclass
class Result:
    """All that is known at the end of a run."""

    command: str
    seed: int
    history: History
    findings: Findings
    silences: list[Silence] = field(default_factory=list)
    seconds: float = 0.0
    rate: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    takes: Counter[str] = field(default_factory=Counter)
    restarts: dict[str, int] = field(default_factory=dict)
    rebalances: int = 0
    events: int = 0
    rooms: int = 0
    harness_cpu_s: float = 0.0
    harness_stall_s: float = 0.0
    wanted: dict[str, int] = field(default_factory=dict)
    """Faults that the run had to reach at least: kills, pauses, rebalances."""
    engines: dict[str, int] = field(default_factory=dict)

    @property
    def reached(self) -> dict[str, int]:
        """How many of those there were."""
        kinds = " + ".join(disturbance.kind for disturbance in self.history.disturbances)
        return {
            "kills": sum(kinds.count(text) for text in ("kill -9", "die at", "heir dies")),
            "pauses": sum(kinds.count(text) for text in ("pause ", "zombie wakes")),
            "rebalances": self.rebalances,
        }

    @property
    def passed(self) -> bool:
        """True when nothing was found and everything that was wanted was done."""
        return not self.findings and all(self.reached[name] >= least for name, least in self.wanted.items())


def write_report(result: Result, path: Path) -> None:
    """The report of one run."""
    path.write_text("\n".join(_lines(result)) + "\n")


def _lines(result: Result) -> list[str]:
    history, counts = result.history, result.findings.counts
    outcomes = Counter(history.calls.outcome)
    codes = Counter(history.calls.codes.values())
    receipted = {
        (call.writer, call.n) for call in history.calls if call.outcome in (Outcome.NUMBERED, Outcome.REPEATED)
    }
    deliveries = sum(len(record.seqs) for record in history.records)
    reordered = counts[Kind.REORDERED]
    verdict = "Nothing was found." if result.passed else "**FAILED.**"
    lines = [
        "# A run of the fault harness",
        "",
        (
            f"{verdict} **Lost {counts[Kind.LOST]}, doubled {counts[Kind.DOUBLED]}, reordered {reordered}** "
            f"of {len(receipted):,} receipted messages, under {len(history.disturbances)} faults."
        ),
        "",
        "| | |",
        "|---|---|",
        f"| command | `{result.command}` |",
        f"| seed | {result.seed} |",
        f"| machine | {machine()} |",
        f"| length | {result.seconds:.0f} s, {result.rate:.0f} messages a second wanted |",
        f"| workers | {', '.join(f'{count} {role}' for role, count in result.counts.items())} |",
        f"| engines | {', '.join(f'{count} {engine}' for engine, count in result.engines.items())} |",
        f"| clients | {len(history.authors)} writers, {len(history.records)} readers, {result.rooms} rooms |",
        (
            f"| calls | {len(history.calls):,}: {outcomes[Outcome.NUMBERED]:,} receipted, "
            f"{outcomes[Outcome.REPEATED]:,} receipted as repeats, {outcomes[Outcome.REFUSED]:,} refused, "
            f"{outcomes[Outcome.UNKNOWN]:,} never answered |"
        ),
        f"| refusals | {', '.join(f'{code}: {count:,}' for code, count in codes.most_common()) or 'none'} |",
        f"| deliveries | {deliveries:,} |",
        f"| lost connections | {len(history.outages):,} |",
        (
            f"| event log | {result.events:,} events; records: "
            f"{', '.join(f'{count:,} {name}' for name, count in result.takes.most_common())} |"
        ),
        f"| processes started again | {', '.join(f'{n} {c}' for n, c in result.restarts.items() if c) or 'none'} |",
        f"| kills, pauses, rebalances | {', '.join(str(count) for count in result.reached.values())} |",
        (
            f"| the harness itself | {result.harness_cpu_s:.0f} s of CPU, "
            f"{1e6 * result.harness_cpu_s / max(1, len(receipted)):.0f} us a message with its deliveries, "
            f"at worst {result.harness_stall_s:.2f} s late |"
        ),
        "",
        "## Compared",
        "",
        "For every room: the Kafka log (through fence and first wins), the rows in Cassandra, the tail in Redis, every",
        "reader's own record over all of its connections, a reader that came at the end and read everything, and every",
        "RECEIPT. Numbers dense from 1, each receipted message once with the number of its RECEIPT, the same bytes",
        "everywhere, unreceipted ones at most once, each connection's frames in their order, nothing numbered below",
        "what had been receipted before it was sent, and the chain unbroken.",
        "",
        "## Silence",
        "",
        "Longest time without any RECEIPT or delivery, from the injection until all processes were ready again and 2 s",
        "more. Median / maximum in seconds. *Anybody*: nobody at all got one. *Worst*: the room or reader that waited",
        "longest. *Back*: longest time that a client was without its connection. *Answer*: from SEND to RECEIPT of what",
        "was sent while the fault held, p50 / p99 in milliseconds (answers that never came are not among them).",
        "",
        (
            "| fault | times | RECEIPT, anybody | RECEIPT, worst room | delivery, anybody | delivery, worst reader | back "
            "| answer |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.kind} | {s.count} | {_pair(s.receipts)} | {_pair(s.receipts_worst_room)} | {_pair(s.deliveries)} "
        f"| {_pair(s.deliveries_worst_reader)} | {_pair(s.back)} "
        f"| {1000 * s.answers[0]:.0f} / {1000 * s.answers[1]:.0f} |"
        for s in summarise(result.silences)
    ]
    lines += ["", "## Faults", "", *_faults(result.silences), "", "## Findings", ""]
    if result.findings:
        lines += ["| kind | number |", "|---|---|"]
        lines += [f"| {kind} | {count:,} |" for kind, count in counts.most_common()]
        lines += ["", "The first of each kind and place:", ""]
        lines += [f"- {finding}" for finding in result.findings.listed]
    else:
        lines.append("None.")
    short = [f"{n}: {result.reached[n]} of {least}" for n, least in result.wanted.items() if result.reached[n] < least]
    if short:
        lines += ["", f"Too few faults: {', '.join(short)}."]
    if history.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in history.notes[:40])]
    return lines


def _faults(silences: Sequence[Silence]) -> list[str]:
    lines = ["| at | fault | what | RECEIPT, worst room | connections lost |", "|---|---|---|---|---|"]
    lines += [
        f"| {s.began_s:.1f} s | {s.kind} | {s.detail} | {s.receipts_worst_room_s:.2f} | {s.lost_connections} |"
        for s in silences
    ]
    return lines


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f} / {values[1]:.2f}"


def machine() -> str:
    """What it ran on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
    )
