"""What `make status` shows: every process, asked at that moment."""

from __future__ import annotations

import asyncio
import sys

from chat.settings import Settings
from stack import plan, probes
from stack.layout import Layout, read_json

_PROBES = {"kafka": probes.kafka, "cassandra": probes.cassandra, "redis": probes.redis}


async def show(settings: Settings, layout: Layout) -> bool:
    """Print a table of the running stack; True when all of it is ready."""
    state = read_json(layout.state)
    services: dict[str, dict[str, object]] = state.get("services", {})
    names = list(services)
    states = await asyncio.gather(*(_state(name, str(services[name]["address"])) for name in names))
    sys.stdout.write(f"{state.get('phase', 'starting')}  supervisor {state.get('pid')}  data in {layout.data}\n")
    width = max([len(str(service["address"])) for service in services.values()], default=0)
    for name, (is_ready, reason) in zip(names, states, strict=True):
        service = services[name]
        restarts = service["restarts"]
        sys.stdout.write(
            f"  {name:<14} {'ready' if is_ready else 'NOT READY':<10} {service['address']!s:<{width}}  "
            f"process {service['pid'] or '-'}{f', restarts: {restarts}' if restarts else ''}"
            f"{f' ({reason})' if reason else ''}\n"
        )
    for name in ("kafka", "cassandra", "redis"):
        if name not in plan.local_engines(settings):
            sys.stdout.write(f"  {name:<14} elsewhere  {getattr(settings, name)}\n")
    if not state.get("engines_only"):
        sys.stdout.write(f"page: {state.get('page')}\n")
    return bool(names) and all(is_ready for is_ready, _ in states)


async def _state(name: str, address: str) -> tuple[bool, str]:
    """Is it ready, and what does it wait for."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    if name in _PROBES:
        return await _PROBES[name](host, int(port)), ""
    if await probes.worker(host, int(port)):
        return True, ""
    return False, await probes.waiting_for(host, int(port))
