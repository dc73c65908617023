"""The outcome hooks of a native app: what of the app's code runs in the master.

Runs in the master. The app's code runs on ``master.outcome.hook_thread``, and only if a task or a receiver needs it:
for tasks that ended without their child, for their own requests, and for signals that the master sends. The ack table
decides, as in ``master.outcome.hooks.NoHooks``, with the document that Celery's master would store. The document is
stored first, then the app's code runs, then the message is settled. The app's code must never run on the loop.
"""

from __future__ import annotations

import logging
import pickle
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from turbo import signals
from turbo.app.tasks.einfo import ExceptionInfo
from turbo.app.tasks.handlers import has_own_request
from turbo.child.chords import Chords
from turbo.exceptions import InvalidTaskError, TaskRevokedError, TimeLimitExceeded
from turbo.master.outcome.hook_thread import HookThread, WaitedReceivers
from turbo.master.outcome.hooks import NoHooks
from turbo.native import lost_task_hooks
from turbo.native.message_decoder import MessageDecoder
from turbo.native.steps import bootsteps
from turbo.policy import time_limits
from turbo.policy.finishing import overridden
from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.backends.store import StoreOutcome
    from turbo.exceptions import Retry
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import Storing, Then
    from turbo.native.facade import Worker
    from turbo.native.request import Request
    from turbo.policy.worker_options import WorkerOptions
    from turbo.ring.frames import StoreRequest

logger = logging.getLogger("celery.worker.request")


class NativeHooks(NoHooks):
    """The outcome hooks of a :class:`turbo.Turbo` app."""

    def __init__(
        self, app: Turbo, options: WorkerOptions, worker: Worker,
        loop: asyncio.AbstractEventLoop, failure_documents: FailureDocuments, store: Storing,
    ) -> None:  # fmt: skip
        super().__init__(failure_documents)
        self._app = app
        self._options = options
        self._worker = worker
        self._decoder = MessageDecoder(app, options)
        self._chords = Chords(app)
        self._store = store
        self._hooks = HookThread(loop, options.hook_timeout, app.after_hook())
        self._received = WaitedReceivers(self._hooks, "task_received")
        self._bootsteps = bootsteps(app, worker, self._hooks)

    # -- messages ----------------------------------------------------------------------------------------

    @property
    def reports_received(self) -> bool:
        """Whether ``task_received`` has receivers."""
        return bool(signals.task_received.receivers) and not self._received.hung

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Send ``task_received`` for tasks that are registered."""
        if self._task(delivery) is None:
            then()
            return

        def report() -> None:
            request = self._decoder.request(delivery)
            signals.task_received.send(sender=self._worker.consumer, request=request)

        self._received.run(report, then)

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """Call ``on_retry``, then send ``task_retry``."""
        task = self._task(delivery)
        if task is None or not lost_task_hooks.has_retry_hooks(task):
            return

        def report() -> None:
            found = self._decoder.message(delivery)
            lost_task_hooks.announce_retry(task, found, self._decoder.context(delivery, found), reason)

        self._submit(delivery, f"A retry hook of {task.name}", report)

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """Store REVOKED, count a part of a chord, acknowledge, send ``task_revoked``."""
        verb, document = self._failure_documents.revoked(delivery, reason)
        message = self._failure_documents.message(delivery)
        counted_here = message is not None and lost_task_hooks.is_counted(message, delivery)
        if not counted_here or self._decoder.is_undecodable(delivery):
            then(verb, document)
        else:

            def count() -> None:
                found = self._decoder.message(delivery)
                context = self._decoder.context(delivery, found)
                lost_task_hooks.count(self._chords, self._task(delivery), found, context, TaskRevokedError(reason))

            def counted(_value: object, left: StoreRequest | None) -> None:
                then(verb, left)

            self._run_when_stored(delivery, "The chord of a revoked task", document, count, counted)
        self._send_revoked(delivery, reason, signum)

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """Call ``on_accepted`` of the task's own request."""
        now = time.monotonic()
        self._submit(delivery, "on_accepted", lambda: self._own(delivery).on_accepted(pid, now))

    def soft_limit(self, delivery: Delivery) -> None:
        """Call ``on_timeout(soft=True)`` of the task's own request, or log it here."""
        message = self._failure_documents.message(delivery)
        options = self._failure_documents.options(message)
        given = (message.timelimit if message is not None else None) or (None, None)
        limit = time_limits.effective(given[1], options.soft_time_limit, self._options.soft_time_limit) or 0.0
        limit = int(limit) if limit == int(limit) else limit
        task = self._task(delivery)
        if task is not None and has_own_request(task):
            self._submit(delivery, "on_timeout", lambda: self._own(delivery).on_timeout(True, limit))
        elif message is not None:
            logger.warning("Soft time limit (%ss) exceeded for %s", limit, message.label)

    # -- ends --------------------------------------------------------------------------------------------

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """Store FAILURE, then run callbacks, handlers, receivers, the request."""
        verb, document = self._failure_documents.failure(delivery, ending, error)
        task = self._task(delivery)
        if task is None or not has_own_request(task):
            lost_task_hooks.log_lost(self._failure_documents.message(delivery), error)
        runs_again = verb is Verb.REQUEUE and ending is Ending.WORKER_LOST
        if (
            task is None
            or runs_again
            or not lost_task_hooks.has_end_hooks(task, delivery)
            or self._decoder.is_undecodable(delivery)
        ):
            then(verb, document)
            return

        # Filled on the thread before any of the app's code runs, so it is complete even if that code does not return.
        more: list[StoreRequest] = []

        def run_hooks() -> Verb | None:
            return self._run_lost_hooks(delivery, task, error, pid, more)

        def finished(verb_override: Verb | None, left: StoreRequest | None) -> None:
            for request in more:
                self._store(request, None)
            then(overridden(verb, verb_override), left)

        self._run_when_stored(delivery, f"A hook for the end of {task.name}", document, run_hooks, finished)

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, payload: bytes, then: Then) -> None:
        """Handle a report of a message that cannot run, or of a task's request."""
        if ending is Ending.REVOKED:
            self._send_revoked(delivery, "expired", None)
            then(verb, None)
        elif ending in (Ending.UNKNOWN_TASK, Ending.INVALID, Ending.UNDECODABLE):
            self._submit(delivery, "A receiver of a refused message", lambda: self._refused(delivery, ending, payload))
            then(verb, None)
        else:

            def report() -> Verb | None:
                request = self._own(delivery)
                request.acknowledged = delivery.acked
                request.on_success(pickle.loads(payload))
                return request.verb_override

            self._submit(delivery, "The request of a task", report, lambda found: then(overridden(verb, found), None))

    # -- the worker --------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Start the app's bootsteps, then send ``worker_ready``."""
        self._bootsteps.start()
        self._send_signal(signals.worker_ready, self._worker.announce_ready)

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Send ``worker_shutting_down``, and stop the consumers of bootsteps."""
        announce = partial(self._worker.announce_shutting_down, signal, how, exit_code)
        self._send_signal(signals.worker_shutting_down, announce)
        self._bootsteps.end_consuming()

    async def stop(self, deadline: float) -> None:
        """Finish the submitted calls, stop the bootsteps, send ``worker_shutdown``."""
        self._bootsteps.stop()
        self._send_signal(signals.worker_shutdown, self._worker.announce_shutdown)
        if not await self._hooks.drain(deadline):
            logger.error("The app's handlers and receivers do not return; the worker stops without them")

    # -- inside ------------------------------------------------------------------------------------------

    def _task(self, delivery: Delivery) -> Task | None:
        message = self._failure_documents.message(delivery)
        return self._app.registered(message.task) if message is not None else None

    def _own(self, delivery: Delivery) -> Request:
        """Return the one request of this run; make it if needed."""
        request: Request | None = delivery.request
        if request is None:
            request = delivery.request = self._decoder.request(delivery)
        return request

    def _run_when_stored(
        self, delivery: Delivery, name: str, document: StoreRequest | None,
        report: Callable[[], Any], then: Callable[[Any, StoreRequest | None], None],
    ) -> None:  # fmt: skip
        """Store an end's document, call ``report`` on the thread, pass on its value."""

        def stored(outcome: StoreOutcome | None) -> None:
            # A document that could not be stored is passed to ``then``, and settles the message.
            left = None if outcome is None or outcome.ok else document
            self._submit(delivery, name, report, lambda found: then(found, left))

        if document is None:
            stored(None)
        else:
            self._store(document, stored)

    def _submit(
        self, delivery: Delivery, name: str, call: Callable[[], Any], then: Callable[[Any], None] | None = None
    ) -> None:
        message = self._failure_documents.message(delivery)
        self._hooks.submit(f"{name} ({message.label if message else 'unreadable'})", call, then)

    def _send_signal(self, signal: signals.Signal, announce: Callable[[], None]) -> None:
        """Send a worker signal on the hook thread, if there are receivers."""
        if signal.receivers:
            self._hooks.submit(f"A receiver of {signal.name}", announce)

    def _run_lost_hooks(
        self, delivery: Delivery, task: Task, error: BaseException, pid: int, more: list[StoreRequest]
    ) -> Verb | None:
        """Run a lost task's hooks; return its verb. ``more`` gets later documents."""
        found = self._decoder.message(delivery)
        einfo = ExceptionInfo(error)
        context = self._decoder.context(delivery, found)
        # The documents come first: a caller that waits for a chain's end must not hang, whatever the app's code does.
        more += lost_task_hooks.chain_failures(self._failure_documents, found, error)
        # If the child lives (no pid), it has counted its part of a chord.
        lost_task_hooks.announce(self._app, self._chords if pid else None, task, found, context, einfo)
        if not has_own_request(task):
            return None
        request = self._own(delivery)
        request.worker_pid = pid
        request.acknowledged = delivery.acked
        try:
            if isinstance(error, TimeLimitExceeded):
                request.on_timeout(False, error.args[0])
            else:
                request.on_failure(einfo)
        except Exception:
            logger.exception("The request of %s raised", found.label)
        return request.verb_override

    def _send_revoked(self, delivery: Delivery, reason: str, signum: int | None) -> None:
        task = self._task(delivery)
        if not signals.task_revoked.receivers or task is None:
            return

        def report() -> None:
            signals.task_revoked.send(
                sender=task,
                request=self._decoder.context(delivery, self._decoder.message(delivery)),
                terminated=reason == "terminated",
                signum=signum,
                expired=reason == "expired",
            )

        self._submit(delivery, "A receiver of task_revoked", report)

    def _refused(self, delivery: Delivery, ending: Ending, payload: bytes) -> None:
        message = self._decoder.delivered(delivery)
        why = pickle.loads(payload)
        consumer = self._worker.consumer
        if ending is Ending.UNKNOWN_TASK:
            signals.task_unknown.send(
                sender=consumer, message=message, exc=KeyError(why), name=why, id=message.headers.get("id")
            )
        else:
            signals.task_rejected.send(sender=consumer, message=message, exc=InvalidTaskError(why))
