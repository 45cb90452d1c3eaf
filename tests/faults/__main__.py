"""`python -m tests.faults short|long|clusters|run`: the fault harness.

    short     what `make faults` runs: every role and engine killed, paused, restarted under 50,000 messages
    long      what `make faults-long` runs: a million messages, all kinds of faults, alone and together, again and again
    clusters  three brokers and three nodes of Cassandra: one gone, a leader, two; a part of `make faults-clusters`
    run       whatever is asked for, with the options below
    clients   what rude clients cost the others, and 10,000 resets with resend; options of its own
    overload  three times the capacity for a minute, then a minute without Kafka; options of its own

The exit status is 0 when nothing was found, 1 when something was, 2 when the harness itself could not go on.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import secrets
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docker"))

from chat import logs  # noqa: E402
from chat.settings import Settings  # noqa: E402
from tests.faults import clients, overload  # noqa: E402
from tests.faults.faults import faketime_library  # noqa: E402  (after the path is right)
from tests.faults.plan import ALL, CATALOGUE, CLUSTERS, SHORT, group, needs_cluster, needs_faketime  # noqa: E402
from tests.faults.run import WARM_UP_S, Run, Wish  # noqa: E402

LONG_WARM_UP_S = 45.0
LONG_WANTED = {"kills": 31, "pauses": 20, "rebalances": 50}


def main(arguments: list[str]) -> int:
    """Run what the command line asks for."""
    if arguments[:1] == ["clients"]:
        return clients.main(arguments[1:])
    if arguments[:1] == ["overload"]:
        return overload.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("length", choices=("short", "long", "clusters", "run"))
    parser.add_argument("--messages", type=int, help="messages to send at least")
    parser.add_argument("--rate", type=float, help="messages a second")
    parser.add_argument("--rooms", type=int, default=16)
    parser.add_argument("--writers", type=int, default=48)
    parser.add_argument("--seed", type=int, help="of the order and the details of the faults")
    parser.add_argument("--faults", help="names or beginnings of names, with commas; --list shows them; `none`")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end the load after so long (so does Ctrl-C)")
    parser.add_argument("--warm-up", type=float, help="seconds of load before the first fault, to compare with")
    parser.add_argument("--forever", action="store_true", help="repeat the faults until all messages are sent")
    for role, count in (("gateway", 2), ("sequencer", 2), ("archiver", 1), ("projector", 1)):
        parser.add_argument(f"--{role}s", type=int, default=count)
    parser.add_argument("--cluster", action="store_true", help="three Kafka brokers and Cassandra nodes")
    parser.add_argument(
        "--data", type=Path, help="folder of runs, this one is LENGTH-SEED in it; default: build/faults"
    )
    parser.add_argument("--keep", action="store_true", help="keep the engines' data")
    parser.add_argument("--list", action="store_true", help="list the faults")
    if "--list" in arguments:
        sys.stdout.write("\n".join(ALL) + "\n")
        return 0
    chosen = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    names = _names(chosen.length, chosen.faults)
    if needs_faketime(names) and faketime_library() is None:
        parser.exit(2, "the faults of clocks need Debian's package: apt-get install faketime\n")
    messages, rate = {
        "short": (50_000, 300.0),
        "long": (1_000_000, 500.0),
        "clusters": (20_000, 60.0),
        "run": (5_000, 250.0),
    }[chosen.length]
    wish = Wish(
        seed=seed,
        names=names,
        messages=messages if chosen.messages is None else chosen.messages,
        rate=chosen.rate or rate,
        rooms=chosen.rooms,
        writers=chosen.writers,
        counts={
            "gateway": chosen.gateways,
            "sequencer": chosen.sequencers,
            "archiver": chosen.archivers,
            "projector": chosen.projectors,
        },
        forever=chosen.forever or chosen.length == "long",
        wanted=LONG_WANTED if chosen.length == "long" else {},
        keep=chosen.keep,
        warm_up_s=chosen.warm_up or (WARM_UP_S if chosen.length != "long" else LONG_WARM_UP_S),
        minutes=chosen.minutes,
        cluster=chosen.cluster or chosen.length == "clusters" or needs_cluster(names),
        command=f"python -m tests.faults {shlex.join(arguments)}" + ("" if chosen.seed else f" --seed {seed}"),
    )
    folder = (chosen.data or ROOT / "build" / "faults").resolve() / f"{chosen.length}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    logs.configure(Settings(log_format="console", log_level="error"))
    result = asyncio.run(Run(wish, folder).run())
    sys.stdout.write((folder / "report.md").read_text())
    sys.stdout.write(f"\nreport: {folder / 'report.md'}\nhistory: {folder / 'history.ndjson.gz'}\n")
    return 0 if result.passed else 1


def _names(length: str, faults: str | None) -> list[str]:
    if faults == "none":
        return []
    if faults is not None:
        return [name for pattern in faults.split(",") for name in group(pattern)]
    if length == "short":
        return list(SHORT)
    if length == "clusters":
        return list(CLUSTERS)
    return [name for name in CATALOGUE if length == "long" or not name.startswith(("clock-", "link-", "retention"))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
