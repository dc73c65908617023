"""What a native app's own code hears in the master: of tasks that ended without their child, and of what it asked for.

Runs in the master, as its judge; everything of the app's runs on ``master.outcome.hook_thread``, and only where a task
or a receiver wants to hear. The verdict itself is ``master.outcome.hooks.NoHooks``'s: the ack table, and the document
that Celery's master would store. The document comes first, then the app's code, then the message is settled.
"""

from __future__ import annotations

import logging
import pickle
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from turbo import signals
from turbo.app.tasks.einfo import ExceptionInfo
from turbo.app.tasks.handlers import has_own_request
from turbo.child.chords import Chords
from turbo.exceptions import InvalidTaskError, TaskRevokedError, TimeLimitExceeded
from turbo.master.outcome.hook_thread import Audience, HookThread
from turbo.master.outcome.hooks import NoHooks
from turbo.native import lost_task_hooks as estate
from turbo.native.message_decoder import MessageDecoder
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
    """The hooks of a :class:`turbo.Turbo` app."""

    def __init__(self, app: Turbo, options: WorkerOptions, worker: Worker) -> None:
        self._app = app
        self._options = options
        self._worker = worker
        self._opener = MessageDecoder(app, options)
        self._chords = Chords(app)
        #: The requests of tasks with a class of their own, from acceptance to end. Touched by the hook thread alone.
        self._requests: weakref.WeakKeyDictionary[Delivery, Request] = weakref.WeakKeyDictionary()

    def begin(self, loop: asyncio.AbstractEventLoop, failure_documents: FailureDocuments, store: Storing) -> None:
        """The master's loop runs."""
        super().begin(loop, failure_documents, store)
        self._store = store
        self._hooks = HookThread(loop, self._options.hook_timeout, self._app.after_hook())
        self._received = Audience(self._hooks, "task_received")

    # -- messages ----------------------------------------------------------------------------------------

    @property
    def hears_received(self) -> bool:
        """Whether ``task_received`` has receivers."""
        return bool(signals.task_received.receivers) and not self._received.deaf

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Send ``task_received`` for tasks that are registered."""
        if self._task(delivery) is None:
            then()
            return

        def tell() -> None:
            request = self._opener.request(delivery)
            signals.task_received.send(sender=self._worker.consumer, request=request)

        self._received.tell(tell, then)

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """``on_retry``, then ``task_retry``."""
        task = self._task(delivery)
        if task is None or not estate.somebody_hears_of_retries(task):
            return

        def tell() -> None:
            found = self._opener.message(delivery)
            estate.announce_retry(task, found, self._opener.context(delivery, found), reason)

        self._submit(delivery, f"What hears of the retry of {task.name}", tell)

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """REVOKED, acknowledged; a part of a chord is counted before; then ``task_revoked``."""
        verb, document = self._failure_documents.revoked(delivery, reason)
        message = self._failure_documents.message(delivery)
        if message is None or not estate.is_counted(message, delivery) or self._opener.is_undecodable(delivery):
            then(verb, document)
        else:

            def count() -> None:
                found = self._opener.message(delivery)
                context = self._opener.context(delivery, found)
                estate.count(self._chords, self._task(delivery), found, context, TaskRevokedError(reason))

            def counted(_value: object, left: StoreRequest | None) -> None:
                then(verb, left)

            self._tell_when_stored(delivery, "The chord of a revoked task", document, count, counted)
        self._send_revoked(delivery, reason, signum)

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """``on_accepted`` of the task's own request."""
        now = time.monotonic()
        self._submit(delivery, "on_accepted", lambda: self._own(delivery).on_accepted(pid, now))

    def soft_limit(self, delivery: Delivery) -> None:
        """``on_timeout(soft=True)`` of the task's own request, which logs it; for others it is logged here."""
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
        """FAILURE by the ack table; then error callbacks, handlers, receivers and the task's own request."""
        verb, document = self._failure_documents.failure(delivery, ending, error)
        task = self._task(delivery)
        if task is None or not has_own_request(task):
            estate.log_lost(self._failure_documents.message(delivery), error)
        runs_again = verb is Verb.REQUEUE and ending is Ending.WORKER_LOST
        if (
            task is None
            or runs_again
            or not estate.somebody_hears(task, delivery)
            or self._opener.is_undecodable(delivery)
        ):
            then(verb, document)
            return

        # Filled on the thread before any code of the app's runs, so that it is here also when that does not return.
        more: list[StoreRequest] = []

        def tell() -> Verb | None:
            return self._tell_lost(delivery, task, error, pid, more)

        def told(verb_override: Verb | None, left: StoreRequest | None) -> None:
            for request in more:
                self._store(request, None)
            then(overridden(verb, verb_override), left)

        self._tell_when_stored(delivery, f"What hears of the end of {task.name}", document, tell, told)

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, told: bytes, then: Then) -> None:
        """What a child found: a message that cannot run, or the end of a task whose request hears of every end."""
        if ending is Ending.REVOKED:
            self._send_revoked(delivery, "expired", None)
            then(verb, None)
        elif ending in (Ending.UNKNOWN_TASK, Ending.INVALID, Ending.UNDECODABLE):
            self._submit(delivery, "A receiver of a refused message", lambda: self._refused(delivery, ending, told))
            then(verb, None)
        else:

            def tell() -> Verb | None:
                request = self._own(delivery)
                request.acknowledged = delivery.acked
                request.on_success(pickle.loads(told))
                return request.verb_override

            self._submit(delivery, "The request of a task", tell, lambda found: then(overridden(verb, found), None))

    # -- the worker --------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Send ``worker_ready``."""
        self._tell(signals.worker_ready, self._worker.announce_ready)

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Send ``worker_shutting_down``."""
        announce = partial(self._worker.announce_shutting_down, signal, how, exit_code)
        self._tell(signals.worker_shutting_down, announce)

    async def stop(self, deadline: float) -> None:
        """Answer what was asked, then send ``worker_shutdown``."""
        self._tell(signals.worker_shutdown, self._worker.announce_shutdown)
        if not await self._hooks.drain(deadline):
            logger.error("The app's handlers and receivers do not end; going on without them")

    # -- inside ------------------------------------------------------------------------------------------

    def _task(self, delivery: Delivery) -> Task | None:
        message = self._failure_documents.message(delivery)
        return self._app.registered(message.task) if message is not None else None

    def _own(self, delivery: Delivery) -> Request:
        """The one request of this run."""
        request = self._requests.get(delivery)
        if request is None:
            request = self._requests[delivery] = self._opener.request(delivery)
        return request

    def _tell_when_stored(
        self,
        delivery: Delivery,
        name: str,
        document: StoreRequest | None,
        tell: Callable[[], Any],
        then: Callable[[Any, StoreRequest | None], None],
    ) -> None:
        """Store the document of an end, then ``tell`` on the hook thread, then ``then`` with what that returned.

        A document that could not be stored is handed on to ``then``, for the message to be settled by that.
        """

        def stored(outcome: StoreOutcome | None) -> None:
            left = None if outcome is None or outcome.ok else document
            self._submit(delivery, name, tell, lambda found: then(found, left))

        if document is None:
            stored(None)
        else:
            self._store(document, stored)

    def _submit(
        self, delivery: Delivery, name: str, call: Callable[[], Any], then: Callable[[Any], None] | None = None
    ) -> None:
        message = self._failure_documents.message(delivery)
        self._hooks.submit(f"{name} ({message.label if message else 'unreadable'})", call, then)

    def _tell(self, signal: signals.Signal, announce: Callable[[], None]) -> None:
        """Most workers have no receivers, and need no thread."""
        if signal.receivers:
            self._hooks.submit(f"A receiver of {signal.name}", announce)

    def _tell_lost(
        self, delivery: Delivery, task: Task, error: BaseException, pid: int, more: list[StoreRequest]
    ) -> Verb | None:
        """Returns what the task's own request wants; ``more`` gets the documents of what will now never run."""
        found = self._opener.message(delivery)
        einfo = ExceptionInfo(error)
        context = self._opener.context(delivery, found)
        # First the documents: whatever the app's code does, whoever waits for a chain's end must not hang.
        more += estate.chain_failures(self._failure_documents, found, error)
        # A child that lives has counted its part of a chord.
        estate.announce(self._app, self._chords if pid else None, task, found, context, einfo)
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

        def tell() -> None:
            signals.task_revoked.send(
                sender=task,
                request=self._opener.context(delivery, self._opener.message(delivery)),
                terminated=reason == "terminated",
                signum=signum,
                expired=reason == "expired",
            )

        self._submit(delivery, "A receiver of task_revoked", tell)

    def _refused(self, delivery: Delivery, ending: Ending, told: bytes) -> None:
        message = self._opener.delivered(delivery)
        why = pickle.loads(told)
        consumer = self._worker.consumer
        if ending is Ending.UNKNOWN_TASK:
            signals.task_unknown.send(
                sender=consumer, message=message, exc=KeyError(why), name=why, id=message.headers.get("id")
            )
        else:
            signals.task_rejected.send(sender=consumer, message=message, exc=InvalidTaskError(why))
