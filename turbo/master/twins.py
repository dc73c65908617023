"""Holds a redelivered copy of a task that still runs here, until that run has ended.

Runs in the master. When a connection is lost the broker delivers its unsettled messages again, while the runs of
the old deliveries go on. Without this a blip makes every running ``acks_late`` task run twice at the same time. A
copy is recognised by its id and its redelivered flag. When the first run ends well, the copy is acknowledged
without running; when it does not, the copy runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from turbo.master.dispatcher import Dispatcher
    from turbo.master.inflight import Delivery
    from turbo.master.settlement import Settlement
    from turbo.master.verdicts import Verdicts
    from turbo.protocol.message import TaskMessage


class Twins:
    """Runs whose connection is gone, by task id, and the copies that wait for them."""

    def __init__(self, dispatcher: Dispatcher, settlement: Settlement, verdicts: Verdicts) -> None:
        self._dispatcher = dispatcher
        self._settlement = settlement
        self._verdicts = verdicts
        self._running: dict[str, Delivery] = {}
        self._copies: dict[str, list[Delivery]] = {}
        #: True while there is anything to compare with.
        self.watching = False

    def watch(self, running: Iterable[Delivery]) -> None:
        """Remember deliveries of a lost connection that still run."""
        for delivery in running:
            message = self._verdicts.message(delivery)
            if message is not None:
                self._running[message.id] = delivery
        self.watching = bool(self._running)

    def hold(self, delivery: Delivery, message: TaskMessage | None) -> bool:
        """Hold a redelivered copy if its first run goes on; False when it may run now."""
        if message is None or message.id not in self._running:
            return False
        delivery.move(State.HELD)
        self._copies.setdefault(message.id, []).append(delivery)
        return True

    def withdraw(self) -> list[Delivery]:
        """Give up the held copies: their connection is lost as well, or the worker stops."""
        held = [copy for copies in self._copies.values() for copy in copies if copy.state is State.HELD]
        self._copies.clear()
        return held

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Give up those of ``wanted`` that are held here, and return them."""
        taken = [copy for copies in self._copies.values() for copy in copies if copy in wanted]
        for copies in self._copies.values():
            copies[:] = [copy for copy in copies if copy not in wanted]
        return [copy for copy in taken if copy.state is State.HELD]

    def ended(self, delivery: Delivery) -> None:
        """A run without connection has ended: settle its copies by how it ended."""
        message = self._verdicts.message(delivery)
        if message is None or self._running.get(message.id) is not delivery:
            return
        del self._running[message.id]
        self.watching = bool(self._running)
        for copy in self._copies.pop(message.id, []):
            if copy.state is not State.HELD:
                continue
            if delivery.acked or delivery.final is Verb.ACK:
                self._settlement.finish(copy, Verb.ACK, None)
            else:
                copy.move(State.READY)
                self._dispatcher.submit(copy)
        self._dispatcher.balance()
