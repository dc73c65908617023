"""Discards messages of revoked tasks, wherever the master notices them.

Runs in the master. Before it: ``master.delivery.intake`` (on receipt), ``master.children.dead_child`` (before a message
is given to another child) and ``master.delivery.revoking`` (what waits when a task is revoked). After it:
``master.outcome.hooks``, which decide about REVOKED, and ``master.outcome.settlement``, which acknowledges. It must
never discard a message that a child has claimed: see ``master.delivery.revoking`` for those.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending
from turbo.protocol.peek import task_id

if TYPE_CHECKING:
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.outcomes import Outcomes
    from turbo.master.outcome.settlement import Settlement
    from turbo.policy.revoked import Revoked

logger = logging.getLogger("celery.worker.request")


class RevokedTasks:
    """Recognises the messages of revoked tasks and discards them.

    ``master.delivery.revoking`` writes ``revoked``.
    """

    def __init__(
        self,
        revoked: Revoked,
        settlement: Settlement,
        outcomes: Outcomes,
        failure_documents: FailureDocuments,
        hooks: OutcomeHooks,
    ) -> None:
        #: What was revoked, by id and by stamped header.
        self.revoked = revoked
        self._settlement = settlement
        self._outcomes = outcomes
        self._failure_documents = failure_documents
        self._hooks = hooks

    def refuses(self, delivery: Delivery) -> bool:
        """Discard a message that no child has, if its task was revoked.

        Return whether it was.
        """
        if not self.revoked.any or not self.includes(delivery):
            return False
        self.discard(delivery)
        return True

    def includes(self, delivery: Delivery) -> bool:
        """Return whether the task was revoked, by its id or by a stamped header."""
        return self.id_of(delivery) in self.revoked or self.stamp(delivery) is not None

    def discard(self, delivery: Delivery) -> None:
        """End a delivery that waits here as REVOKED, and count it."""
        if delivery.state is State.HELD:
            delivery.move(State.READY)
        message = self._failure_documents.message(delivery)
        stamp = self.stamp(delivery)
        logger.info(
            "Discarding revoked task: %s%s",
            message.label if message is not None else "(unreadable)[?]",
            f" (revoked by header: {stamp!r:.200})" if stamp else "",
        )
        self._outcomes.endings[Ending.REVOKED] += 1
        if self._settlement.events.on:
            self._settlement.events.revoked(delivery)
        self._hooks.revoked(delivery, "revoked", functools.partial(self._settlement.finish, delivery))

    def id_of(self, delivery: Delivery) -> str:
        """Return the id of a delivery's task; empty when it has none that can be read."""
        raw = task_id(delivery.header)
        if raw is not None:
            return raw.decode("utf-8", "surrogateescape")
        message = self._failure_documents.message(delivery)
        return message.id if message is not None else ""

    def stamp(self, delivery: Delivery) -> dict[str, object] | None:
        """Return the stamped headers by which the delivery's task was revoked.

        None when it was not by any.
        """
        if not self.revoked.has_stamps:
            return None
        message = self._failure_documents.message(delivery)
        return None if message is None else self.revoked.stamp_of(message.stamped_headers, message.stamps)
