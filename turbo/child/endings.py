"""How a task can end, as its child sees it: each way logs, encodes its document and writes one DONE record.

Runs in a child, called by ``child.executor`` with the run that ended. ``policy.settling`` decides what becomes of the
message; the master carries it out. Follow-ups of a failure are sent before its document is written, handlers are
called after the DONE record, when the outcome cannot change any more.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from turbo import failpoint, states
from turbo.child import followups
from turbo.exceptions import Ignore, NotRegistered, Reject, Retry, TurboError
from turbo.policy.settling import Ending, Verb, settle
from turbo.protocol.message import salvage
from turbo.protocol.saferepr import clean, saferepr
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.app.context import Context
    from turbo.child.documents import Documents
    from turbo.child.options import ChildOptions
    from turbo.child.plan import Plan
    from turbo.child.reporting import Reporter
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink

logger = logging.getLogger("celery.app.trace")

#: Exit code of a child that a task left by ``sys.exit`` without a number of its own.
_EXIT_BY_TASK = 70


class Run:
    """One task being run: what every ending needs."""

    __slots__ = ("began", "message", "plan", "request", "seq")

    def __init__(self, seq: int, began: int, message: TaskMessage, plan: Plan, request: Context) -> None:
        self.seq = seq
        #: ``time.monotonic_ns`` of the claim.
        self.began = began
        self.message = message
        self.plan = plan
        self.request = request


class Endings:
    """Reports the end of every message of one child."""

    def __init__(
        self, app: Turbo, options: ChildOptions, link: ChildLink, reporter: Reporter, documents: Documents
    ) -> None:
        self._app = app
        self._options = options
        self._link = link
        self._reporter = reporter
        self._documents = documents

    # -- tasks that ran ----------------------------------------------------------------------------------

    def succeeded(self, run: Run, result: object, store: bytes) -> None:
        """The body returned, its follow-ups are sent and its result is encoded."""
        plan, message = run.plan, run.message
        self.done(run.seq, run.began, plan.success_verb, Ending.SUCCESS, store=store)
        if self._options.verbose:
            logger.info(
                "Task %s succeeded in %ss: %s",
                message.label,
                (monotonic_ns() - run.began) / 1e9,
                saferepr(result, plan.task.resultrepr_maxsize),
            )
        if plan.on_success is not None:
            self._handler(plan.on_success, result, message.id, message.args, message.kwargs)
        if plan.after_return is not None:
            self._handler(plan.after_return, states.SUCCESS, result, message.id, message.args, message.kwargs, None)

    def raised(self, run: Run, error: BaseException) -> None:
        """The body raised: by what, its outcome is known."""
        if isinstance(error, Retry):
            self.retried(run, error)
        elif isinstance(error, Ignore):
            self.ignored(run)
        elif isinstance(error, Reject):
            self.rejected(run, error)
        elif isinstance(error, SystemExit | KeyboardInterrupt | MemoryError):
            self.left(run, error)
        else:
            self.failed(run, error)

    def failed(self, run: Run, error: BaseException) -> None:
        """The body raised, or its result or follow-ups could not be encoded."""
        plan, message = run.plan, run.message
        self._link.page.leave_body()
        trace = _trace_of(error)
        if plan.throws and isinstance(error, plan.throws):
            logger.info("Task %s raised expected: %r", message.label, error)
        else:
            logger.error("Task %s raised unexpected: %r\n%s", message.label, error, trace)
        try:
            followups.after_failure(self._app, message, run.request, error, trace)
        except (TurboError, TypeError, ValueError) as failure:
            logger.exception("Error callbacks of %s could not be sent: %s", message.label, failure)
        store = self._documents.failure(message, plan, states.FAILURE, error, trace, run.request)
        if store and message.chain:
            for document in self._documents.chain_failures(message, error, trace):
                self._link.emit(frames.STORE, run.seq, (document,))
        self._end(run, Ending.FAILURE, store)
        args, kwargs = message.args, message.kwargs
        if plan.on_failure is not None:
            self._handler(plan.on_failure, error, message.id, args, kwargs, trace)
        if plan.after_return is not None:
            self._handler(plan.after_return, states.FAILURE, error, message.id, args, kwargs, None)
        traceback.clear_frames(error.__traceback__)

    def retried(self, run: Run, retry: Retry) -> None:
        """The body sent itself again."""
        plan, message = run.plan, run.message
        self._link.page.leave_body()
        logger.info("Task %s retry: %s", message.label, retry)
        trace = _trace_of(retry)
        store = self._documents.failure(message, plan, states.RETRY, retry.exc, trace, run.request)
        if store:
            # Before the next attempt is sent, which may store its end before this record's settlement is through.
            self._link.emit(frames.STORE, run.seq, (store,))
        self._end(run, Ending.RETRY)
        if plan.on_retry is not None:
            self._handler(plan.on_retry, retry.exc, message.id, message.args, message.kwargs, trace)

    def ignored(self, run: Run) -> None:
        """The body asked that nothing be recorded."""
        logger.info("Task %s ignored", run.message.label)
        self._end(run, Ending.IGNORE)

    def rejected(self, run: Run, reject: Reject) -> None:
        """The body rejected its message."""
        self._link.page.leave_body()
        logger.warning("Task %s rejected: %r", run.message.label, reject)
        if reject.requeue:
            self._end(run, Ending.REJECT_REQUEUE)
            return
        cause = reject.reason if isinstance(reject.reason, BaseException) else reject
        self._end(run, Ending.REJECT, self._documents.failure(run.message, run.plan, states.FAILURE, cause, None))

    def left(self, run: Run, error: BaseException) -> None:
        """The body asked the process to end, or ran out of memory: the master sees a lost child, as it should."""
        logger.error("Task %s ended its child: %r", run.message.label, error)
        code = error.code if isinstance(error, SystemExit) else _EXIT_BY_TASK
        self._link.signal()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else _EXIT_BY_TASK)

    # -- messages that do not run ------------------------------------------------------------------------

    def unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        """No task of this name is registered here."""
        logger.error("Received unregistered task of type '%s': its message is rejected", clean(message.task, 200))
        store = self._documents.failure(message, None, states.FAILURE, NotRegistered(message.task), None)
        self.done(seq, began, Verb.REJECT, Ending.UNKNOWN_TASK, store=store)

    def unrun(self, seq: int, began: int, message: TaskMessage, error: BaseException) -> None:
        """The message is understood but must not run."""
        logger.error("Task %s is rejected: %s", message.label, error)
        store = self._documents.failure(message, None, states.FAILURE, error, None)
        self.done(seq, began, Verb.REJECT, Ending.INVALID, store=store)

    def refused(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        """The message cannot be understood: reject it, and store FAILURE where its id is known."""
        store = b""
        where = ""
        if properties is not None:
            message = salvage(properties, body)
            if message is None:
                where = " without an id"
            else:
                where = f" {message.label}"
                store = self._documents.failure(message, None, states.FAILURE, error, None)
        logger.critical("Message%s is rejected, it cannot be decoded: %s", where, saferepr(str(error), 400))
        self.done(seq, began, Verb.REJECT, Ending.UNDECODABLE, store=store)

    # -- reporting ---------------------------------------------------------------------------------------

    def done(self, seq: int, began: int, verb: Verb, ending: Ending, *, store: bytes = b"", due_ns: int = 0) -> None:
        """Write the DONE record. It is signalled with the next claim, or when there is none."""
        reporter = self._reporter
        share = reporter.share
        if share.held:
            reporter.release()
        payload = frames.pack_done(verb, ending, 0, share.published, monotonic_ns() - began, due_ns, store)
        reporter.begin(0)
        self._link.emit(frames.DONE, seq, (payload,))
        if failpoint.ENABLED:
            failpoint.hit("child.result_written")

    def _end(self, run: Run, ending: Ending, store: bytes = b"") -> None:
        """Settle a task that ran, by the ack table."""
        options = run.plan.options
        verb = settle(
            ending,
            acks_late=options.acks_late,
            acks_on_failure=options.acks_on_failure,
            acks_on_timeout=options.acks_on_timeout,
            reject_on_worker_lost=options.reject_on_worker_lost,
        )
        self.done(run.seq, run.began, verb, ending, store=store)

    def _handler(self, handler: Any, *args: Any) -> None:
        """Call a user's handler; its errors are logged, since the task's outcome is known by now."""
        try:
            handler(*args)
        except Exception:
            logger.exception("Handler %s raised", getattr(handler, "__qualname__", handler))


def _trace_of(error: BaseException) -> str:
    """The traceback's text, without the frames of this package above the body."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_globals.get("__package__") == "turbo.child":
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))
