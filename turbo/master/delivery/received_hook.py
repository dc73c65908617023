"""Reports each message to the app before it is dispatched, if the app asks for it.

Runs in the master, for ``master.delivery.intake``. Inactive unless the outcome hooks have a receiver: a report costs a
decode and a call on the hook thread per message. A delivery waits here until its report is done, so a slow receiver
slows the worker and the broker's window bounds the queue. It must never lose a delivery: when the connection is lost,
waiting deliveries are returned to the caller and their reports are ignored.
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
    """The deliveries whose reports to the app are pending."""

    def __init__(
        self, hooks: OutcomeHooks, failure_documents: FailureDocuments, proceed: Callable[[Delivery], None]
    ) -> None:
        """``proceed``: the next step of a delivery."""
        self._hooks = hooks
        self._failure_documents = failure_documents
        self._proceed = proceed
        self._waiting: dict[int, Delivery] = {}

    @property
    def wanted(self) -> bool:
        """Whether the app has a receiver."""
        return self._hooks.reports_received

    def hold(self, delivery: Delivery) -> bool:
        """Report a delivery to the app; False for one that cannot be read or has expired."""
        message = self._failure_documents.message(delivery)
        if message is None:
            return False
        if message.expires and admit(datetime.now(UTC), eta=None, expires=message.expires) is Admission.EXPIRED:
            return False
        self._waiting[id(delivery)] = delivery
        self._hooks.received(delivery, lambda: self._reported(delivery))
        return True

    def _reported(self, delivery: Delivery) -> None:
        if self._waiting.pop(id(delivery), None) is not None:
            self._proceed(delivery)

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that wait here, and return them."""
        taken = [delivery for delivery in self._waiting.values() if delivery in wanted]
        for delivery in taken:
            del self._waiting[id(delivery)]
        return taken

    def withdraw(self) -> list[Delivery]:
        """Return the deliveries that still wait, and forget them."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting
