"""Holds the unstarted messages of paused queues whose consumer must stay.

Runs in the master, for ``master.delivery.intake``: what is delivered or waits when its queue is paused is held here,
and taken in again when the queue is resumed. ``master.delivery.queue_changes`` decides which queues these are. The
messages fill their own consumer's window and no other: ``master.window`` counts them as neither held nor work, and
``lease_copies`` lets their leases take no room. It must never settle a delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from turbo.master.delivery.ledger import Delivery


class PausedQueues:
    """The held deliveries by queue, in the order in which they are to be taken in."""

    def __init__(self) -> None:
        #: Deliveries, and whether the intake had told of them (log, hook) before; a queue is here while it is paused.
        self._held: dict[str, dict[Delivery, bool]] = {}
        #: The queues whose messages are held.
        self.names: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for held in self._held.values() for delivery in held)

    def leased(self, moving: Collection[Delivery], but: Collection[Delivery]) -> int:
        """Count those on a lease or in ``moving``, and not in ``but``."""
        return sum((bool(delivery.lease) or delivery in moving) and delivery not in but for delivery in self)

    def pause(self, queue: str) -> None:
        """Hold the messages of a queue from now on."""
        self._held.setdefault(queue, {})
        self.names.add(queue)

    def hold(self, delivery: Delivery, *, told: bool) -> None:
        """Keep an unstarted delivery of a paused queue.

        ``told``: it was taken in before.
        """
        if delivery.state is not State.HELD:
            delivery.move(State.HELD)
        # It may have waited for its ETA; that is looked at again.
        delivery.due = 0.0
        self._held[delivery.queue][delivery] = told

    def resume(self, queue: str) -> list[tuple[Delivery, bool]]:
        """End the pause; return the held deliveries, which wait again.

        And of each whether it was taken in before.
        """
        self.names.discard(queue)
        held = [item for item in self._held.pop(queue, {}).items() if item[0].state is State.HELD]
        for delivery, _told in held:
            delivery.move(delivery.waits_as)
        return held

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that are held here, and return them."""
        taken = [delivery for delivery in self if delivery in wanted] if self._held else []
        for delivery in taken:
            del self._held[delivery.queue][delivery]
        return [delivery for delivery in taken if delivery.state is State.HELD]

    def withdraw(self) -> list[Delivery]:
        """Return all held deliveries and forget them; their queues stay paused."""
        taken = [delivery for delivery in self if delivery.state is State.HELD]
        for held in self._held.values():
            held.clear()
        return taken
