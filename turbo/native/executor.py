"""Runs a message to its outcome in an app of turbo's own.

``child.intake`` has taken it on before.

Runs in a child, called by ``child.loop``. It reports STARTED before the body; the ways in
which a message can end, each with its DONE record, are ``child.endings``. Whatever a message or a task does ends in
exactly one DONE, unless the process ends. It never talks to a broker and never settles anything itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from turbo import current, failpoint, log_format, signals
from turbo.app.tasks.context import Context
from turbo.child import followups, leaving
from turbo.child import task_hooks as task_hooks
from turbo.child.chords import Chords
from turbo.child.documents import Documents, ignored
from turbo.child.duplicates import Duplicates
from turbo.child.endings import Endings
from turbo.child.parallel import ParallelTasks
from turbo.child.plan import Plan
from turbo.child.questions import Questions
from turbo.child.refusals import Refusals
from turbo.child.reporting import Reporter, Run
from turbo.exceptions import EncodeError
from turbo.native.batch_runs import BatchRuns
from turbo.policy import poison
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.result_meta import Handle
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.child.time_limits import SoftLimit
    from turbo.policy.settling import Ending, Verb
    from turbo.policy.task_options import TaskOptions
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink
    from turbo.spawner.messages import ChildBoot


def native(app: Turbo, options: ChildOptions) -> ExecutorMaker:
    """Run the tasks of turbo's own app.

    What they send and store goes through the ring to the master.
    """

    def make(_boot: ChildBoot, link: ChildLink, soft: SoftLimit) -> NativeExecutor:
        app.set_current()
        log_format.name_tasks()
        reporter = Reporter(
            link,
            soft,
            known_queues=options.queues,
            declaring=app.sending.publishing.client,
            result_serializer=options.result_serializer,
            stores=options.stores,
            result_extended=options.result_extended,
            result_rows=options.result_rows,
        )
        current.set_publisher(reporter)
        current.set_state_store(reporter.store_state)
        current.set_event_sink(reporter.send_event)
        signals.worker_process_init.send(sender=None)
        return NativeExecutor(app, options, link, soft, reporter)

    return make


class NativeExecutor(BatchRuns):
    """Runs the tasks of a :class:`turbo.Turbo` app."""

    def __init__(self, app: Turbo, options: ChildOptions, link: ChildLink, soft: SoftLimit, reporter: Reporter) -> None:
        super().__init__(options, link, soft, app.timezone, app.registered, app.task_options)
        self._app = app
        self._reporter = reporter
        self._documents = Documents(options, reporter, os.getpid())
        self._questions = Questions(link)
        self._chords = Chords(app)
        self._duplicates = Duplicates(app, reporter, self._chords)
        self._refusals = Refusals(link, self._documents, reporter, self._chords, self._questions)
        self._endings = Endings(
            app, options, link, reporter, self._documents, self._questions, self._chords
        )  # fmt: skip
        at_once = options.threads or options.async_concurrency
        self._parallel = ParallelTasks(link, soft, self._outcome_of, at_once, self._outcome_in_thread)
        if options.threads:
            reporter.concurrent = True
            self._questions.serve_threads(self._parallel.open())

    @property
    def has_room(self) -> bool:
        """Whether another record may be claimed now."""
        return self._parallel.has_room

    def rest(self) -> None:
        """Run the tasks under way, or sleep, until a record may be claimed."""
        self._parallel.rest()

    def leave(self, *, replaced: bool) -> None:
        """End the child in order: tasks run to their ends, receivers hear of it."""
        self._parallel.finish()
        if signals.worker_process_shutdown.receivers:
            exit_code = leaving.EXIT_REPLACED if replaced else 0
            with leaving.bounded():
                signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=exit_code)

    # -- before the body ---------------------------------------------------------------------------------

    def _plan(self, task: Task, options: TaskOptions) -> Plan:
        return Plan(task, options, threads=self._options.threads > 0)

    def _unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        self._reporter.begin(seq)
        self._refusals.unreadable(seq, began, properties, body, error)

    def _unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        self._reporter.begin(seq, message.id)
        self._refusals.unknown(seq, began, message)

    def _expired(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> None:
        self._reporter.begin(seq, message.id)
        self._refusals.expired(seq, began, message, plan)

    def _answer(self, seq: int, began: int, verb: Verb, ending: Ending, due_ns: int = 0) -> None:
        self._reporter.done(seq, began, verb, ending, due_ns=due_ns)

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
        """Look at the deaths that a message has caused before its times are looked at."""
        headers = message.headers
        if headers and REJECTED not in headers and poison.deaths(headers) >= self._options.max_deliveries:
            self._reporter.begin(seq, message.id)
            run = Run(seq, began, message, plan, Context.from_message(message, deliver, self._options.hostname))
            self._give_up(run, poison.exhausted(headers))
            return False
        return super()._admitted(seq, began, message, plan, deliver, properties, decoded)

    def _run(  # hot: bench drain, trace
        self,
        seq: int,
        began: int,
        message: TaskMessage,
        plan: Plan,
        deliver: bytes,
        _properties: Properties,
        _decoded: Any,
    ) -> None:
        """Run one message, or take it on beside others."""
        self._reporter.begin(seq, message.id)
        request = Context.from_message(message, deliver, self._options.hostname)
        if plan.batches:
            self._collect(Run(seq, began, message, plan, request))
            return
        if plan.beside:
            self._begin_beside(Run(seq, began, message, plan, request))
            return
        self._announce(seq, began, message.timelimit, plan.options, early=plan.early, to_hooks=plan.own_request)
        run = Run(seq, began, message, plan, request)
        token = current.push(plan.task, request)
        try:
            if not (plan.deduplicates and self._is_done(run)):
                self._begin(run, alone=True)
                self._run_body(run)
        finally:
            current.pop(token)
            self._link.page.finished()

    def _give_up(self, run: Run, error: BaseException) -> None:
        """Fail a task that has ended too many children, without running it."""
        token = current.push(run.plan.task, run.request)
        try:
            asked = self._endings.given_up(run, error)
            while asked is not None:
                asked = asked.then(self._questions.wait(asked.seq))
        finally:
            current.pop(token)

    def _is_done(self, run: Run) -> bool:
        redelivered = (run.request.delivery_info or {}).get("redelivered")
        return bool(redelivered) and self._duplicates.is_done(run)

    def _begin(self, run: Run, *, alone: bool = False) -> None:
        """The task is accepted.

        Report it to handlers and receivers, in the order of Celery's tracer. ``alone``: its body runs next, in the
        child's main thread, so its end follows.
        """
        if task_hooks.prerun_receivers:
            # An early acknowledgement does not wait for receivers.
            self._link.signal()
            task_hooks.prerun(run)
        plan, message = run.plan, run.message
        if plan.track_started and self._options.stores and not ignored(message, plan):
            self._link.emit(frames.STORE, run.seq, (self._documents.started(message),))
        if alone:
            self._link.signal_start()
        else:
            self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.started_sent")

    def _begin_beside(self, run: Run) -> None:
        """Take a coroutine or a thread's task on, and go on."""
        message, plan = run.message, run.plan
        soft = self._admit(run.seq, message.timelimit, plan.options, early=plan.early, to_hooks=plan.own_request)
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.admitted_sent")
        self._parallel.begin(run, soft, in_thread=plan.in_thread)

    # -- the body ----------------------------------------------------------------------------------------

    def _run_body(self, run: Run) -> None:  # hot: bench drain
        """Run the body and report how it ended."""
        message, plan = run.message, run.plan
        try:
            if plan.before_start is not None:
                plan.before_start(message.id, message.args, message.kwargs)
            result = self._soft.call(run.seq, plan.body, message.args, message.kwargs)
            self._link.page.leave_body()
            if failpoint.ENABLED:
                failpoint.hit("child.body_done")
            store = self._finished(run, result)
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            asked = self._endings.raised(run, error)
        else:
            asked = self._endings.succeeded(run, result, store)
        while asked is not None:
            stored = self._questions.wait(asked.seq)
            if failpoint.ENABLED:
                failpoint.hit("child.outcome_answered")
            asked = asked.then(stored)

    async def _outcome_of(self, run: Run, limited: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]) -> None:
        """Run a coroutine body and report its end; ``limited`` limits its time."""
        if run.batch:
            await self._await_batch(run.batch, limited)
            return
        message, plan = run.message, run.plan
        self._reporter.begin_beside(run.seq, message.id)
        current.push(plan.task, run.request)
        if plan.deduplicates and self._is_done(run):
            return
        self._begin(run)
        try:
            if plan.before_start is not None:
                plan.before_start(message.id, message.args, message.kwargs)
            result = await limited(plan.body(*message.args, **message.kwargs))
            if failpoint.ENABLED:
                failpoint.hit("child.body_done")
            store = self._finished(run, result)
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            asked = self._endings.raised(run, error)
        else:
            asked = self._endings.succeeded(run, result, store)
        while asked is not None:
            asked = asked.then(await self._questions.arrival(asked.seq))

    def _outcome_in_thread(self, run: Run) -> None:
        """Run a body in this thread and report how it ended."""
        if run.batch:
            self._call_batch_in_thread(run.batch)
            return
        self._reporter.begin_beside(run.seq, run.message.id)
        current.push(run.plan.task, run.request)
        if not (run.plan.deduplicates and self._is_done(run)):
            self._begin(run)
            self._run_body(run)

    def _finished(self, run: Run, result: object) -> bytes:
        """The body returned: send what follows, encode what is stored."""
        run.returned = True
        message = run.message
        if message.callbacks or message.chain:
            followups.after_success(self._app, message, result)
        try:
            return self._encoded(run, result)
        except EncodeError:
            # The handle of a call travels in its own form where the serializer cannot carry it.
            if not isinstance(result, Handle):
                raise
            return self._encoded(run, result.as_tuple())

    def _encoded(self, run: Run, result: object) -> bytes:
        message = run.message
        if message.chord is not None:
            run.gave = self._chords.encoded(message, result)
        if self._options.stores and not ignored(message, run.plan):
            return self._documents.success(message, run.request, result)
        return b""
