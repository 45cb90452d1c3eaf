"""Which WebSocket close code goes with which refusal: the code tells a client its next move (docs/protocol.md, 4)."""

from __future__ import annotations

from typing import Final

from chat.errors import Code

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NOT_UTF8: Final = 1007
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
LOGIN_REFUSED: Final = 4001
FORBIDDEN: Final = 4003
TOO_SLOW: Final = 4008
TOO_MANY: Final = 4029
UNAVAILABLE: Final = 4503

_CLOSE_CODES: Final = {
    Code.NOT_UTF8: NOT_UTF8,
    Code.CONNECT_TOO_LARGE: TOO_BIG,
    Code.TOO_MANY_HEADERS: TOO_BIG,
    Code.HEADER_TOO_LONG: TOO_BIG,
    Code.HEADERS_TOO_LARGE: TOO_BIG,
    Code.BODY_TOO_LARGE: TOO_BIG,
    Code.TRANSACTION_TOO_LONG: TOO_BIG,
    Code.LOGIN_REFUSED: LOGIN_REFUSED,
    Code.FORBIDDEN: FORBIDDEN,
    Code.TOO_SLOW: TOO_SLOW,
    Code.HEART_BEAT_MISSED: TOO_SLOW,
    Code.TOO_MANY_SUBSCRIPTIONS: TOO_MANY,
    Code.TOO_MANY_TRANSACTIONS: TOO_MANY,
    Code.TOO_MANY_IN_FLIGHT: TOO_MANY,
    Code.TOO_MANY_CONNECTIONS: TOO_MANY,
    Code.UNAVAILABLE: UNAVAILABLE,
    Code.GOING_AWAY: GOING_AWAY,
    Code.INTERNAL: INTERNAL,
}


def close_code(code: Code) -> int:
    """The WebSocket close code after a refusal with `code`; what has none of its own is the client's to fix: 1002."""
    return _CLOSE_CODES.get(code, PROTOCOL_ERROR)


def answer_to(code: int) -> int:
    """Our close code for a client's: the same, but 1002 for one that may not be sent (RFC 6455, section 7.4)."""
    if code == 0:  # none was given
        return NORMAL
    if code in (1004, 1005, 1006, 1015) or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
        return PROTOCOL_ERROR
    return code
