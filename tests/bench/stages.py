"""Where the time of a message goes, from the workers' own histograms: what /metrics says after, less what it said before."""

from __future__ import annotations

import asyncio
import math
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

STAGES: Final = {
    "1 append the command": "roomlog_gateway_append_seconds",
    "2 fetch it": "roomlog_sequencer_wait_seconds",
    "3 decide": "roomlog_sequencer_decide_seconds",
    "4 append the event": "roomlog_sequencer_ack_seconds",
    "5 fetch it, fan out": "roomlog_gateway_deliver_seconds",
    "all: from append to the answer": "roomlog_gateway_answer_seconds",
}
"""2 and 5 begin when the broker stamps the record, on a clock of milliseconds, and overlap with 1 and 4, which end when
its acknowledgement is back."""

Buckets = dict[str, dict[float, float]]
"""Metric -> upper bound of a bucket in seconds -> observations up to it."""


async def read(urls: Sequence[str]) -> Buckets:
    """The stages' histograms of workers."""
    found: Buckets = {}
    for url in urls:
        text = await asyncio.to_thread(_get, f"{url}/metrics")
        for family in text_string_to_metric_families(text):
            if family.name in STAGES.values():
                for sample in family.samples:
                    if sample.name.endswith("_bucket") and sample.value:
                        buckets = found.setdefault(family.name, {})
                        bound = float(sample.labels["le"])
                        buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return found


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def quantiles_ms(before: Buckets, after: Buckets) -> dict[str, dict[str, float]]:
    """p50 and p99 of each stage in milliseconds, between two readings; straight lines within a bucket."""
    result = {}
    for stage, metric in STAGES.items():
        earlier = before.get(metric, {})
        counts = {bound: value - earlier.get(bound, 0.0) for bound, value in after.get(metric, {}).items()}
        if counts and max(counts.values()) > 0:
            result[stage] = {f"p{q}": round(_quantile(counts, q / 100) * 1e3, 3) for q in (50, 99)}
    return result


def _quantile(counts: Mapping[float, float], part: float) -> float:
    wanted = part * max(counts.values())
    low, below = 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            if math.isinf(bound) or count == below:
                return low
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low
