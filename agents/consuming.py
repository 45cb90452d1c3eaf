"""How records come from Kafka to an agent: our overrides of Faust's consumer.

One event of a Faust stream carries a whole fetch of a partition: its value is the list of aiokafka's records. Faust
spends 50 us and more of a core on each message between the fetch and the agent (tasks, futures, sensors, acks, and an
offset filter of its own that drops what is asked for a second time); flow control, rebalances and back-pressure work as
ever. Agents check the contiguity of offsets themselves. Figures: docs/decisions/0002-faust-overrides.md.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Generator, Iterable, Mapping
from typing import Any, Final, cast

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service
from mode.services import WaitResults
from mode.utils.futures import maybe_async

from chat import logs
from chat.log.answering import limit_patience
from chat.log.consumer import FETCH_WAIT_MS

log = logs.get(__name__)

FETCH_TIMEOUT_S: Final = 1.0
FETCHES_WAITING_MAX: Final = 4
"""Fetches that wait in an agent's stream, each up to `max_partition_fetch_bytes` (1 MiB) a partition: beyond that
Faust does not ask for more."""
GATHERED_BYTES: Final = 65_536
"""Who writes to a store has the broker hold a fetch until there is so much, or for `FETCH_WAIT_MS`: nobody waits for
them, and one fetch of many records costs less than many of one. A sequencer takes what there is."""
NOTHING_ACTIVE_S: Final = 0.02
"""Until the drain loop looks again when no partition may be asked for: in a rebalance, or with all queues full."""
GROUP_WATCH_S: Final = 1.0
EXIT_BROKEN: Final = 70


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread of a consumer, without the thread: it runs in the worker's own loop.

    Two threads of Python share one lock: a fetch that had come lay there until the other thread gave it away, and on a
    busy machine the kernel now and then stopped the one that held it. Nothing here keeps the loop for longer than a
    heartbeat to the group may be late (seconds; a batch of commands takes 10 ms).

    It polls in short waits, commits offsets with metadata, says goodbye, and never outlives its group membership.
    """

    _watching: asyncio.Task[None] | None = None
    _serving: asyncio.Task[None] | None = None

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **kwargs)

    async def start(self) -> None:
        """Begin to serve, as a task; returns when the consumer has connected."""
        self._thread_started.set()
        started = self._thread_running = asyncio.Future(loop=self.parent_loop)
        self._serving = self.parent_loop.create_task(self._serve())
        try:
            await started
        finally:
            self._thread_running = None

    async def _gather_remaining_tasks(self) -> None:
        """Nothing: Faust would cancel all tasks of the loop, which is everybody's here."""

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        """Call `fun` here and now."""
        return await maybe_async(fun(*args, **kwargs))

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        if transport.app.settings.role != "sequencer":
            consumer._fetch_min_bytes = GATHERED_BYTES
        limit_patience(consumer._client)
        return consumer

    async def on_start(self) -> None:
        """Connect, and keep an eye on the group membership."""
        await super().on_start()
        self._watching = asyncio.create_task(self._watch_group())

    async def _watch_group(self) -> None:
        # aiokafka keeps these errors for a caller who polls; Faust never asks, and the worker would idle for ever.
        coordinator = self._ensure_consumer()._coordinator
        while True:
            await asyncio.sleep(GROUP_WATCH_S)
            task = getattr(coordinator, "_coordination_task", None)
            error = getattr(coordinator, "_pending_exception", None)
            if error is None and task is not None and task.done() and not task.cancelled():
                error = task.exception()
            if error is not None and not self.should_stop:
                log.error("consumer_group_lost", error=type(error).__name__, reason=str(error))
                sys.stderr.flush()
                os._exit(EXIT_BROKEN)

    async def on_thread_stop(self) -> None:
        """Leave the group, so that the others take over now and not after a session."""
        if self._watching is not None:
            self._watching.cancel()
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    async def commit_positions(self, positions: Mapping[TP, tuple[int, str]]) -> bool:
        """See `Consumer.commit_positions`."""
        return bool(await self.call_thread(self._commit_positions, positions))

    async def _commit_positions(self, positions: Mapping[TP, tuple[int, str]]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        offsets = {
            driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, metadata)
            for tp, (offset, metadata) in positions.items()
            if tp in mine
        }
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # A rebalance has begun: what comes after it commits again.
            return False
        return True

    async def pause_fetching(self, tps: Iterable[TP]) -> None:
        """See `Consumer.pause_fetching`."""
        await self.call_thread(self._pause_fetching, tps)

    async def _pause_fetching(self, tps: Iterable[TP]) -> None:
        self._ensure_consumer().pause(*(driver.ensure_aiokafka_TP(tp) for tp in tps))


class _Started(Awaitable[Any]):
    """A coroutine that has been stepped once and waits for a future: awaiting this goes on with it."""

    def __init__(self, coroutine: Any, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 (it is handed on: CancelledError too)
                step = functools.partial(self._coroutine.throw, error)
            else:
                step = functools.partial(self._coroutine.send, sent)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value


class Consumer(driver.Consumer):
    """Faust's consumer with our thread. Its messages are whole fetches: `value` is the list of aiokafka's records."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self.should_stop or cast("Service", fetcher).should_stop):
            fetched, active = await self._wait_next_records(FETCH_TIMEOUT_S)
            if not self.flow_active:
                try:
                    await self.perform_seek()
                except (IllegalStateError, KafkaError) as error:
                    # The partitions went meanwhile. Raised here it would end the worker, in the middle of a handover.
                    log.info("seek_postponed", reason=repr(error))
                    await asyncio.sleep(0)
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

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:  # noqa: ASYNC109 (Faust's)
        # Faust sleeps for a second when no partition is active. After a rebalance it resumes the flow a moment before
        # the partitions, and so every room was silent for that second (measured: 1.15 s).
        if not self.flow_active:
            await self.wait(cast("Any", self.can_resume_flow))
        active = self._get_active_partitions()
        if not active:
            await asyncio.sleep(NOTHING_ACTIVE_S)
            return {}, active
        return await self._getmany(active_partitions=active, timeout=timeout), active

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 (Faust's)
        """Step the first of two coroutines before anything else: most fetches find room in their queue at once.

        The drain loop calls this for every fetch, and Faust makes four tasks of it.
        """
        if len(coros) == 2 and timeout is None and inspect.iscoroutine(coros[0]):
            first, second = coros
            try:
                waits_for = first.send(None)
            except StopIteration as done:
                second.close()
                return WaitResults([first], [done.value], self.should_stop)
            coros = (_Started(first, waits_for), second)
        return await super().wait_first(*coros, timeout=timeout)

    async def commit_positions(self, positions: Mapping[TP, tuple[int, str]]) -> bool:
        """Commit (offset, metadata) a partition; False when a rebalance came in between and nothing is committed."""
        return await self._thread.commit_positions(positions)

    def end(self, tp: TP) -> int:
        """Offset after the last record of a partition, as of the last fetch; 0 when it is not known."""
        # A rebalance may be taking the partition at this moment.
        try:
            return self.highwater(tp) or 0
        except (AssertionError, IllegalStateError):
            return 0

    async def read_again(self, tp: TP, offset: int) -> None:
        """Have what stands at `offset` fetched next.

        A rebalance, or a Kafka that is away, leaves it to the next call.
        """
        try:
            await self.seek_wait({tp: offset})
        except (KafkaError, IllegalStateError, AssertionError, TimeoutError) as error:
            log.info("seek_postponed", partition=tp.partition, offset=offset, reason=repr(error))
        else:
            log.info("seek", partition=tp.partition, offset=offset)

    async def pause_fetching(self, tps: Iterable[TP]) -> None:
        """Have aiokafka itself not fetch `tps` until the next assignment.

        Faust only stops asking for them: what has been fetched then lies there, and aiokafka waits for somebody to take
        it (200 ms) before it fetches anything else.
        """
        await self._thread.pause_fetching(tps)


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = Consumer
