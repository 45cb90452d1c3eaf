"""Open transactions of one connection: frames kept until COMMIT, bounded in number, length and bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from chat.errors import Code, RemoteProtocolError
from chat.stomp.events import Ack, Nack, Send
from chat.stomp.limits import Limits

TransactionFrame = Send | Ack | Nack


@dataclass(slots=True)
class _Open:
    frames: list[TransactionFrame] = field(default_factory=list)
    body_bytes: int = 0
    head_bytes: int = 0


class Transactions:
    """STOMP 1.2, BEGIN, COMMIT, ABORT. An id may be used again once its transaction has ended."""

    __slots__ = ("_limits", "_open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, transaction: str) -> None:
        """Open one. `transaction_exists`, `too_many_transactions`."""
        if transaction in self._open:
            raise RemoteProtocolError(Code.TRANSACTION_EXISTS, "a transaction of that id is open")
        if len(self._open) >= self._limits.transactions_max:
            raise RemoteProtocolError(
                Code.TOO_MANY_TRANSACTIONS, f"more than {self._limits.transactions_max} open transactions"
            )
        self._open[transaction] = _Open()

    def add(self, transaction: str, frame: TransactionFrame, *, body_bytes: int, head_bytes: int) -> None:
        """Keep a frame until COMMIT. `unknown_transaction`, `transaction_too_long`.

        The limit in bytes is one of bodies; the headers beside them are held to the same number, so that they cannot
        cost more than what they stand beside.
        """
        one = self._open.get(transaction)
        if one is None:
            raise self._unknown()
        limits = self._limits
        if len(one.frames) >= limits.transaction_frames_max:
            raise RemoteProtocolError(
                Code.TRANSACTION_TOO_LONG, f"more than {limits.transaction_frames_max} frames in a transaction"
            )
        one.body_bytes += body_bytes
        one.head_bytes += head_bytes
        if max(one.body_bytes, one.head_bytes) > limits.transaction_bytes_max:
            raise RemoteProtocolError(
                Code.TRANSACTION_TOO_LONG, f"more than {limits.transaction_bytes_max} bytes in a transaction"
            )
        one.frames.append(frame)

    def end(self, transaction: str) -> tuple[TransactionFrame, ...]:
        """Close one and give its frames, in their order. `unknown_transaction`."""
        one = self._open.pop(transaction, None)
        if one is None:
            raise self._unknown()
        return tuple(one.frames)

    def drop_all(self) -> None:
        """The connection ends: nothing that was not committed has happened (STOMP 1.1, DISCONNECT)."""
        self._open.clear()

    @staticmethod
    def _unknown() -> RemoteProtocolError:
        return RemoteProtocolError(Code.UNKNOWN_TRANSACTION, "no transaction of that id is open")
