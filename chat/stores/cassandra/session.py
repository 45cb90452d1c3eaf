"""The driver, bridged to asyncio: one session a worker, which connects by itself and for ever.

The driver has threads of its own. Two of its calls block (connecting, preparing) and run in a thread here; requests do
not block: they are handed to the driver's reactor, whose callbacks come back through `call_soon_threadsafe`. Whatever
goes wrong between us and the nodes is `Unavailable`, at once when it is known that nobody answers, so that a reader
can go elsewhere and a writer can wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from chat import logs
from chat.errors import Unavailable
from chat.settings import Settings

log = logs.get(__name__)

Row = tuple[Any, ...]

Encoded = tuple[str, list[bytes]]
"""A prepared write and its values as the protocol has them: text as UTF-8, numbers by `bigint` and `integer`, blobs."""

bigint = struct.Struct(">q").pack
integer = struct.Struct(">i").pack

REQUEST_TIMEOUT_S: Final = 5.0
"""A write that was not answered for so long is tried again by its owner (every write is idempotent)."""
CONNECT_TIMEOUT_S: Final = 5.0
RECONNECT_S: Final = 0.5
"""Between two tries of the driver once it had connected: one small connection per node and try."""
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 2.0
"""Between two tries of ours before it has ever connected."""
PAGE_ROWS_MAX: Final = 5000
"""No query of ours asks for more rows, so that every answer is one page."""

# The driver repeats each failed try at WARNING with a traceback; what an operator needs is logged here, once a change.
logging.getLogger("cassandra").setLevel(logging.ERROR)


def open_cluster(settings: Settings, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> Cluster:
    """A driver cluster with our choices; not connected yet. Resolving the nodes' names may block."""
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=settings.cassandra_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=request_timeout_s,
        row_factory=lambda _names, rows: rows,
    )
    nodes = settings.cassandra_nodes
    return Cluster(
        nodes,
        port=nodes[0][1],
        protocol_version=4,  # understood by every server of the last ten years; 5 adds checksums at a price
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        connect_timeout=CONNECT_TIMEOUT_S,
        control_connection_timeout=CONNECT_TIMEOUT_S,
        idle_heartbeat_interval=10,
        idle_heartbeat_timeout=5,
        executor_threads=2,
    )


def unavailable(error: BaseException) -> Unavailable:
    """A driver's error as ours, on one line."""
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        causes = {f"{node}: {_line(cause)}" for node, cause in error.errors.items()}
        return Unavailable("Cassandra: " + ("; ".join(sorted(causes)) or "no node is up"))
    return Unavailable(f"Cassandra: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def has_majorities(nodes_up: Sequence[bool | None], replication: int) -> bool:
    """Whether every row has a majority of its replicas on nodes that are not down.

    A write that a majority acknowledged outlives any of the others. `nodes_up`: a node each; None: nothing is known of
    it yet. Cautious: in a large cluster the nodes that are down need not share a row.
    """
    down = sum(up is False for up in nodes_up)
    return any(nodes_up) and down <= (replication - 1) // 2


class Session:
    """Requests to Cassandra from one event loop. `statements`: the CQL that will be used, prepared when connecting."""

    def __init__(self, settings: Settings, statements: Iterable[str]) -> None:
        self._settings = settings
        self._statements = tuple(statements)
        self._prepared: dict[str, PreparedStatement] = {}
        self._cluster: Any = None
        self._session: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self._failure: Unavailable | None = None
        self._tried = asyncio.Event()
        self._stopped = False

    @property
    def connected(self) -> bool:
        """True once connected; the driver keeps the connections alive from then on."""
        return self._session is not None

    @property
    def is_there(self) -> bool:
        """False while so many nodes are down that all replicas of a majority may be among them."""
        if self._cluster is None:
            return False
        hosts = self._cluster.metadata.all_hosts()
        return has_majorities([host.is_up for host in hosts], self._settings.cassandra_replication)

    def start(self) -> None:
        """Begin to connect, in the background and until it works. Returns at once; any request calls it too."""
        if self._connecting is None and not self._stopped:
            self._connecting = asyncio.create_task(self._connect())

    async def stop(self) -> None:
        """Close all connections. Requests under way fail with `Unavailable`."""
        self._stopped = True
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        cluster, self._cluster, self._session = self._cluster, None, None
        self._failure = Unavailable("Cassandra: the session is closed")
        self._tried.set()
        if cluster is not None:
            await asyncio.to_thread(cluster.shutdown)

    async def rows(self, cql: str, values: Sequence[Any]) -> list[Row]:
        """All rows of a prepared query (at most `PAGE_ROWS_MAX`: the query's own bounds see to that)."""
        session = await self.ready()
        return list(await self._run(session, self._prepared[cql].bind(values)))

    async def write(self, statements: Sequence[Encoded]) -> None:
        """Prepared writes, as one request: as an unlogged batch when there are several.

        All are applied when it returns; any may or may not be applied when it raises `Unavailable`.
        """
        session = await self.ready()
        cql, values = statements[0]
        first = BoundStatement(self._prepared[cql])
        first.values = values
        if len(statements) == 1:
            await self._run(session, first)
            return
        # `BatchStatement.add` would serialise each value by its column's type: 12 us a row instead of 1 (measured).
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.is_idempotent = True
        batch.keyspace, batch.routing_key = first.keyspace, first.routing_key
        for cql, values in statements:
            batch._add_statement_and_params(True, self._prepared[cql].query_id, values)  # noqa: SLF001
        await self._run(session, batch)

    async def ready(self) -> Any:
        """Return when connected; `Unavailable` when the last try to connect failed (it goes on in the background)."""
        if self._session is None:
            self.start()
            await self._tried.wait()  # the first try's end: at most the connect timeout
            if self._session is None:
                assert self._failure is not None
                raise self._failure
        return self._session

    # ------------------------------------------------------------ inside

    async def _run(self, session: Any, statement: Any) -> Any:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def finish(setter: Any, value: Any) -> None:
            if not answer.done():
                setter(value)

        try:
            request = session.execute_async(statement)
            request.add_callbacks(
                lambda rows: loop.call_soon_threadsafe(finish, answer.set_result, rows or ()),
                lambda error: loop.call_soon_threadsafe(finish, answer.set_exception, error),
            )
            return await answer
        except (DriverException, NoHostAvailable, OSError) as error:
            raise unavailable(error) from None

    async def _connect(self) -> None:
        wait_s = BACKOFF_FIRST_S
        while True:
            opening = asyncio.ensure_future(asyncio.to_thread(self._open))
            try:
                self._cluster, self._session, self._prepared = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # The thread cannot be stopped: what it opens must be closed.
                with contextlib.suppress(Exception):
                    self._cluster = (await opening)[0]
                raise
            except Unavailable as error:
                if self._failure is None or str(self._failure) != str(error):
                    log.warning("cassandra_away", reason=str(error))
                self._failure = error
                self._tried.set()
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, BACKOFF_MAX_S)
            else:
                log.info("cassandra_connected", keyspace=self._settings.keyspace)
                self._tried.set()
                return

    def _open(self) -> tuple[Any, Any, dict[str, PreparedStatement]]:
        cluster = None
        try:
            cluster = open_cluster(self._settings)
            session = cluster.connect()
            session.set_keyspace(self._settings.keyspace)
            prepared = {}
            for cql in self._statements:
                prepared[cql] = session.prepare(cql)
                # The same row with the same timestamp twice is the same row: the driver may send it again.
                prepared[cql].is_idempotent = True
                prepared[cql].fetch_size = PAGE_ROWS_MAX
        except Exception as error:  # noqa: BLE001  (whatever it is, the next try is the cure)
            if cluster is not None:
                cluster.shutdown()
            raise _explained(error, self._settings) from None
        return cluster, session, prepared


def _explained(error: Exception, settings: Settings) -> Unavailable:
    reason = unavailable(error)
    text = str(reason)
    if "unconfigured table" in text or f"'{settings.keyspace}' does not exist" in text:
        return Unavailable(f"{text} (run `faust -A app migrate`)")
    return reason
