"""Acknowledgements as flow control: which MESSAGEs of a subscription wait for their ACK, and what an ACK names.

The log is never changed by an ACK; a subscription in a client mode merely has a window of MESSAGEs that it may have in
hand. Deliveries of a subscription are numbered 1, 2, 3, ... and the `ack` header of STOMP 1.2 is
`<instance>-<delivery>`: unique on its connection, since every SUBSCRIBE gets a new instance number. A MESSAGE that is
sent again is a new delivery with a new id.

What an ACK names differs by version: 1.2 the `ack` header; 1.1 `message-id` and `subscription`; 1.0 `message-id` alone,
which counts for every subscription that got it. All three become `AckTarget`s here. Rules that the specifications leave
open, decided so:

* An id that was issued but is settled already, or whose subscription has ended: ignored. Acknowledgements cross an
  UNSUBSCRIBE or a NACK on the wire, and nobody is to blame.
* An id that was never issued: `unknown_ack`.
* MESSAGEs of `auto` subscriptions need no ACK and are not remembered. An ACK that names one by a well-formed
  message-id is ignored (1.1: of that subscription; 1.0, 1.2: while the connection has, or lately had, an `auto` one).
* `client-individual` is taken in 1.0 too, whose specification knows only `auto` and `client` (RabbitMQ does so).
* NACK in `client` mode sends the named MESSAGE and what follows again, three times at most; the next NACK of it counts
  as an ACK. NACK in `client-individual` skips that one MESSAGE.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from chat.errors import Code, RemoteProtocolError
from chat.stomp.frames import AckMode, Version

NACKS_MAX: Final = 3
"""A MESSAGE is sent again this often; somebody who cannot take it then will not the next time either."""

_NUMBER_DIGITS_MAX: Final = 18


@dataclass(frozen=True, slots=True)
class Position:
    """What a `message-id` says: event `seq` of `source`. A source is a room id, or a name of a queue."""

    source: str
    seq: int


@dataclass(frozen=True, slots=True)
class AckTarget:
    """One delivery of one subscription. `instance` tells it from a later subscription with the same id."""

    key: str
    instance: int
    delivery: int


@dataclass(frozen=True, slots=True)
class Resend:
    """Go back: send everything of `position.source` from `position.seq` on again."""

    key: str
    instance: int
    position: Position


@dataclass(frozen=True, slots=True)
class Settled:
    """What an ACK or a NACK changed."""

    keys: tuple[str, ...] = ()
    """Subscriptions whose window may have opened."""
    resend: tuple[Resend, ...] = ()


class AckWindow:
    """The MESSAGEs of one subscription in a client mode that wait for their ACK: at most `size`."""

    __slots__ = ("_issued", "_nacks", "_outstanding", "_where", "deliveries", "instance", "mode", "size")

    def __init__(self, mode: AckMode, size: int, instance: int) -> None:
        self.mode = mode
        self.size = size
        self.instance = instance
        self.deliveries = 0
        """MESSAGEs sent so far, repeats included: the number of the last one."""
        self._outstanding: dict[int, Position] = {}  # by delivery, in order
        self._where: dict[Position, int] = {}  # the same, the other way round
        self._nacks: dict[Position, int] = {}
        self._issued: dict[str, tuple[int, int]] = {}  # source -> lowest and highest seq ever sent

    @property
    def is_open(self) -> bool:
        """True when another MESSAGE may be sent."""
        return len(self._outstanding) < self.size

    @property
    def outstanding(self) -> int:
        """MESSAGEs that wait for their ACK."""
        return len(self._outstanding)

    def sent(self, source: str, seq: int) -> str:
        """Note that event `seq` of `source` goes out now. Its ack id, for the `ack` header."""
        self.deliveries = delivery = self.deliveries + 1
        position = Position(source, seq)
        before = self._where.get(position)
        if before is not None:
            del self._outstanding[before]
        self._outstanding[delivery] = position
        self._where[position] = delivery
        lowest, highest = self._issued.get(source, (seq, seq))
        self._issued[source] = (min(lowest, seq), max(highest, seq))
        return f"{self.instance}-{delivery}"

    def ack(self, delivery: int) -> bool:
        """Settle a delivery (in `client` mode all up to it). False when it was settled before."""
        if self.mode is AckMode.CLIENT:
            settled = list(takewhile(lambda one: one <= delivery, self._outstanding))
        else:
            settled = [delivery] if delivery in self._outstanding else []
        for one in settled:
            self._forget(one, for_good=True)
        return bool(settled)

    def nack(self, delivery: int) -> tuple[Position, ...]:
        """Take a NACK. Where to go back to, one position a source: nothing when it settled the MESSAGE instead.

        A delivery that is settled or has been sent again since changes nothing.
        """
        position = self._outstanding.get(delivery)
        if position is None:
            return ()
        nacks = self._nacks.get(position, 0) + 1
        if self.mode is not AckMode.CLIENT or nacks > NACKS_MAX:
            self.ack(delivery)
            return ()
        self._nacks[position] = nacks
        back: dict[str, Position] = {}
        for one in [d for d in self._outstanding if d >= delivery]:
            again = self._forget(one, for_good=False)
            if again.source not in back or again.seq < back[again.source].seq:
                back[again.source] = again
        return tuple(back.values())

    def delivery_of(self, position: Position) -> int | None:
        """The delivery of a message-id: 0 when it was settled before, None when it was never sent."""
        delivery = self._where.get(position)
        if delivery is not None:
            return delivery
        lowest, highest = self._issued.get(position.source, (1, 0))
        return 0 if lowest <= position.seq <= highest else None

    def _forget(self, delivery: int, *, for_good: bool) -> Position:
        position = self._outstanding.pop(delivery)
        del self._where[position]
        if for_good:
            self._nacks.pop(position, None)
        return position


class AckLedger:
    """The windows of one connection, and what its ACK and NACK frames name.

    `opened` and `closed` follow the connection's subscriptions (chat.stomp.connection calls them); the gateway notes
    deliveries in the windows and hands `ack` and `nack` the targets of the events.
    """

    __slots__ = ("_ended", "_instances", "_live", "_remembered")

    def __init__(self, remembered: int) -> None:
        self._live: dict[str, tuple[int, AckWindow | None]] = {}  # key -> instance, window (None: auto)
        self._instances: dict[int, tuple[str, AckWindow]] = {}  # of the live ones in a client mode
        self._ended: OrderedDict[str, AckWindow | None] = OrderedDict()  # the last that ended, at most _remembered
        self._remembered = remembered

    def opened(self, key: str, instance: int, window: AckWindow | None) -> None:
        """A subscription has begun; `window` is None in `auto` mode. Instances grow by one from 1."""
        self._live[key] = (instance, window)
        if window is not None:
            self._instances[instance] = (key, window)

    def closed(self, key: str) -> None:
        """A subscription has ended. Acknowledgements that are under way for it are ignored."""
        instance, window = self._live.pop(key)
        self._instances.pop(instance, None)
        self._ended[key] = window
        self._ended.move_to_end(key)
        if len(self._ended) > self._remembered:
            self._ended.popitem(last=False)

    def resolve(self, version: Version, headers: Mapping[str, str], instances: int) -> tuple[AckTarget, ...]:
        """What an ACK or NACK of `version` names: nothing when there is nothing left to settle.

        `instances` is the last instance number given. `RemoteProtocolError`: `missing_header`, or `unknown_ack` for
        an id that was never issued.
        """
        if version is Version.V12:
            return self._by_ack_id(_required(headers, "id", version), instances)
        position = _position(_required(headers, "message-id", version))
        if version is Version.V11:
            return self._by_subscription(position, _required(headers, "subscription", version))
        return self._by_message(position)

    def ack(self, targets: Iterable[AckTarget]) -> Settled:
        """Settle what an ACK named."""
        freed = [t.key for t in targets if (window := self._window(t)) is not None and window.ack(t.delivery)]
        return Settled(tuple(freed))

    def nack(self, targets: Iterable[AckTarget]) -> Settled:
        """Settle what a NACK named, or say what is to be sent again."""
        keys: list[str] = []
        resend: list[Resend] = []
        for target in targets:
            window = self._window(target)
            if window is not None:
                keys.append(target.key)
                resend += [Resend(target.key, target.instance, back) for back in window.nack(target.delivery)]
        return Settled(tuple(keys), tuple(resend))

    # ------------------------------------------------------------ by version

    def _by_ack_id(self, ack_id: str, instances: int) -> tuple[AckTarget, ...]:
        first, dash, second = ack_id.partition("-")
        if not (dash and _is_number(first) and _is_number(second)):
            self._refuse_unless_auto(_position(ack_id))
            return ()
        instance, delivery = int(first), int(second)
        live = self._instances.get(instance)
        if live is not None:
            key, window = live
            if not 1 <= delivery <= window.deliveries:
                raise _unknown()
            return (AckTarget(key, instance, delivery),)
        if not 1 <= instance <= instances or any(i == instance for i, _ in self._live.values()):
            raise _unknown()  # no such subscription yet, or one that issues no ids
        return ()

    def _by_subscription(self, position: Position | None, key: str) -> tuple[AckTarget, ...]:
        if position is None:
            raise _unknown()
        if key in self._live:
            instance, window = self._live[key]
            delivery = 0 if window is None else window.delivery_of(position)
            if delivery is not None:
                return (AckTarget(key, instance, delivery),) if delivery else ()
        if key in self._ended:
            window = self._ended[key]
            if window is None or window.delivery_of(position) is not None:
                return ()
        raise _unknown()

    def _by_message(self, position: Position | None) -> tuple[AckTarget, ...]:
        if position is None:
            raise _unknown()
        found = [
            (key, instance, delivery)
            for key, (instance, window) in self._live.items()
            if window is not None and (delivery := window.delivery_of(position)) is not None
        ]
        if not found and not any(w is not None and w.delivery_of(position) is not None for w in self._ended.values()):
            self._refuse_unless_auto(position)
        return tuple(AckTarget(*one) for one in found if one[2])

    def _refuse_unless_auto(self, position: Position | None) -> None:
        auto = any(window is None for _, window in self._live.values()) or None in self._ended.values()
        if position is None or not auto:
            raise _unknown()

    def _window(self, target: AckTarget) -> AckWindow | None:
        live = self._instances.get(target.instance)
        return live[1] if live is not None else None


def _required(headers: Mapping[str, str], name: str, version: Version) -> str:
    try:
        return headers[name]
    except KeyError:
        raise RemoteProtocolError(
            Code.MISSING_HEADER, f"ACK and NACK of STOMP {version.value} need the header {name}"
        ) from None


def _position(message_id: str) -> Position | None:
    source, slash, seq = message_id.rpartition("/")
    if not (slash and source and _is_number(seq)):
        return None
    return Position(source, int(seq))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX


def _unknown() -> RemoteProtocolError:
    return RemoteProtocolError(Code.UNKNOWN_ACK, "no MESSAGE with that id was sent to you")
