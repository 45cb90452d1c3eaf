"""The subscriptions of one connection, as the protocol sees them: their keys, bounded and each used once at a time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from chat.errors import Code, RemoteProtocolError
from chat.stomp.acks import AckLedger, AckWindow
from chat.stomp.frames import AckMode
from chat.stomp.limits import Limits


@dataclass(frozen=True, slots=True)
class _Subscription:
    instance: int
    destination: str


class Subscriptions:
    """Follows SUBSCRIBE and UNSUBSCRIBE, and tells the ledger of acknowledgements.

    A key is the `id` header, or in STOMP 1.0 the destination where there is no id.
    """

    __slots__ = ("_acks", "_ended_by_us", "_limits", "_live", "instances")

    def __init__(self, limits: Limits, acks: AckLedger) -> None:
        self._limits = limits
        self._acks = acks
        self._live: dict[str, _Subscription] = {}
        # What we ended and the client may still unsubscribe from: as many as it may have, oldest forgotten first.
        self._ended_by_us: OrderedDict[str, int] = OrderedDict()
        self.instances = 0
        """Instance numbers given so far: the last one."""

    def __len__(self) -> int:
        return len(self._live)

    def begin(self, key: str, destination: str, mode: AckMode) -> tuple[int, AckWindow | None]:
        """A new one: its instance and, in the client modes, its window.

        `subscription_exists`, `too_many_subscriptions`.
        """
        limits = self._limits
        if key in self._live:
            raise RemoteProtocolError(Code.SUBSCRIPTION_EXISTS, "there is a subscription of that id already")
        if len(self._live) >= limits.subscriptions_max:
            raise RemoteProtocolError(
                Code.TOO_MANY_SUBSCRIPTIONS, f"more than {limits.subscriptions_max} subscriptions"
            )
        self.instances = instance = self.instances + 1
        window = None if mode is AckMode.AUTO else AckWindow(mode, limits.ack_window, instance)
        self._live[key] = _Subscription(instance, destination)
        self._ended_by_us.pop(key, None)
        self._acks.opened(key, instance, window)
        return instance, window

    def end(self, key: str) -> int:
        """The client ends one: its instance. `unknown_subscription`, but not for one that we ended ourselves."""
        if key in self._live:
            return self._drop(key)
        if key in self._ended_by_us:
            return self._ended_by_us.pop(key)
        raise RemoteProtocolError(Code.UNKNOWN_SUBSCRIPTION, "there is no such subscription")

    def end_ours(self, key: str, instance: int) -> None:
        """We end one. Nothing happens if that instance is gone already."""
        subscription = self._live.get(key)
        if subscription is None or subscription.instance != instance:
            return
        self._drop(key)
        self._ended_by_us[key] = instance
        if len(self._ended_by_us) > self._limits.subscriptions_max:
            self._ended_by_us.popitem(last=False)

    def key_of(self, destination: str) -> str:
        """STOMP 1.0, UNSUBSCRIBE by destination: the one without an id, else the oldest with that destination."""
        if destination in self._live:
            return destination
        for key, subscription in self._live.items():
            if subscription.destination == destination:
                return key
        return destination

    def _drop(self, key: str) -> int:
        self._acks.closed(key)
        return self._live.pop(key).instance
