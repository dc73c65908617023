"""Lets the app hear of each message before it is dispatched, where the app wants to.

Runs in the master, for ``master.delivery.intake``, and does nothing unless the judge says that somebody listens: it
costs a decode and a turn of the judge's a message. A delivery waits here until it was told of; so a slow listener slows
the worker by the broker's window, and nothing piles up. It must never lose a delivery: one that waits when its
connection is lost is given to the caller, and what comes of it later is ignored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turbo.policy.admission import Admission, admit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks


class ReceivedHook:
    """The deliveries that the app is being told of."""

    def __init__(
        self, hooks: OutcomeHooks, failure_documents: FailureDocuments, proceed: Callable[[Delivery], None]
    ) -> None:
        """``proceed``: what happens to a delivery next."""
        self._hooks = hooks
        self._failure_documents = failure_documents
        self._proceed = proceed
        self._waiting: dict[int, Delivery] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._hooks.hears_received

    def hold(self, delivery: Delivery) -> bool:
        """Tell the app; False where there is nothing to tell: it cannot be read, or has expired."""
        message = self._failure_documents.message(delivery)
        if message is None:
            return False
        if message.expires and admit(datetime.now(UTC), eta=None, expires=message.expires) is Admission.EXPIRED:
            return False
        self._waiting[id(delivery)] = delivery
        self._hooks.received(delivery, lambda: self._told(delivery))
        return True

    def _told(self, delivery: Delivery) -> None:
        if self._waiting.pop(id(delivery), None) is not None:
            self._proceed(delivery)

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Give up those of ``wanted`` that wait here, and return them."""
        taken = [delivery for delivery in self._waiting.values() if delivery in wanted]
        for delivery in taken:
            del self._waiting[id(delivery)]
        return taken

    def withdraw(self) -> list[Delivery]:
        """Give back what still waits; it is forgotten here."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting
