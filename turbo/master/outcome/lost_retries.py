"""Retries a task whose child died, as ``Task.retry`` would.

Runs in the master. Before it: ``master.children.dead_child``, for tasks with ``retry_on_worker_lost`` that have
attempts left (``master.outcome.failure_documents`` counts). After it: ``master.outcome.settlement``. As in a retry,
RETRY is stored and reported to the app, the next attempt is sent to the queue of this one, and the message is settled.
``master.outcome.poison`` instead returns the message with a higher count of deaths, up to a limit; a retry here counts
as an attempt, waits the task's delay and may store a document. It must never decode a body.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from turbo import states
from turbo.exceptions import Retry
from turbo.policy.settling import Verb
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.republishing import republish_headers
from turbo.ring.frames import PublishRequest

if TYPE_CHECKING:
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.settlement import Settlement

logger = logging.getLogger("celery.worker.request")


class LostRetries:
    """Sends the next attempts of one worker's lost tasks."""

    def __init__(self, settlement: Settlement, failure_documents: FailureDocuments, hooks: OutcomeHooks) -> None:
        self._settlement = settlement
        self._failure_documents = failure_documents
        self._hooks = hooks

    def retry(self, delivery: Delivery, error: BaseException, pid: int) -> bool:
        """Send the next attempt of a started task that was lost with the child ``pid``.

        False when none is due.
        """
        message = self._failure_documents.message(delivery)
        options = self._failure_documents.options(message)
        if message is None or not self._failure_documents.retries_when_lost(delivery):
            return False
        delay = options.default_retry_delay
        again = Retry(exc=error, when=delay)
        logger.info("Task %s retry: %s", message.label, again)
        request = _next_attempt(delivery, message.retries + 1, delay)

        def report(_stored: bool) -> None:
            # The task is retried even if RETRY could not be stored, which the store has logged.
            self._hooks.retried(delivery, again, pid)

        document = self._failure_documents.document(message, options, states.RETRY, error)
        if document is None:
            report(True)
        else:
            self._settlement.state(delivery, document, report)
        self._settlement.publish(delivery, request, essential=True)
        if self._settlement.events.on:
            self._settlement.events.retried(delivery, error)
        self._settlement.finish(delivery, Verb.ACK, None)
        return True


def _next_attempt(delivery: Delivery, attempt: int, delay: float) -> PublishRequest:
    """Return the same message for its original queue, due in ``delay`` seconds."""
    properties, size = decode_header(delivery.header)
    headers = republish_headers(properties.headers) or {}
    headers["retries"] = attempt
    headers["eta"] = (datetime.now(UTC) + timedelta(seconds=delay)).isoformat() if delay else None
    properties.headers = headers
    return PublishRequest("", delivery.queue, encode_header(properties, size), delivery.body, True, True)
