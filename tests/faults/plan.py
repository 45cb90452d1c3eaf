"""Which faults, in which order: all of it follows from a seed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from random import Random

from tests.faults.faults import (
    FAILPOINTS,
    Clock,
    Failpoint,
    Fault,
    Flush,
    Kill,
    KillWaiting,
    Link,
    Pause,
    Rolling,
    Scale,
    ShortRetention,
    Together,
    ZombieAndHeir,
)
from tests.faults.outages import Down, KillLeader, soon_full

ROLES = ("sequencer", "gateway", "archiver", "projector")
ENGINES = ("kafka", "cassandra", "redis")
LONG_PAUSE_S = (8.0, 20.0)
"""Longer than a sequencer's session of 6 s: it is a zombie when it wakes."""
SHORT_PAUSE_S = (2.0, 5.0)
GONE_S = (45.0, 60.0)
"""Longer than the time limits of a command (15 s) and of Kafka's clients (40 s)."""
ZOMBIE_S = (8.0, 12.0)
LINK_S = (3.0, 10.0)
BROKER_PAUSE_S = 20.0
DOWN_S = (12.0, 20.0)

Make = Callable[[Random], Fault]


def _plainly(make: Callable[..., Fault], *args: object, **more: object) -> Make:
    """The same fault each time."""
    return lambda _: make(*args, **more)


def _lasting(make: Callable[..., Fault], *args: object, span: tuple[float, float]) -> Make:
    """A fault that holds for some seconds out of `span`."""
    return lambda chance: make(*args, round(chance.uniform(*span), 1))


def _failpoint(role: str) -> Make:
    return lambda chance: Failpoint(role, chance.choice(FAILPOINTS[role]))


def _scale(role: str) -> Make:
    return lambda chance: Scale(role, chance.randint(1, 2))


def _disk(engine: str) -> Make:
    return lambda chance: soon_full(engine, chance)


CATALOGUE: dict[str, Make] = {
    **{f"kill-{target}": _plainly(Kill, target) for target in (*ROLES, *ENGINES)},
    **{
        f"waiting-{role}": _plainly(KillWaiting, role, engine)
        for role, engine in (
            ("sequencer", "kafka"),
            ("gateway", "kafka"),
            ("archiver", "cassandra"),
            ("projector", "redis"),
        )
    },
    **{f"restart-{target}": _plainly(Kill, target, number=signal.SIGTERM) for target in (*ROLES, *ENGINES)},
    **{f"failpoint-{role}": _failpoint(role) for role in FAILPOINTS},
    **{f"pause-{role}": _lasting(Pause, role, span=LONG_PAUSE_S) for role in ROLES},
    **{f"pause-{engine}": _lasting(Pause, engine, span=SHORT_PAUSE_S) for engine in ENGINES},
    **{f"gone-{engine}": _lasting(Pause, engine, span=GONE_S) for engine in ENGINES},
    "zombie": _lasting(ZombieAndHeir, span=ZOMBIE_S),
    "rolling": _plainly(Rolling),
    **{f"scale-{role}": _scale(role) for role in ROLES},
    "flush-redis": _plainly(Flush),
    "retention": _plainly(ShortRetention),
    **{
        f"link-{engine}-{how}": _lasting(Link, engine, how, span=LINK_S)
        for engine in ENGINES
        for how in ("cut", "broken", "frozen", "slow")
    },
    **{
        f"clock-{target}-{how}": _plainly(Clock, target, how)
        for target in ("gateway", "sequencer", "archiver", "kafka")
        for how in ("ahead", "behind", "jumping")
    },
}
"""Every fault of the usual stack, by the name that the command line takes."""

OF_CLUSTERS: dict[str, Make] = {
    "cluster-kill-leader": _plainly(KillLeader),
    "cluster-pause-broker": _plainly(Pause, "kafka", BROKER_PAUSE_S),
    "cluster-pause-node": _plainly(Pause, "cassandra", BROKER_PAUSE_S),
    **{
        f"cluster-{count}-{engine}-gone": _lasting(Down, engine, count, span=DOWN_S)
        for engine in ("kafka", "cassandra")
        for count in (1, 2)
    },
}
"""Faults that need three of an engine."""

OF_DISKS: dict[str, Make] = {f"disk-{engine}": _disk(engine) for engine in ("kafka", "cassandra")}
"""Faults that need root, for disks of the harness's own."""

ALL = CATALOGUE | OF_CLUSTERS | OF_DISKS

CLUSTERS = (
    *OF_CLUSTERS,
    "cluster-kill-leader",
    "kill-kafka",
    "kill-cassandra",
    "disk-kafka",
    "kill-sequencer",
    "rolling",
)
"""The run on clusters: each of their own faults, and some of the usual ones beside them."""

SHORT = (
    *("kill-sequencer",) * 3,
    *("kill-gateway",) * 2,
    "kill-archiver",
    "kill-projector",
    "failpoint-sequencer",
    "failpoint-archiver",
    "waiting-sequencer",
    "waiting-archiver",
    "pause-sequencer",
    "zombie",
    "rolling",
    "scale-sequencer",
    "kill-kafka",
    "kill-cassandra",
    "restart-redis",
    "flush-redis",
)
"""The run of a few minutes."""

COMBINED = (
    *(f"kill-{role}" for role in ROLES),
    *(f"pause-{role}" for role in ROLES),
    *(f"scale-{role}" for role in ("sequencer", "gateway")),
    "kill-kafka",
    "kill-redis",
    "pause-kafka",
    "pause-cassandra",
    "flush-redis",
)
"""What random combinations are made of."""


def group(pattern: str) -> list[str]:
    """Names of faults that are `pattern` or begin with `pattern-`."""
    found = [name for name in ALL if name == pattern or name.startswith(f"{pattern}-")]
    if not found:
        raise ValueError(f"no such fault: {pattern}; there are: {', '.join(ALL)}")
    return found


def plan(names: list[str], chance: Random, *, forever: bool) -> Iterator[Fault]:
    """The named faults once each, shuffled, a combination after every sixth; again and again with `forever`."""
    count = 0
    while True:
        order = list(names)
        chance.shuffle(order)
        for name in order:
            yield ALL[name](chance)
            count += 1
            if count % 6 == 0:
                yield together(chance)
        if not forever:
            return


def together(chance: Random) -> Fault:
    """Two or three faults at once, of different targets."""
    picked: dict[str, str] = {}
    for name in chance.sample(COMBINED, k=8):
        picked.setdefault(name.partition("-")[2], name)
    names = list(picked.values())[: chance.randint(2, 3)]
    return Together([CATALOGUE[name](chance) for name in names])


def needs_links(names: list[str]) -> bool:
    """True when workers have to stand behind the harness's proxies."""
    return any(name.startswith("link-") for name in names)


def needs_cluster(names: list[str]) -> bool:
    """True when one of an engine is not enough."""
    return any(name.startswith("cluster-") for name in names)


def needs_disks(names: list[str]) -> bool:
    """True when engines have to have small disks, which only root can give them."""
    return any(name.startswith("disk-") for name in names)


def needs_faketime(names: list[str]) -> bool:
    """True when Debian's `faketime` is wanted."""
    return any(name.startswith("clock-") for name in names)
