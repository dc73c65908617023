"""Runs one message to one outcome through Celery's own tracer.

This is the executor of adopted apps.

Runs in a child, called by ``child.loop``; ``child.intake`` has decoded what is run here. The request is built as
Celery's prefork pool builds it, and ``task.__trace__`` does everything that depends on the task: handlers, signals,
retries, canvas, results. What is turbo's own here is the decoding, which refuses what would end Celery's worker, the
limits and the settlement. Messages that do not run are answered without a word to the app: the master's hooks do what
Celery's master does for them.
"""

from __future__ import annotations

import logging
import pickle
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NoReturn

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import states
from celery.app import trace
from celery.exceptions import Reject
from celery.utils.serialization import get_pickleable_exception
from kombu.serialization import loads as kombu_loads

from turbo import failpoint
from turbo.adopted import failing, process, tracing
from turbo.adopted.batch_runs import BatchRuns
from turbo.adopted.batches import BatchBody
from turbo.adopted.contents import own_contents
from turbo.adopted.coroutine_tracing import TracedCoroutine
from turbo.adopted.failing import ends_the_process
from turbo.adopted.handed_backends import is_untouched
from turbo.adopted.plan import Plan, Run
from turbo.adopted.request_fields import RequestFields
from turbo.adopted.requests import has_own_class
from turbo.adopted.result_handoff import ResultHandoff
from turbo.child import event_texts
from turbo.child.leaving import EXIT_REPLACED, end_process, exit_code
from turbo.child.parallel import ParallelTasks
from turbo.child.refusals import log_unreadable
from turbo.exceptions import SerializationError
from turbo.policy import poison
from turbo.policy.settling import Ending, Verb
from turbo.protocol import content
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.child.parallel import Limited
    from turbo.child.time_limits import SoftLimit
    from turbo.policy.task_options import TaskOptions
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.control_page import ChildPage
    from turbo.ring.link import ChildLink
    from turbo.spawner.messages import ChildBoot

logger = logging.getLogger("celery.worker.strategy")

_ENDINGS = {
    states.SUCCESS: Ending.SUCCESS,
    states.FAILURE: Ending.FAILURE,
    states.RETRY: Ending.RETRY,
    states.IGNORED: Ending.IGNORE,
}


def adopted(
    app: Celery, options: ChildOptions, task_options: Callable[[], dict[str, TaskOptions]], *, hands_results: bool
) -> ExecutorMaker:
    """Run an adopted app's tasks. ``hands_results``: the master stores for it."""

    def make(boot: ChildBoot, link: ChildLink, soft: SoftLimit) -> AdoptedExecutor:
        process.enter(app, boot.index, options.hostname, soft)
        # One document at a time can be handed over, and threads end tasks at the same time.
        hands = hands_results and not options.threads and is_untouched(app)
        return AdoptedExecutor(app, options, task_options, link, soft, ResultHandoff(app, soft) if hands else None)

    return make


class AdoptedExecutor(BatchRuns):
    """Runs the tasks of a ``celery.Celery`` app."""

    def __init__(
        self,
        app: Celery,
        options: ChildOptions,
        task_options: Callable[[], dict[str, TaskOptions]],
        link: ChildLink,
        soft: SoftLimit,
        handover: ResultHandoff | None,
    ) -> None:
        super().__init__(options, link, soft, app.timezone, app.tasks.get, task_options, self._decode_own)
        self._app = app
        self._handover = handover
        self._fields = RequestFields(options.hostname)
        self._own = own_contents()
        at_once = options.threads or options.async_concurrency
        self._parallel = ParallelTasks[Run](link, soft, self._outcome_of, at_once, self._outcome_in_thread)

    @property
    def has_room(self) -> bool:
        """Whether another record may be claimed now."""
        return self._parallel.has_room

    def rest(self) -> None:
        """Run the tasks under way, or sleep, until a record may be claimed."""
        self._parallel.rest()

    def leave(self, *, replaced: bool) -> None:
        """The child ends in order, after its tasks."""
        self._parallel.finish()
        process.leave(EXIT_REPLACED if replaced else 0)

    # -- before the body ---------------------------------------------------------------------------------

    def _decode_own(self, body: bytes, kind: str | None, encoding: str | None, accept: frozenset[str]) -> Any:
        if kind in self._own or (kind == content.JSON and b"__type__" in body and content.JSON in accept):
            # Serializers of the app's, and types that it has taught kombu to carry, are known to kombu alone.
            return _by_kombu(body, kind, encoding, accept)
        return content.decode(body, kind, encoding, accept)

    def _plan(self, task: Any, options: TaskOptions) -> Plan:
        if task.__trace__ is None:
            tracing.build_trace(self._app, task, self._options.hostname, self._soft)
        plan = Plan(task, options, has_own_class(task), self._handover, threads=self._options.threads > 0)
        if options.batch is not None:
            plan.batch = BatchBody(task, self._link.page, self._soft)
        return plan

    def _unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        log_unreadable(error, "")
        self._done(seq, began, Verb.REJECT, Ending.UNDECODABLE, detail=str(error))

    def _unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        self._done(seq, began, Verb.REJECT, Ending.UNKNOWN_TASK, detail=message.task)

    def _expired(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> None:
        self._done(seq, began, Verb.ACK, Ending.REVOKED, detail="expired")

    def _answer(self, seq: int, began: int, verb: Verb, ending: Ending, due_ns: int = 0) -> None:
        self._done(seq, began, verb, ending, due_ns=due_ns)

    def _admitted(
        self,
        seq: int,
        began: int,
        message: TaskMessage,
        plan: Plan,
        deliver: bytes,
        properties: Properties,
        decoded: Any,
    ) -> bool:
        """Look at the deaths that a message has caused after its times were looked at."""
        if not super()._admitted(seq, began, message, plan, deliver, properties, decoded):
            return False
        headers = message.headers
        if headers and poison.needs_look(headers) and poison.deaths(headers) >= self._options.max_deliveries:
            self._give_up(seq, began, message, plan, self._fields.of(properties, deliver, decoded))
            return False
        return True

    def _give_up(self, seq: int, began: int, message: TaskMessage, plan: Plan, request: dict[str, Any]) -> None:
        """Fail a task that has ended too many children, unrun; reject its message."""
        why = poison.exhausted(message.headers or {})
        logger.error("Task %s is rejected: %s", message.label, why)
        payload = failing.fail(plan.task, message.id, request, WorkerLostError(str(why)))
        texts = event_texts.of_error(self._link.page, payload.exception, None)
        reported = (1, payload, 0.0) if plan.own_request else None
        self._done(seq, began, Verb.REJECT, Ending.FAILURE, payload=reported, texts=texts)

    # -- the body ----------------------------------------------------------------------------------------

    def _run(  # hot: bench drain --app celery
        self,
        seq: int,
        began: int,
        message: TaskMessage,
        plan: Plan,
        deliver: bytes,
        properties: Properties,
        decoded: Any,
    ) -> None:
        """Run one message by Celery's tracer and report how it ended."""
        request = self._fields.of(properties, deliver, decoded)
        if plan.batch is not None:
            self._collect(Run(seq, began, message, plan, request))
            return
        if plan.enters:
            request[tracing.ENTERED] = 1
        if plan.beside:
            self._begin_beside(Run(seq, began, message, plan, request))
            return
        self._announce(seq, began, message.timelimit, plan.options, early=plan.early)
        self._link.signal_start()
        if failpoint.ENABLED:
            failpoint.hit("child.started_sent")
        self._soft.running = seq
        handover = plan.handover
        if handover is not None:
            handover.open(message.id, in_chord=message.chord is not None)
        try:
            outcome, info, seconds, text = plan.trace(message.id, request["args"], request["kwargs"], request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            if ends_the_process(error):
                self._left(message, plan, error)
            if not isinstance(error, Exception):
                self._raised(seq, began, plan, error)
                self._link.page.finished()
                return
            outcome, info, seconds, text = _escaped(message, plan, error)
        self._soft.running = 0
        self._link.page.leave_body()
        self._traced(seq, began, plan, outcome, info, seconds, text)
        self._link.page.finished()

    def _begin_beside(self, run: Run) -> None:
        """Take a coroutine or a thread's task on, and go on."""
        soft = self._admit(run.seq, run.message.timelimit, run.plan.options, early=run.plan.early)
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.admitted_sent")
        self._parallel.begin(run, soft, in_thread=run.plan.in_thread)

    def _outcome_in_thread(self, run: Run) -> None:
        """Run a task by Celery's tracer in this thread; an exit ends it alone."""
        if run.batch:
            self._end_batch(run.batch, run.seq)
            return
        message, plan, request = run.message, run.plan, run.request
        self._soft.running = run.seq
        try:
            outcome, info, seconds, text = plan.trace(message.id, request["args"], request["kwargs"], request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            if not isinstance(error, Exception):
                self._raised(run.seq, run.began, plan, error)
                return
            outcome, info, seconds, text = _escaped(message, plan, error)
        self._traced(run.seq, run.began, plan, outcome, info, seconds, text)

    async def _outcome_of(self, run: Run, limited: Limited) -> None:
        """Run a coroutine by Celery's tracer. ``limited`` puts its limit around it."""
        message, plan, request = run.message, run.plan, run.request

        def ended() -> None:
            # From here to the end of the tracer nothing waits, so this is the only task that stores.
            if plan.handover is not None:
                plan.handover.open(message.id, in_chord=message.chord is not None)

        traced = TracedCoroutine(plan.task, limited, ended)
        try:
            outcome, info, seconds, text = await traced.outcome(message.id, request["args"], request["kwargs"], request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            if ends_the_process(error):
                self._left(message, plan, error)
            if not isinstance(error, Exception):
                self._raised(run.seq, run.began, plan, error)
                return
            outcome, info, seconds, text = _escaped(message, plan, error)
        self._traced(run.seq, run.began, plan, outcome, info, seconds, text)

    def _traced(
        self, seq: int, began: int, plan: Plan, outcome: Any, info: Any, seconds: float | None, text: str | None
    ) -> None:
        """Report what Celery's tracer returned."""
        if failpoint.ENABLED:
            failpoint.hit("child.body_done")
        if info is None:
            ending = Ending.SUCCESS
        elif info.state == states.REJECTED:
            ending = Ending.REJECT_REQUEUE if info.retval.requeue else Ending.REJECT
        else:
            ending = _ENDINGS[info.state]
        store = b"" if plan.handover is None else plan.handover.close(succeeded=info is None)
        payload: object = None
        if plan.own_request or ending is Ending.REJECT:
            payload = (1, outcome, seconds) if info is not None else (0, text, seconds)
        texts = _event_texts(self._link.page, outcome, info, text) if self._link.page.sends_events() else b""
        self._done(seq, began, plan.verbs[ending], ending, payload=payload, store=store, texts=texts)

    def _raised(self, seq: int, began: int, plan: Plan, error: BaseException) -> None:
        """The body raised something that is no Exception.

        Celery's tracer lets it pass, and its pool reports it. The master calls the task's request, as Celery's pool
        does; it stores the failure and calls back.
        """
        self._soft.running = 0
        self._link.page.leave_body()
        if plan.handover is not None:
            plan.handover.store_now()
        einfo = _einfo(error)
        texts = event_texts.of_error(self._link.page, error, einfo.traceback)
        self._done(seq, began, plan.verbs[Ending.FAILURE], Ending.FAILURE, payload=einfo, texts=texts)

    def _left(self, message: TaskMessage, plan: Plan, error: BaseException) -> NoReturn:
        """The body asked the process to end: the master sees a lost child, as it should."""
        logger.error("Task %s ended its child: %r", message.label, error)
        number = exit_code(error)
        self._link.signal()
        if plan.handover is not None:
            plan.handover.store_now()
        process.leave(number)
        end_process(number)

    def _done(
        self,
        seq: int,
        began: int,
        verb: Verb,
        ending: Ending,
        *,
        due_ns: int = 0,
        detail: str | None = None,
        payload: object = None,
        store: bytes = b"",
        texts: bytes = b"",
    ) -> None:
        """Write the DONE record, with what the master's hooks or its store need.

        ``detail`` says why a message did not run; ``payload`` is what Celery's pool would have handed to the request;
        ``store`` is a packed store request, where there is neither; ``texts`` are for the event of the end.
        """
        if detail is None and payload is None:
            flags, tail = 0, store
        else:
            flags, tail = frames.FOR_HOOKS, _pickled(detail if payload is None else payload)
        done = frames.pack_done(verb, ending, flags, monotonic_ns() - began, due_ns, tail, texts)
        self._link.emit(frames.DONE, seq, (done,))
        if failpoint.ENABLED:
            failpoint.hit("child.result_written")


def _einfo(error: BaseException) -> ExceptionInfo:
    """Return the error that is being handled in a form that can be pickled."""
    einfo = ExceptionInfo()
    try:
        pickle.dumps(einfo)
    except Exception:  # noqa: BLE001 - objects of the user's may refuse in any way
        einfo.exception = get_pickleable_exception(error)
        einfo.type = type(einfo.exception)
    return einfo


def _escaped(message: TaskMessage, plan: Plan, error: Exception) -> tuple[Any, Any, float, None]:
    """Report what came through the tracer, which keeps all but a late ``Reject``."""
    if not isinstance(error, Reject):
        logger.error("Task %s failed outside of its body: %r", message.label, error, exc_info=True)
        plan.task.backend.mark_as_failure(message.id, error)
        return error, trace.TraceInfo(states.FAILURE, error), 0.0, None
    return ExceptionInfo(), trace.TraceInfo(states.REJECTED, error), 0.0, None


def _event_texts(page: ChildPage, outcome: Any, info: Any, text: str | None) -> bytes:
    """Return the texts of an end's event. ``text`` is the repr of a result."""
    if info is None:
        return event_texts.of_text(text or "")
    error = info.retval
    if info.state == states.RETRY:
        error = error.exc
    return event_texts.of_error(page, error, getattr(outcome, "traceback", None))


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - objects of the user's may refuse in any way
        logger.warning("Cannot pickle an outcome for the master's hooks; sending None: %r", error)
        return pickle.dumps(None)


def _by_kombu(body: bytes, kind: str | None, encoding: str | None, accept: frozenset[str]) -> Any:
    try:
        return kombu_loads(body, kind, encoding or "utf-8", accept=accept)
    except Exception as error:  # a decoder of the app's may raise anything
        raise SerializationError(f"not {kind}: {type(error).__name__}: {error}"[:1000]) from error
