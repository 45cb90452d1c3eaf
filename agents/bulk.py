"""One event of a Faust stream for each fetch of a partition, instead of one for each record.

Faust spends 50 us and more of a core on a record between the fetch and the agent (tasks, futures, sensors, acks): for a
role that hands thousands of records at once to a store that is most of its work. With `in_bulk` the stream's events
carry a list of records as their value; flow control, rebalances and back-pressure work as ever. Measured figures:
docs/decisions/0002-faust-overrides.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from faust.transport.consumer import ensure_TP
from faust.types import ConsumerMessage
from mode import Service

from agents.engine import Consumer

if TYPE_CHECKING:
    from agents.engine import RoomlogApp

FETCHES_WAITING_MAX: Final = 4
"""Fetches that wait in the agent's stream, each up to `max_partition_fetch_bytes` (1 MiB) a partition: beyond that
Faust does not ask for more."""
FETCH_TIMEOUT_S: Final = 1.0


class BulkConsumer(Consumer):
    """A consumer whose messages are whole fetches: `value` is the list of a partition's records."""

    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self.should_stop or cast("Service", fetcher).should_stop):
            fetched, active = await self._wait_next_records(FETCH_TIMEOUT_S)
            if not self.flow_active:
                await self.perform_seek()
                continue
            for aiokafka_tp, records in (fetched or {}).items():
                tp = ensure_TP(aiokafka_tp)
                if not records or not (active is None or tp in active or tp in self._buffered_partitions):
                    continue
                message = ConsumerMessage(
                    tp.topic,
                    tp.partition,
                    records[0].offset,
                    records[0].timestamp / 1000,
                    records[0].timestamp_type,
                    None,
                    None,
                    cast("bytes", records),
                    None,
                    tp=tp,
                    generation_id=self.app.consumer_generation_id,
                )
                # What is cut off here by a rebalance is read again: whoever reads in bulk checks contiguity.
                await self.wait_first(self.callback(message), self.suspend_flow.wait())


def in_bulk(app: RoomlogApp) -> None:
    """Have the agents of `app` get fetches. Call it before the application starts."""
    cast("Any", app.transport).Consumer = BulkConsumer
    app.conf.stream_buffer_maxsize = FETCHES_WAITING_MAX
