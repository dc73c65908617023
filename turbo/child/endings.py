"""Ends every task that ran: logs its end and writes its DONE record.

The record holds the encoded document.

Runs in a child, called by ``native.executor`` with the run that ended. ``policy.settling`` decides what becomes of the
message; the master carries it out. Follow-ups of a failure are sent before its document is written. If the task has
handlers or signals have receivers, the document is sent first, as a question: the hooks run when it is stored, and the
DONE record, which settles the message, comes last. So a child that dies in a handler leaves its message unsettled. A
message must never get a second DONE record.
"""

from __future__ import annotations

import logging
import traceback
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, NoReturn

from turbo import states
from turbo.app.tasks.einfo import ExceptionInfo
from turbo.child import event_texts, followups, task_hooks
from turbo.child.leaving import end_process, exit_code
from turbo.child.questions import Asked
from turbo.exceptions import EncodeError, Ignore, OperationalError, Reject, Retry, TurboError
from turbo.policy.settling import Ending, Verb, settle
from turbo.protocol.saferepr import saferepr
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.base import Turbo
    from turbo.child.chords import Chords
    from turbo.child.documents import Documents
    from turbo.child.options import ChildOptions
    from turbo.child.questions import Questions
    from turbo.child.reporting import Reporter, Run
    from turbo.ring.link import ChildLink

logger = logging.getLogger("celery.app.trace")


class Endings:
    """Reports the end of every task that one child has run."""

    def __init__(
        self,
        app: Turbo,
        options: ChildOptions,
        link: ChildLink,
        reporter: Reporter,
        documents: Documents,
        questions: Questions,
        chords: Chords,
    ) -> None:
        self._app = app
        self._options = options
        self._link = link
        self._reporter = reporter
        self._documents = documents
        self._questions = questions
        self._chords = chords

    # -- tasks that ran ----------------------------------------------------------------------------------
    #
    # Each method returns the question that the task waits for, if it has handlers or receivers. The question's ``then``
    # calls them when the document is stored.

    def succeeded(self, run: Run, result: object, store: bytes) -> Asked | None:  # hot: bench drain
        """The body returned, its follow-ups are sent and its result is encoded."""
        plan = run.plan
        chord = run.message.chord
        if chord is not None or plan.has_success_hooks or task_hooks.success_receivers or task_hooks.postrun_receivers:
            runtime = (monotonic_ns() - run.began) / 1e9
            then = partial(self._finish_success, run, result, runtime)
            ask = self._ask if chord is None else self._count
            return ask(run, plan.success_verb, store, then)
        page = self._link.page
        texts = event_texts.of_result(page, result, plan.task.resultrepr_maxsize) if page.sends_events() else b""
        self._reporter.done(run.seq, run.began, plan.success_verb, Ending.SUCCESS, store=store, texts=texts)
        if self._options.verbose:
            _log_success(run, result, (monotonic_ns() - run.began) / 1e9)
        return None

    def raised(self, run: Run, error: BaseException) -> Asked | None:
        """The body raised an exception; its type decides the outcome."""
        self._link.page.end_body(run.entered, beside=run.plan.beside)
        if isinstance(error, Retry):
            return self._retried(run, error)
        if isinstance(error, Ignore):
            self._ignored(run, error)
            return None
        if isinstance(error, Reject):
            return self._rejected(run, error)
        if isinstance(error, SystemExit | KeyboardInterrupt) and not run.plan.in_thread:
            # In a thread it ends the task only, as Python has it: the child's other tasks go on.
            _left(self._link, run, error)
        return self._failed(run, error)

    def _failed(self, run: Run, error: BaseException) -> Asked | None:
        """The body raised, or its result or follow-ups could not be encoded."""
        plan, message = run.plan, run.message
        einfo = ExceptionInfo(error, _trace_of(error), internal=_is_internal(run, error))
        trace = einfo.traceback
        if einfo.internal:
            data = _failure_data(run, einfo, "INTERNAL ERROR")
            logger.critical("Task %s INTERNAL ERROR: %r\n%s", message.label, error, trace, extra={"data": data})
            task_hooks.internal_error(run, error, einfo)
        elif plan.throws and isinstance(error, plan.throws):
            data = _failure_data(run, einfo, "raised expected")
            logger.info("Task %s raised expected: %r", message.label, error, extra={"data": data})
        else:
            data = _failure_data(run, einfo, "raised unexpected")
            logger.error("Task %s raised unexpected: %r\n%s", message.label, error, trace, extra={"data": data})
        return self._conclude(run, error, einfo)

    def given_up(self, run: Run, error: BaseException) -> Asked | None:
        """Fail a task, unrun, whose message has ended too many children; reject it."""
        run.given_up = True
        logger.error("Task %s is rejected: %s", run.message.label, error)
        return self._conclude(run, error, ExceptionInfo(error))

    def _conclude(self, run: Run, error: BaseException, einfo: ExceptionInfo) -> Asked | None:
        """Finish a failed task: error callbacks, document, hooks."""
        plan, message = run.plan, run.message
        store = self._fail(run, error, None if run.given_up else einfo.traceback)
        in_chord = self._chords.concerns(message)
        if in_chord or plan.has_failure_hooks or task_hooks.failure_receivers or task_hooks.postrun_receivers:
            then = partial(self._finish_failure, run, error, einfo)
            ask = partial(self._count, error=error) if in_chord else self._ask
            return ask(run, _verb(run, Ending.FAILURE), store, then)
        self._end(run, Ending.FAILURE, store, error=error, trace=einfo.traceback)
        traceback.clear_frames(error.__traceback__)
        return None

    def _fail(self, run: Run, error: BaseException, trace: str | None) -> bytes:
        """Send the follow-ups of a failure; return its document, if one is kept."""
        message = run.message
        try:
            followups.after_failure(self._app, message.errbacks, run.request, error, trace)
        except (TurboError, TypeError, ValueError) as failure:
            logger.exception("Error callbacks of %s could not be sent: %s", message.label, failure)
        store = self._documents.failure(message, run.plan, states.FAILURE, error, trace, run.request)
        if store and message.chain:
            for document in self._documents.chain_failures(message, error, trace):
                self._link.emit(frames.STORE, run.seq, (document,))
        return store

    def _retried(self, run: Run, retry: Retry) -> Asked | None:
        """The body called ``retry``, which has sent the next attempt."""
        plan, message = run.plan, run.message
        logger.info("Task %s retry: %s", message.label, retry, extra={"data": _data(run)})
        trace = _trace_of(retry)
        store = self._documents.failure(message, plan, states.RETRY, retry.exc, trace, run.request)
        if plan.has_retry_hooks or task_hooks.retry_receivers or task_hooks.postrun_receivers:
            then = partial(self._finish_retry, run, retry, ExceptionInfo(retry, trace))
            return self._ask(run, None, store, then)
        if store:
            # Emit this before the next attempt is sent: that attempt may store its end before this record is settled.
            self._link.emit(frames.STORE, run.seq, (store,))
        self._end(run, Ending.RETRY, error=retry.exc, trace=trace)
        traceback.clear_frames(retry.__traceback__)
        return None

    def _ignored(self, run: Run, ignore: Ignore) -> None:
        """The body raised Ignore: no state is stored."""
        logger.info("Task %s ignored", run.message.label, extra={"data": _data(run)})
        task_hooks.postrun(run, ignore, states.IGNORED)
        self._end(run, Ending.IGNORE, payload=_payload(run, ignore))
        traceback.clear_frames(ignore.__traceback__)

    def _rejected(self, run: Run, reject: Reject) -> Asked | None:
        """The body rejected its message. Without requeue, the task counts as failed."""
        plan, message = run.plan, run.message
        logger.warning("Task %s %r: its message is rejected", message.label, reject, extra={"data": _data(run)})
        ending = Ending.REJECT_REQUEUE if reject.requeue else Ending.REJECT
        cause = reject.reason if isinstance(reject.reason, BaseException) else reject
        store = b"" if reject.requeue else self._fail(run, cause, None)
        in_chord = not reject.requeue and self._chords.concerns(message)
        if in_chord or plan.own_request or task_hooks.failure_receivers or task_hooks.postrun_receivers:
            then = partial(self._finish_reject, run, reject, ending)
            ask = partial(self._count, error=cause) if in_chord else self._ask
            return ask(run, _verb(run, ending), store, then)
        self._end(run, ending, store, error=reject, trace=_trace_of(reject))
        traceback.clear_frames(reject.__traceback__)
        return None

    # -- tasks with handlers, receivers or a chord -------------------------------------------------------

    def _ask(self, run: Run, verb: Verb | None, store: bytes, then: Callable[[bool], None]) -> Asked | None:
        """Have the document stored, then call ``then``.

        Call it at once if there is no document. ``verb`` is None for a state that is not final. Such a state is stored
        before the task's next attempt is sent; a final one is stored after everything that the task has sent.
        """
        if not store:
            self._reporter.release()
            then(True)
            return None
        if verb is not None:
            self._reporter.release()
        self._questions.ask(run.seq, verb, store)
        if verb is None:
            self._reporter.release()
        return Asked(run.seq, then)

    def _count(
        self, run: Run, verb: Verb, store: bytes, then: Callable[[bool], None], error: BaseException | None = None
    ) -> Asked | None:
        """Do the same for a part of a chord.

        It is counted when its document is stored and before it is settled. If it completes the chord, the counters are
        deleted when the body is confirmed, and ``then`` is called last.
        """

        def stored(kept: bool) -> Asked | None:
            chords, message = self._chords, run.message
            wrong = error
            if not kept and wrong is None:
                wrong = OperationalError("its result could not be stored")
                document = self._documents.failure(message, run.plan, states.FAILURE, wrong, None, run.request)
                self._link.emit(frames.STORE, run.seq, (document,))
            left = chords.succeeded(message, run.gave) if wrong is None else chords.failed(message, wrong)
            if not left:
                then(kept)
                return None

            def confirmed(taken: bool) -> None:
                for close in left:
                    close(taken)
                then(kept)

            self._questions.ask(run.seq, verb, b"")
            return Asked(run.seq, confirmed)

        if not store:
            self._reporter.release()
            return stored(True)
        # Without a verb: if the child dies before the part is counted, the message has to run again.
        self._questions.ask(run.seq, None, store)
        self._reporter.release()
        return Asked(run.seq, stored)

    def _finish_success(self, run: Run, result: object, runtime: float, stored: bool) -> None:
        plan = run.plan
        if stored:
            task_hooks.success(run, result, runtime)
            if self._options.verbose:
                _log_success(run, result, runtime)
            task_hooks.after_return(run, states.SUCCESS, result)
        else:
            _log_hooks_skipped(run)
        task_hooks.postrun(run, result, states.SUCCESS)
        payload = b""
        if plan.own_request:
            payload = task_hooks.success_payload(saferepr(result, plan.task.resultrepr_maxsize), runtime)
        texts = event_texts.of_result(self._link.page, result, plan.task.resultrepr_maxsize)
        self._reporter.done(run.seq, run.began, plan.success_verb, Ending.SUCCESS, payload=payload, texts=texts)

    def _finish_failure(self, run: Run, error: BaseException, einfo: ExceptionInfo, stored: bool) -> None:
        if stored:
            task_hooks.failure(run, error, einfo)
            task_hooks.after_return(run, states.FAILURE, error)
        else:
            _log_hooks_skipped(run)
        if not run.given_up:
            task_hooks.postrun(run, error, states.FAILURE)
        self._end(run, Ending.FAILURE, payload=_payload(run, error, einfo), error=error, trace=einfo.traceback)
        traceback.clear_frames(error.__traceback__)

    def _finish_retry(self, run: Run, retry: Retry, einfo: ExceptionInfo, _stored: bool) -> None:
        # The task is tried again even if its state could not be stored. The store has logged that.
        task_hooks.retry(run, retry, einfo)
        task_hooks.postrun(run, retry, states.RETRY)
        self._end(run, Ending.RETRY, payload=_payload(run, retry, einfo), error=retry.exc, trace=einfo.traceback)
        traceback.clear_frames(retry.__traceback__)

    def _finish_reject(self, run: Run, reject: Reject, ending: Ending, stored: bool) -> None:
        if stored and not reject.requeue:
            task_hooks.failed(run, reject, ExceptionInfo(reject, _trace_of(reject)))
        task_hooks.postrun(run, reject, states.REJECTED)
        self._end(run, ending, payload=_payload(run, reject), error=reject, trace=_trace_of(reject))
        traceback.clear_frames(reject.__traceback__)

    def _end(
        self, run: Run, ending: Ending, store: bytes = b"", payload: bytes = b"", *,
        error: BaseException | None = None, trace: str | None = None,
    ) -> None:  # fmt: skip
        """Write a task's DONE record with the table's verb; ``error``: for its event."""
        texts = event_texts.of_error(self._link.page, error, trace)
        self._reporter.done(run.seq, run.began, _verb(run, ending), ending, store=store, payload=payload, texts=texts)


def _left(link: ChildLink, run: Run, error: BaseException) -> NoReturn:
    """Exit, because the body raised SystemExit or KeyboardInterrupt.

    The master sees a lost child.
    """
    logger.error("Task %s ended its child: %r", run.message.label, error)
    task_hooks.postrun(run, None, None)
    link.signal()
    end_process(exit_code(error))


def _payload(run: Run, error: BaseException, einfo: ExceptionInfo | None = None) -> bytes:
    """Return the payload for the task's own request, if it has one."""
    if not run.plan.own_request:
        return b""
    return task_hooks.failure_payload(einfo or ExceptionInfo(error, _trace_of(error), internal=True))


def _verb(run: Run, ending: Ending) -> Verb:
    if run.given_up:
        return Verb.REJECT
    return settle(ending, run.plan.options.ack_options())


def _is_internal(run: Run, error: BaseException) -> bool:
    """Whether turbo or a follow-up of the message failed, not the body."""
    return run.returned and not isinstance(error, EncodeError | OperationalError)


def _data(run: Run, **more: object) -> dict[str, object]:
    """Return the ``data`` of a log record about a task's end; the names are Celery's."""
    message = run.message
    return {"id": message.id, "name": message.task, "args": message.argsrepr, "kwargs": message.kwargsrepr, **more}


def _failure_data(run: Run, einfo: ExceptionInfo, description: str) -> dict[str, object]:
    exc, trace = saferepr(einfo.exception), einfo.traceback
    return _data(run, exc=exc, traceback=trace, description=description, internal=einfo.internal,
                 hostname=run.request.hostname)  # fmt: skip


def _log_success(run: Run, result: object, runtime: float) -> None:
    text = saferepr(result, run.plan.task.resultrepr_maxsize)
    data = _data(run, return_value=text, runtime=runtime)
    logger.info("Task %s succeeded in %ss: %s", run.message.label, runtime, text, extra={"data": data})


def _log_hooks_skipped(run: Run) -> None:
    logger.error("The outcome of task %s could not be stored; its handlers are not called", run.message.label)


def _trace_of(error: BaseException) -> str:
    """Format the traceback without this package's frames above the body."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_globals.get("__package__") == "turbo.child":
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))
