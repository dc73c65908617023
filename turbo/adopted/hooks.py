"""The outcome hooks of a Celery app.

Celery's own requests handle tasks whose child could not report the end.

Runs in the master. The app's code (handlers, error callbacks, receivers, the result store) runs on
``master.outcome.hook_thread``. A request is made of the delivery, its method for the event is called, and it may ask
for a verb. If it does not, or if its code raises or hangs, the ack table decides. The app's code must never run on the
loop.
"""

from __future__ import annotations

import logging
import pickle
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded as BilliardTimeLimitExceeded
from billiard.exceptions import WorkerLostError
from celery import signals
from celery.exceptions import InvalidTaskError, NotRegistered
from kombu.exceptions import OperationalError

from turbo.adopted import requests
from turbo.adopted.steps import bootsteps
from turbo.exceptions import TimeLimitExceeded
from turbo.master.outcome.hook_thread import HookThread, WaitedReceivers
from turbo.policy import time_limits
from turbo.policy.finishing import overridden
from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from celery import Celery

    from turbo.adopted.facade import AdoptedWorker
    from turbo.exceptions import Retry
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import Storing, Then
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger("celery.worker.request")


class AdoptedHooks:
    """The outcome hooks of a ``celery.Celery`` app."""

    def __init__(
        self,
        app: Celery,
        worker: AdoptedWorker,
        options: WorkerOptions,
        loop: asyncio.AbstractEventLoop,
        failure_documents: FailureDocuments,
        _store: Storing,
    ) -> None:
        self._celery = app
        self._worker = worker
        self._options = options
        self._hooks = HookThread(loop, options.hook_timeout)
        self._bootsteps = bootsteps(app, worker, self._hooks)
        self._received = WaitedReceivers(self._hooks, "task_received")
        self._failure_documents = failure_documents

    # -- tasks -------------------------------------------------------------------------------------------

    @property
    def reports_received(self) -> bool:
        """Whether ``task_received`` has receivers."""
        return bool(signals.task_received.receivers) and not self._received.hung

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Send ``task_received``, as Celery does: for tasks that are registered."""
        if not self._knows(delivery):
            then()
            return

        def report() -> None:
            message = requests.message_of(self._celery, delivery)
            request = requests.request_of(self._celery, message, self._options.hostname, requests.VerbOverride())
            signals.task_received.send(sender=self._worker.consumer, request=request)

        self._received.run(report, then)

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """The children of a Celery app do not ask for this."""

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """Call ``on_timeout`` or ``on_failure`` of the task's request."""
        verb, _store = self._failure_documents.failure(delivery, ending, error)
        if delivery.undecodable or not self._knows(delivery):
            # Decoding it may kill the process, and a task that only a child knows has no request here.
            store = partial(self._store_failure, delivery, _as_billiard(error))
            self._hooks.submit("The storing of a failure", store, lambda _: then(verb, None))
            return

        def report(request: Any) -> None:
            request.worker_pid = pid
            request.acknowledged = delivery.acked
            if isinstance(error, TimeLimitExceeded):
                request.on_timeout(False, error.args[0])
            else:
                request.on_failure(_info(_as_billiard(error) if pid else OperationalError(str(error))))

        self._ask(delivery, verb, report, then)

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """The requests of a Celery app send next attempts themselves."""

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """Store REVOKED and send ``task_revoked``."""

        if not self._knows(delivery):
            store = partial(self._store_end, delivery, partial(self._celery.backend.mark_as_revoked, reason=reason))
            self._hooks.submit("The storing of a revocation", store, lambda _: then(Verb.ACK, None))
            return

        def report(request: Any) -> None:
            request._announce_revoked(reason, reason == "terminated", signum, reason == "expired")

        self._ask(delivery, Verb.ACK, report, then)

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, payload: bytes, then: Then) -> None:
        """Handle a child's report that needs the app.

        It is about a message that cannot run or was rejected, or a task with its own request.
        """
        if ending is Ending.REVOKED:
            self.revoked(delivery, "expired", then)
        elif ending in (Ending.UNKNOWN_TASK, Ending.INVALID, Ending.UNDECODABLE):

            def refuse() -> None:
                self._refused(delivery, ending, str(pickle.loads(payload)))

            self._hooks.submit("A receiver of a refused message", refuse, lambda _: then(verb, None))
        else:

            def report(request: Any) -> None:
                outcome = pickle.loads(payload)
                if isinstance(outcome, ExceptionInfo):
                    request.acknowledged = delivery.acked
                    request.on_failure(outcome)
                elif outcome is not None:
                    request.acknowledged = delivery.acked
                    request.on_success(outcome)

            self._ask(delivery, verb, report, then)

    def soft_limit(self, delivery: Delivery) -> None:
        """Call ``on_timeout(soft=True)`` of the task's request, which logs it."""
        message = self._failure_documents.message(delivery)
        options = self._failure_documents.options(message)
        given = (message.timelimit if message is not None else None) or (None, None)
        limit = time_limits.effective(given[1], options.soft_time_limit, self._options.soft_time_limit)
        if not self._knows(delivery):
            logger.warning("Soft time limit exceeded for %s", message.label if message is not None else "?")
            return

        def report(request: Any) -> None:
            request.on_timeout(True, limit)

        self._ask(delivery, Verb.ACK, report, None)

    def _knows(self, delivery: Delivery) -> bool:
        """Whether the task is registered in this process.

        One that a task has imported is not, nor one that a restart of the pool has added.
        """
        found = self._failure_documents.message(delivery)
        return found is not None and found.task in self._celery.tasks

    def _ask(self, delivery: Delivery, verb: Verb, report: Callable[[Any], None], then: Then | None) -> None:
        """Make the request, pass it to ``report``, and call ``then`` with its verb.

        The verb is that which the request asked for, or else ``verb``.
        """
        verb_override = requests.VerbOverride()

        def call() -> None:
            message = requests.message_of(self._celery, delivery)
            report(requests.request_of(self._celery, message, self._options.hostname, verb_override))

        def answered(_value: object) -> None:
            if then is not None:
                then(overridden(verb, verb_override.verb), None)

        self._hooks.submit(f"The request of delivery {delivery.tag}", call, answered)

    def _refused(self, delivery: Delivery, ending: Ending, why: str) -> None:
        """Store FAILURE if the task's id is known, and send the signal."""
        message = requests.message_of(self._celery, delivery, packed=True)
        found = self._failure_documents.message(delivery)
        task_id = found.id if found is not None else message.headers.get("id")
        name = found.task if found is not None else message.headers.get("task")
        error: Exception = NotRegistered(name) if ending is Ending.UNKNOWN_TASK else InvalidTaskError(why)
        self._store_failure(delivery, error)
        sender = self._worker.consumer
        if ending is Ending.UNKNOWN_TASK:
            logger.error("Received unregistered task of type %r. Its message is rejected", name)
            # Celery sends the KeyError of its look-up and stores NotRegistered.
            signals.task_unknown.send(sender=sender, message=message, exc=KeyError(name), name=name, id=task_id)
        else:
            signals.task_rejected.send(sender=sender, message=message, exc=error)

    def _store_failure(self, delivery: Delivery, error: BaseException) -> None:
        self._store_end(delivery, partial(self._celery.backend.mark_as_failure, exc=error))

    def _store_end(self, delivery: Delivery, mark: Callable[..., object]) -> None:
        """Store the end of a task from its headers alone, if they name an id."""
        message = requests.message_of(self._celery, delivery, packed=True)
        found = self._failure_documents.message(delivery)
        task_id = found.id if found is not None else message.headers.get("id")
        if not isinstance(task_id, str) or not task_id:
            return
        request = SimpleNamespace(
            name=found.task if found is not None else message.headers.get("task"),
            chord=None,
            root_id=found.root_id if found is not None else None,
            correlation_id=message.properties.get("correlation_id"),
            reply_to=message.properties.get("reply_to"),
            errbacks=None,
        )
        mark(task_id, request=request)

    # -- the worker --------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Start the app's bootsteps, then send ``worker_ready``."""
        self._bootsteps.start()
        self._hooks.submit("A receiver of worker_ready", self._worker.announce_ready)

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Send ``worker_shutting_down``, and stop the consumers of bootsteps."""
        self._hooks.submit(
            "A receiver of worker_shutting_down",
            lambda: self._worker.announce_shutting_down(signal, how, exit_code),
        )
        self._bootsteps.end_consuming()

    async def stop(self, deadline: float) -> None:
        """Finish the submitted calls, stop the bootsteps, send ``worker_shutdown``."""
        self._bootsteps.stop()
        self._hooks.submit("A receiver of worker_shutdown", self._worker.announce_shutdown)
        if not await self._hooks.drain(deadline):
            logger.error("The app's handlers and receivers do not return; the worker stops without them")


def _as_billiard(error: BaseException) -> Exception:
    """Convert an error to the class that Celery's pool raises."""
    over = isinstance(error, TimeLimitExceeded)
    theirs: Exception = BilliardTimeLimitExceeded(*error.args) if over else WorkerLostError(str(error))
    return theirs


def _info(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        return ExceptionInfo()
