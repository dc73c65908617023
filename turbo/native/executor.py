"""One message to one outcome: decode, decide, run. The native app's side of the executor's seam.

Runs in a child, called by ``child.loop`` with each claimed record. It reports STARTED before the body; the ways in
which a message can end, each with its DONE record, are ``child.endings``. Whatever a message or a task does ends in
exactly one DONE, unless the process ends. It never talks to a broker and never settles anything itself.
"""

from __future__ import annotations

import faulthandler
import os
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from turbo import current, failpoint, log_format, signals
from turbo.app.tasks.context import Context
from turbo.child import followups
from turbo.child import task_hooks as task_hooks
from turbo.child.acceptance import Acceptance
from turbo.child.chords import Chords
from turbo.child.coroutines import Coroutines
from turbo.child.documents import Documents, ignored
from turbo.child.done import DoneRecords
from turbo.child.duplicates import Duplicates
from turbo.child.endings import Endings, Run
from turbo.child.plan import Plan
from turbo.child.questions import Questions
from turbo.child.refusals import Refusals
from turbo.child.reporting import Reporter
from turbo.exceptions import EncodeError, InvalidTaskError, SerializationError
from turbo.policy import poison
from turbo.policy.admission import Admission, admit
from turbo.policy.settling import Ending, Verb
from turbo.protocol import body as bodies
from turbo.protocol.header_cache import HeaderCache
from turbo.protocol.message import TaskMessage, parse
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.result_meta import Handle
from turbo.protocol.table import TableError
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from turbo.app.base import Turbo
    from turbo.child.main import ExecutorMaker
    from turbo.child.options import ChildOptions
    from turbo.child.time_limits import SoftLimit
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink
    from turbo.spawner.messages import ChildBoot

#: Bodies above this size may take long to decode.
_LARGE = 65_536
#: Seconds that the receivers of a child's last signal may take.
SHUTDOWN_HOOK_TIMEOUT_S = 30.0
#: What they are told as the exit code of a child that another has replaced; Celery's pool processes exit with it.
EXIT_REPLACED = 0x9B
_STDERR = 2


def native(app: Turbo, options: ChildOptions) -> ExecutorMaker:
    """Run the tasks of turbo's own app: what they send and store goes through the ring to the master."""

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
        )
        current.set_publisher(reporter)
        current.set_state_store(reporter.store_state)
        signals.worker_process_init.send(sender=None)
        return NativeExecutor(app, options, link, soft, reporter)

    return make


class NativeExecutor:
    """Runs the tasks of a :class:`turbo.Turbo` app."""

    def __init__(self, app: Turbo, options: ChildOptions, link: ChildLink, soft: SoftLimit, reporter: Reporter) -> None:
        self._app = app
        self._options = options
        self._link = link
        self._soft = soft
        self._reporter = reporter
        self._documents = Documents(options, reporter, os.getpid())
        self._questions = Questions(link)
        self._done = DoneRecords(link, reporter)
        self._chords = Chords(app)
        self._duplicates = Duplicates(app, self._done, self._chords)
        self._refusals = Refusals(link, self._documents, self._done, self._chords, self._questions)
        self._endings = Endings(
            app, options, link, reporter, self._documents, self._questions, self._done, self._chords
        )  # fmt: skip
        self._acceptance = Acceptance(options, link, soft)
        self._coroutines = Coroutines(link, reporter, self._outcome_of, options.async_concurrency)
        self._headers = HeaderCache()
        self._zone = app.timezone
        self._settings = app.task_options()
        self._plans: dict[str, Plan] = {}

    def execute(self, seq: int, payload: bytes) -> None:  # hot: bench drain, trace
        """Handle one TASK record to its DONE."""
        began = monotonic_ns()
        _flags, deliver, header, body = frames.unpack_task(payload)
        properties: Properties | None = None
        try:
            properties, _size = self._headers.decode(header)
            message = parse(properties, self._decode(properties, body), self._zone)
        except (TableError, SerializationError, InvalidTaskError) as error:
            self._reporter.begin(seq)
            self._refusals.unreadable(seq, began, properties, body, error)
            return
        self._reporter.begin(seq, message.id)
        plan = self._plans.get(message.task) or self._plan(message.task)
        if plan is None:
            self._refusals.unknown(seq, began, message)
            return
        doubtful = message.headers is not None and poison.needs_look(message.headers)
        if (message.eta or message.expires or doubtful) and not self._admitted(seq, began, message, plan, deliver):
            return
        request = Context.from_message(message, deliver, self._options.hostname)
        if plan.is_coroutine:
            self._begin_coroutine(Run(seq, began, message, plan, request))
            return
        self._acceptance.announce(seq, began, message.timelimit, plan.options, early=plan.early, tell=plan.own_request)
        run = Run(seq, began, message, plan, request)
        token = current.push(plan.task, request)
        try:
            if not (plan.deduplicates and self._is_done(run)):
                self._begin(run)
                self._run(run)
        finally:
            current.pop(token)
            self._link.page.finished()

    @property
    def has_room(self) -> bool:
        """Whether another record may be claimed now."""
        return self._coroutines.has_room

    def rest(self) -> None:
        """Run coroutines until a record may be there, or sleep."""
        if self._coroutines.busy:
            self._coroutines.serve()
        else:
            self._link.wait()

    def leave(self, *, replaced: bool) -> None:
        """The child ends in order: the coroutines run to their ends, then receivers hear of it.

        A receiver that does not return ends the process after :data:`FAREWELL`: nobody else would, for the master sees
        a child that has nothing left to do and is about to leave.
        """
        self._coroutines.finish()
        if signals.worker_process_shutdown.receivers:
            faulthandler.dump_traceback_later(SHUTDOWN_HOOK_TIMEOUT_S, exit=True, file=_STDERR)
            exit_code = EXIT_REPLACED if replaced else 0
            signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=exit_code)
            faulthandler.cancel_dump_traceback_later()

    # -- before the body ---------------------------------------------------------------------------------

    def _decode(self, properties: Properties, body: bytes) -> object:
        if len(body) > _LARGE or properties.content_type != "application/json" or bodies.is_packed(properties):
            # Decoding may take long, or never end: the outcome of the task before must not wait for it.
            self._link.signal()
        return bodies.decoded(properties, body, self._options.accept_content, self._options.max_body_size)

    def _plan(self, name: str) -> Plan | None:
        task = self._app.registered(name)
        if task is None:
            return None
        options = self._settings.get(name)
        if options is None:
            # Registered since the worker started, by an import within a task.
            self._settings = self._app.task_options()
            options = self._settings[name]
        plan = self._plans[name] = Plan(task, options)
        return plan

    def _admitted(self, seq: int, began: int, message: TaskMessage, plan: Plan, deliver: bytes) -> bool:
        """Check times and deaths; False when the message is answered already."""
        headers = message.headers
        if headers and REJECTED in headers:
            self._done.write(seq, began, Verb.REJECT, Ending.REJECT)
            return False
        if headers and poison.deaths(headers) >= self._options.max_deliveries:
            run = Run(seq, began, message, plan, Context.from_message(message, deliver, self._options.hostname))
            self._give_up(run, poison.exhausted(headers))
            return False
        eta = message.eta
        decision = admit(datetime.now(UTC), eta=eta, expires=message.expires)
        if decision is Admission.RUN:
            return True
        if decision is Admission.HOLD and eta is not None:
            due = int(eta.timestamp() * 1e9)
            self._done.write(seq, began, Verb.HOLD, Ending.IGNORE, due_ns=due)
            return False
        self._refusals.expired(seq, began, message, plan)
        return False

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

    def _begin(self, run: Run) -> None:
        """The task is accepted; tell who wants to know, in the order of Celery's tracer."""
        if task_hooks.prerun_receivers:
            # An early acknowledgement does not wait for receivers.
            self._link.signal()
            task_hooks.prerun(run)
        plan, message = run.plan, run.message
        if plan.track_started and self._options.stores and not ignored(message, plan):
            self._link.emit(frames.STORE, run.seq, (self._documents.started(message),))
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.started_sent")

    def _begin_coroutine(self, run: Run) -> None:
        """Take a task on that runs beside others, and go on."""
        message, plan = run.message, run.plan
        soft = self._acceptance.admit(run.seq, message.timelimit, plan.options, early=plan.early, tell=plan.own_request)
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.admitted_sent")
        self._coroutines.begin(run, soft)

    # -- the body ----------------------------------------------------------------------------------------

    def _run(self, run: Run) -> None:  # hot: bench drain
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
        """Run a body that is a coroutine and report how it ended; ``limited`` puts its soft limit around it."""
        message, plan = run.message, run.plan
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
