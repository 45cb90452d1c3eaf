"""What becomes of a SEND once the log has answered: a RECEIPT with its number, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from chat.errors import Code, Refused
from chat.ids import message_id
from chat.records import Event, Verdict
from chat.stomp.destinations import Queue

if TYPE_CHECKING:
    from web.connection import Connection

UNAVAILABLE = "the log did not answer in time; it may still happen: send again with the same x-client-id"


class CommitAnswer:
    """A COMMIT that waits until each of its SENDs is answered."""

    __slots__ = ("_connection", "_last", "_receipt", "_waiting")

    def __init__(self, connection: Connection, receipt: str | None, sends: int) -> None:
        self._connection = connection
        self._receipt = receipt
        self._waiting = sends
        self._last: dict[str, str] = {}

    def one_answered(self, headers: dict[str, str] | None) -> None:
        """One SEND is answered: `headers` of its RECEIPT, None when it was refused."""
        self._waiting -= 1
        if headers is not None:
            self._last = headers
        if self._waiting == 0:
            self._connection.receipt(self._receipt, self._last)


class Answer:
    """One SEND that waits (see chat.log.commands.Waiting)."""

    __slots__ = ("_asked", "_commit", "_connection", "_place", "_receipt", "_replies", "_room")

    def __init__(
        self,
        connection: Connection,
        room: str,
        receipt: str | None,
        asked: str,
        *,
        replies: bool = False,
        commit: CommitAnswer | None = None,
        place: str = "",
    ) -> None:
        """`place` names the frame inside its transaction, for a refusal."""
        self._connection = connection
        self._room = room
        self._receipt = receipt
        self._asked = asked
        self._replies = replies
        self._commit = commit
        self._place = place

    def answered(self, answer: Event | Verdict) -> None:
        """The log holds the answer: say its number, or why not."""
        if isinstance(answer, Event):
            self._accepted(answer.seq, answer.epoch, repeated=False)
        elif answer.outcome in ("duplicate", "unchanged"):
            self._accepted(answer.seq, answer.epoch, repeated=True)
        else:
            self._refused(answer.code or Code.INTERNAL, answer.detail or "refused")

    def failed(self, code: Code) -> None:
        """The log did not answer."""
        self._refused(code, UNAVAILABLE)

    def _accepted(self, seq: int, epoch: str, *, repeated: bool) -> None:
        self._ended()
        headers = {
            "x-room": self._room,
            "x-seq": str(seq),
            "x-epoch": epoch,
            "message-id": message_id(self._room, seq),
        }
        if repeated:
            headers["x-duplicate"] = "true"
        self._connection.receipt(self._receipt, headers)
        if self._replies and not self._connection.closing:
            body = orjson.dumps({"room": self._room, "seq": seq, "epoch": epoch})
            about = [("content-type", "application/json"), ("x-room", self._room)]
            if self._receipt is not None:
                about.append(("receipt-id", self._receipt))
            self._connection.queue_message(Queue.REPLIES, about, body)
        if self._commit is not None:
            self._commit.one_answered(headers)

    def _refused(self, code: Code, message: str) -> None:
        self._ended()
        self._connection.refuse(Refused(code, self._place + message), receipt=self._receipt, asked=self._asked)
        if self._commit is not None:
            self._commit.one_answered(None)

    def _ended(self) -> None:
        connection = self._connection
        connection.in_flight -= 1
        connection.gateway.in_flight.ended(connection.user, self._room)
