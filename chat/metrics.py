"""Every metric of Roomlog, declared in one place: `roomlog_<part>_<what>_<unit>`, served at `/metrics` by each worker.

Labels are closed sets (codes, roles, kinds), never a room or a user: a metric's cost does not grow with its users.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# ---------------------------------------------------------------- gateway

gateway_connections = Gauge("roomlog_gateway_connections", "Open client connections")
gateway_subscriptions = Gauge("roomlog_gateway_subscriptions", "Open room subscriptions")
gateway_rooms_watched = Gauge("roomlog_gateway_rooms_watched", "Rooms with a cursor in this gateway")
gateway_frames_received = Counter("roomlog_gateway_frames_received", "STOMP frames received", ["command"])
gateway_deliveries = Counter("roomlog_gateway_deliveries", "MESSAGE frames handed to connections")
gateway_sent_bytes = Counter("roomlog_gateway_sent_bytes", "Bytes written to client sockets")
gateway_outbox_bytes = Gauge("roomlog_gateway_outbox_bytes", "Bytes waiting for slow clients")
gateway_refusals = Counter("roomlog_gateway_refusals", "Refusals by code", ["code"])
gateway_closes = Counter("roomlog_gateway_closes", "Connections closed by the gateway, by WebSocket code", ["code"])
gateway_commands_in_flight = Gauge("roomlog_gateway_commands_in_flight", "Commands that wait for their answer")
gateway_command_timeouts = Counter(
    "roomlog_gateway_command_timeouts", "Commands answered `unavailable` by the time limit"
)
gateway_lagging_partitions = Gauge(
    "roomlog_gateway_lagging_partitions", "Partitions that are offered more than the log answers"
)
gateway_append_seconds = Histogram(
    "roomlog_gateway_append_seconds", "Stage 1: from append to Kafka's ack of the command", buckets=_LATENCY_S
)
gateway_answer_seconds = Histogram(
    "roomlog_gateway_answer_seconds", "Stages 1-5: from append to the tail's reading the answer", buckets=_LATENCY_S
)
gateway_deliver_seconds = Histogram(
    "roomlog_gateway_deliver_seconds",
    "Stage 5: from the event record's LogAppendTime (a millisecond clock, the broker's) to fan-out",
    buckets=_LATENCY_S,
)
gateway_fills = Counter("roomlog_gateway_fills", "Holes noticed on live rooms and filled from history")
gateway_backlog_events = Counter(
    "roomlog_gateway_backlog_events", "Events delivered from history, by source", ["source"]
)
gateway_repeats_dropped = Counter("roomlog_gateway_repeats_dropped", "Events at or below a cursor's seq, dropped")

# ---------------------------------------------------------------- every reader of the event log

log_records = Counter("roomlog_log_records", "Records of the event log by what they were to this reader", ["take"])
log_lag_records = Gauge(
    "roomlog_log_lag_records", "Records between this reader and the end of its topic", ["partition"]
)
log_lag_seconds = Gauge(
    "roomlog_log_lag_seconds", "Age of the record this reader took last, 0 when it is at the end", ["partition"]
)
dead_letters = Counter("roomlog_dead_letters", "Records parked in room.dead_letters, by reason", ["code"])

# ---------------------------------------------------------------- sequencer

sequencer_commands = Counter(
    "roomlog_sequencer_commands", "Commands answered, by event kind or verdict outcome", ["outcome"]
)
sequencer_batch_commands = Histogram(
    "roomlog_sequencer_batch_commands", "Commands decided in one go", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500)
)
sequencer_wait_seconds = Histogram(
    "roomlog_sequencer_wait_seconds",
    "Stage 2: from the LogAppendTime of a batch's first command (a millisecond clock, the broker's) to its deciding",
    buckets=_LATENCY_S,
)
sequencer_decide_seconds = Histogram(
    "roomlog_sequencer_decide_seconds",
    "Stage 3: time to decide and fold one batch",
    buckets=(0.0001, 0.0005, *_LATENCY_S),
)
sequencer_ack_seconds = Histogram(
    "roomlog_sequencer_ack_seconds",
    "Stage 4: from handing events to Kafka to their acknowledgement",
    buckets=_LATENCY_S,
)
sequencer_ignored_records = Counter(
    "roomlog_sequencer_ignored_records", "Records of others met in the event log of an owned partition"
)
sequencer_fenced = Counter("roomlog_sequencer_fenced", "Attempts that a later fence put out")
sequencer_partitions = Gauge("roomlog_sequencer_partitions", "Partitions that this worker writes")
sequencer_recovery_seconds = Histogram(
    "roomlog_sequencer_recovery_seconds", "From assignment to the last partition written again", buckets=_LATENCY_S
)
sequencer_snapshot_rows = Counter("roomlog_sequencer_snapshot_rows", "Rows written by snapshots")
sequencer_snapshot_bytes = Counter("roomlog_sequencer_snapshot_bytes", "Bytes of rows written by snapshots")
sequencer_snapshot_seconds = Histogram(
    "roomlog_sequencer_snapshot_seconds", "Time of one snapshot of all partitions", buckets=_LATENCY_S
)

# ---------------------------------------------------------------- archiver (cassandra), projector (redis)

store_events = Counter("roomlog_store_events", "Events written to a store", ["store"])
store_batches = Counter("roomlog_store_batches", "Batches of events written to a store", ["store"])
store_write_seconds = Histogram(
    "roomlog_store_write_seconds", "From the first try to write a batch to its success", ["store"], buckets=_LATENCY_S
)
store_retries = Counter("roomlog_store_retries", "Batches that had to be written again: the store was away", ["store"])
projector_rebuilds = Counter("roomlog_projector_rebuilds", "Partitions of the directory rebuilt after Redis lost them")
