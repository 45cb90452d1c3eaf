"""Every way Roomlog says no: one enum of codes and the exceptions that carry them.

The same string stands in STOMP ERROR frames (`error-code`), soft refusals, HTTP problem documents, log lines, metric
labels and docs/protocol.md. The tree::

    RoomlogError
    +-- SettingsError          a setting cannot be used: one line for the operator, exit status 2
    +-- Refused                somebody asked for something and gets a coded no
    |   +-- RemoteProtocolError    the peer broke STOMP: ERROR, then close (raised by chat.stomp)
    +-- LocalProtocolError     we used chat.stomp wrongly: a bug of ours
    +-- Unavailable            an engine does not answer now; a retry may succeed
    +-- BrokenInvariant        the log is not what the design promises: stop, recover, never skip
        +-- LogHole            a record is missing between two that we read
        +-- UnknownVersion     a record is newer than this code
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Closed set of refusal codes; docs/protocol.md says for each what a client should do."""

    # STOMP itself: ERROR, then close.
    BAD_FRAME = "bad_frame"
    BAD_HEADER = "bad_header"
    BAD_ESCAPE = "bad_escape"
    BAD_CONTENT_LENGTH = "bad_content_length"
    BAD_HEART_BEAT = "bad_heart_beat"
    BODY_NOT_ALLOWED = "body_not_allowed"
    NOT_UTF8 = "not_utf8"
    UNKNOWN_COMMAND = "unknown_command"
    UNEXPECTED_FRAME = "unexpected_frame"
    MISSING_HEADER = "missing_header"
    VERSION_MISMATCH = "version_mismatch"
    HOST_NOT_SERVED = "host_not_served"
    CONNECT_EXPECTED = "connect_expected"
    CONNECT_TIMEOUT = "connect_timeout"
    HEART_BEAT_MISSED = "heart_beat_missed"
    UNKNOWN_ACK_MODE = "unknown_ack_mode"
    UNKNOWN_ACK = "unknown_ack"
    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    SUBSCRIPTION_EXISTS = "subscription_exists"
    UNKNOWN_TRANSACTION = "unknown_transaction"
    TRANSACTION_EXISTS = "transaction_exists"
    # Limits, each a setting.
    CONNECT_TOO_LARGE = "connect_too_large"
    TOO_MANY_HEADERS = "too_many_headers"
    HEADER_TOO_LONG = "header_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    TOO_MANY_TRANSACTIONS = "too_many_transactions"
    TRANSACTION_TOO_LONG = "transaction_too_long"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_SLOW = "too_slow"
    # What was asked cannot be done.
    LOGIN_REFUSED = "login_refused"
    FORBIDDEN = "forbidden"
    UNKNOWN_DESTINATION = "unknown_destination"
    UNKNOWN_ACTION = "unknown_action"
    BAD_ROOM_ID = "bad_room_id"
    BAD_USER_ID = "bad_user_id"
    BAD_CLIENT_ID = "bad_client_id"
    BAD_POSITION = "bad_position"
    BAD_BODY = "bad_body"
    BAD_REQUEST = "bad_request"
    RESERVED_HEADER = "reserved_header"
    ROOM_NOT_FOUND = "room_not_found"
    ROOM_EXISTS = "room_exists"
    EPOCH_CHANGED = "epoch_changed"
    TRANSACTION_SPANS_ROOMS = "transaction_spans_rooms"
    NOT_FOUND = "not_found"
    # Not now.
    UNAVAILABLE = "unavailable"
    GOING_AWAY = "going_away"
    # Records in a topic that no code of ours wrote.
    UNDECODABLE = "undecodable"
    IMPOSSIBLE = "impossible"
    INTERNAL = "internal"


class RoomlogError(Exception):
    """Base of everything that Roomlog raises on purpose."""


class SettingsError(RoomlogError):
    """A setting has a value that cannot be used. `str()` is one line that says what to do."""


class Refused(RoomlogError):
    """A coded no to one request. `message` is for people; `code` is for programs."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.message = message


class RemoteProtocolError(Refused):
    """The peer broke STOMP. The connection is told so (ERROR with `receipt_id` where known) and closed."""

    def __init__(self, code: Code, message: str, *, receipt_id: str | None = None) -> None:
        super().__init__(code, message)
        self.receipt_id = receipt_id


class LocalProtocolError(RoomlogError):
    """Our own code asked the STOMP connection for something that its state forbids: a bug of ours."""


class Unavailable(RoomlogError):
    """An engine (Kafka, Cassandra, Redis) does not answer now. Whoever asked may try again."""


class BrokenInvariant(RoomlogError):
    """Something that the design rules out has been seen. The process stops and recovers; it never skips."""


class LogHole(BrokenInvariant):
    """An offset, a `src` or a `seq` is missing between two records that were read."""


class UnknownVersion(BrokenInvariant):
    """A record has a `v` or a `kind` that this code does not know: a newer Roomlog wrote it."""
