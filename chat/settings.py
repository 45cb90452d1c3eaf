"""Every setting, in one class: name, type, default, environment variable (`ROOMLOG_` + the name in capitals), meaning.

A value that cannot be used is a `SettingsError` of one line that names the variable and says what would do. Read once,
at start, from the environment; nothing else in Roomlog reads the environment. Plain dataclass on purpose: every worker
imports this before anything else, and a restart has 0.7 s in all.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chat.errors import SettingsError

PREFIX = "ROOMLOG_"
ROLES = ("gateway", "sequencer", "archiver", "projector")
PROFILES = ("development", "production")
ROOM_CREATION = ("on_first_use", "members")

# Where the local engines listen, counted from `engine_port_base`.
KAFKA_PORT, KAFKA_CONTROLLER_PORT, CASSANDRA_PORT, CASSANDRA_STORAGE_PORT, CASSANDRA_JMX_PORT, REDIS_PORT = range(6)

# Where a role's first worker serves its web side, counted from `web_port`; its second worker is one higher.
ROLE_PORT = {"gateway": 0, "sequencer": 20, "archiver": 40, "projector": 60}


def _doc(default: Any, doc: str, **rules: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **rules})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one process of Roomlog is told from outside."""

    profile: str = _doc("development", "`development` or `production` (denies by default)", choices=PROFILES)
    role: str = _doc("gateway", "what this worker does", choices=ROLES)
    instance: str = _doc("", "name of this worker among its role's, `gateway-2`; constant over its restarts")
    namespace: str = _doc("roomlog", "prefix of topics, keyspace, Redis keys and consumer groups")
    data_dir: str = _doc(".roomlog", "folder of everything that is written locally")
    # engines
    engine_port_base: int = _doc(19092, "first port of the local engines", low=1024, high=65000)
    kafka: str = _doc("", "Kafka as host:port[,host:port]; empty: the local one")
    cassandra: str = _doc("", "Cassandra as host:port[,host:port]; empty: the local one")
    cassandra_replication: int = _doc(1, "replicas of the keyspace, used when it is created", low=1, high=9)
    cassandra_datacenter: str = _doc("datacenter1", "local data centre of the driver")
    redis: str = _doc("", "Redis as host:port; empty: the local one")
    partitions: int = _doc(16, "partitions of every topic; fixed when the topics are created", low=1, high=1024)
    replication: int = _doc(1, "replicas of every topic, used when it is created", low=1, high=9)
    min_insync_replicas: int = _doc(1, "replicas that must have a record before it counts", low=1, high=9)
    events_retention_days: float = _doc(
        7.0, "days that `trim` leaves in room.events whatever the stores have", low=0, high=36_500
    )
    # web
    web_host: str = _doc("127.0.0.1", "address that the web side binds")
    web_port: int = _doc(6066, "port of this process's web side", low=1, high=65535)
    allow_remote: bool = _doc(False, "let `open` identity be served on an address that is not loopback")
    origins: tuple[str, ...] = _doc((), "allowed Origins, comma separated; `*` for any; empty: the page's own")
    identity: str = _doc("open", "`open`: login is the user id (development only)", choices=("open",))
    hosts: tuple[str, ...] = _doc((), "STOMP `host` values served; empty: any")
    aliases: tuple[str, ...] = _doc((), "more destinations, as /their/{room}=/room/{room}, comma separated")
    room_creation: str = _doc("", "`on_first_use` or `members` (SEND to /rooms)", choices=("", *ROOM_CREATION))
    drain_s: float = _doc(-1.0, "seconds over which clients are sent away at a stop; -1: by profile", low=-1, high=600)
    # limits of a connection
    heart_beat_ms: int = _doc(10_000, "heart-beat period offered and asked for", low=1_000, high=600_000)
    connect_timeout_s: float = _doc(10.0, "from open socket to CONNECT", low=0.1, high=600)
    connect_bytes_max: int = _doc(16_384, "bytes accepted before CONNECT", low=1_024, high=1_048_576)
    headers_max: int = _doc(64, "headers of a frame", low=8, high=1_024)
    header_bytes_max: int = _doc(8_192, "bytes of a header line", low=256, high=65_536)
    passed_headers_bytes_max: int = _doc(12_288, "bytes of headers that a SEND passes on", low=256, high=65_536)
    body_bytes_max: int = _doc(49_152, "bytes of a body", low=1_024, high=524_288)
    subscriptions_max: int = _doc(128, "subscriptions of a connection", low=1, high=10_000)
    transactions_max: int = _doc(16, "open transactions of a connection", low=1, high=1_000)
    transaction_frames_max: int = _doc(100, "frames of a transaction", low=1, high=1_000)
    transaction_bytes_max: int = _doc(524_288, "bytes of a transaction's bodies", low=1_024, high=900_000)
    ack_window: int = _doc(256, "unacknowledged MESSAGEs of a subscription in the client modes", low=1, high=10_000)
    outbox_bytes_max: int = _doc(1_048_576, "bytes waiting for a slow client", low=65_536, high=67_108_864)
    outbox_age_s: float = _doc(10.0, "seconds that a client may leave its socket unread", low=0.5, high=600)
    # limits of a gateway
    connections_max: int = _doc(20_000, "connections of a gateway", low=1, high=1_000_000)
    connects_per_s: int = _doc(5_000, "connects per second of a gateway", low=1, high=1_000_000)
    in_flight_connection_max: int = _doc(1_024, "commands of a connection that wait for their answer", low=1)
    in_flight_user_room_max: int = _doc(128, "commands of a user in one room that wait", low=1, high=128)
    in_flight_max: int = _doc(50_000, "commands of a gateway that wait for their answer", low=1)
    in_flight_bytes_max: int = _doc(67_108_864, "bytes of commands of a gateway that Kafka has not got yet", low=65_536)
    command_timeout_s: float = _doc(15.0, "from append to answer, then `unavailable`", low=0.5, high=600)
    # logs
    log_format: str = _doc("", "`json` or `console`; empty: by profile", choices=("", "json", "console"))
    log_level: str = _doc("info", "least level written", choices=("debug", "info", "warning", "error"))
    failpoint: str = _doc("", "tests only: where this process kills itself, see chat/failpoints.py")

    # ------------------------------------------------------------ derived

    @property
    def production(self) -> bool:
        """True outside development: deny by default."""
        return self.profile == "production"

    @property
    def worker(self) -> str:
        """This worker's name: the instance, or the role for its first one."""
        return self.instance or self.role

    @property
    def group(self) -> str:
        """The role's consumer group, which is its Faust app id too."""
        return self.group_of(self.role)

    def group_of(self, role: str) -> str:
        """The consumer group of `role`."""
        return f"{self.namespace}-{role}"

    @property
    def kafka_servers(self) -> list[str]:
        """Bootstrap servers, `host:port`."""
        return self.kafka.split(",") if self.kafka else [f"127.0.0.1:{self.engine_port_base + KAFKA_PORT}"]

    @property
    def cassandra_nodes(self) -> list[tuple[str, int]]:
        """Contact points."""
        if not self.cassandra:
            return [("127.0.0.1", self.engine_port_base + CASSANDRA_PORT)]
        return [_address(node) for node in self.cassandra.split(",")]

    @property
    def redis_address(self) -> tuple[str, int]:
        """Host and port."""
        return _address(self.redis) if self.redis else ("127.0.0.1", self.engine_port_base + REDIS_PORT)

    @property
    def keyspace(self) -> str:
        """Cassandra keyspace: the namespace, with what CQL does not take in a plain name as an underscore."""
        return self.namespace.replace("-", "_").replace(".", "_")

    @property
    def creates_on_first_use(self) -> bool:
        """True when a SEND or SUBSCRIBE may bring a room into being."""
        return (self.room_creation or ("members" if self.production else "on_first_use")) == "on_first_use"

    @property
    def drain_seconds(self) -> float:
        """Seconds over which a stopping gateway sends its clients away."""
        if self.drain_s >= 0:
            return self.drain_s
        return 10.0 if self.production else 0.0

    @property
    def data(self) -> Path:
        """`data_dir` as a path."""
        return Path(self.data_dir)

    def topic(self, name: str) -> str:
        """Kafka name of a topic of ours, `room.events` -> `roomlog.room.events`."""
        return f"{self.namespace}.{name}"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment. `SettingsError` says which variable is wrong and what would do."""
    values: dict[str, Any] = {}
    known = {PREFIX + f.name.upper(): f for f in fields(Settings)}
    for variable, f in known.items():
        raw = environ.get(variable)
        if raw is not None and raw.strip() != "":
            values[f.name] = _parse(variable, raw.strip(), f.type, f.metadata)
    settings = Settings(**values)
    _check(settings)
    return settings


def document() -> str:
    """All settings as a Markdown table (docs/operations.md holds it; a test compares)."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for f in fields(Settings):
        default = ",".join(f.default) if isinstance(f.default, tuple) else str(f.default)
        rows.append(f"| `{PREFIX}{f.name.upper()}` | {f'`{default}`' if default else ''} | {f.metadata['doc']} |")
    return "\n".join(rows)


def _parse(variable: str, raw: str, kind: Any, rules: Mapping[str, Any]) -> Any:
    match kind:
        case "int" | "float":
            try:
                number = int(raw) if kind == "int" else float(raw)
            except ValueError:
                raise SettingsError(f"{variable}={raw}: not a number") from None
            low, high = rules.get("low"), rules.get("high")
            if math.isnan(number) or not ((low is None or number >= low) and (high is None or number <= high)):
                raise SettingsError(f"{variable}={raw}: must be {low} to {high if high is not None else 'any'}")
            return number
        case "bool":
            if raw.lower() in ("1", "true", "yes", "on"):
                return True
            if raw.lower() in ("0", "false", "no", "off"):
                return False
            raise SettingsError(f"{variable}={raw}: must be true or false")
        case "tuple[str, ...]":
            return tuple(part.strip() for part in raw.split(",") if part.strip())
        case _:
            choices = rules.get("choices")
            if choices and raw not in choices:
                raise SettingsError(f"{variable}={raw}: must be one of {', '.join(c for c in choices if c)}")
            return raw


def _check(settings: Settings) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", settings.namespace):
        raise SettingsError(
            f"{PREFIX}NAMESPACE={settings.namespace}: must be 1-40 of a-z 0-9 _ - and begin with a letter"
        )
    if settings.instance and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", settings.instance):
        raise SettingsError(f"{PREFIX}INSTANCE={settings.instance}: must be 1-100 of A-Z a-z 0-9 . _ -")
    for name, value in (("KAFKA", settings.kafka), ("CASSANDRA", settings.cassandra), ("REDIS", settings.redis)):
        for part in value.split(",") if value else ():
            try:
                _address(part)
            except ValueError:
                raise SettingsError(f"{PREFIX}{name}={value}: must be host:port") from None
    for alias in settings.aliases:
        theirs, _, ours = alias.partition("=")
        if not (theirs.startswith("/") and "{room}" in theirs and ours.startswith("/room/{room}")):
            raise SettingsError(f"{PREFIX}ALIASES={alias}: must be /their/{{room}}=/room/{{room}}")
    if settings.identity == "open" and not settings.allow_remote:
        if settings.production:
            raise SettingsError(
                f"{PREFIX}IDENTITY=open: anybody could be anybody; set {PREFIX}ALLOW_REMOTE=true to accept that"
            )
        if not _is_loopback(settings.web_host):
            raise SettingsError(
                f"{PREFIX}WEB_HOST={settings.web_host}: identity is `open` (anybody can be anybody), so only "
                f"loopback is bound; set {PREFIX}ALLOW_REMOTE=true to accept that"
            )


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.strip().rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        try:
            return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
        except OSError:
            return False


def load_or_exit(environ: Mapping[str, str] = os.environ) -> Settings:
    """`load` for the start of a process: a wrong value is one line on standard error and exit status 2."""
    try:
        return load(environ)
    except SettingsError as error:
        sys.stderr.write(f"roomlog: {error}\n")
        raise SystemExit(2) from None
