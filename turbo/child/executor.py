"""One message to one outcome: decode, decide, run, encode. The native app's side of the executor's seam.

Runs in a child, called by ``child.loop`` with each claimed record. It reports through the outcome ring: STARTED
before the body, DONE with verb and result after it. Whatever a message or a task does ends in exactly one DONE,
unless the process ends. It never talks to a broker and never settles anything itself.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from turbo import current, states
from turbo.app.context import Context
from turbo.child import followups
from turbo.child.plan import Plan
from turbo.exceptions import (
    EncodeError,
    Ignore,
    InvalidTaskError,
    NotRegistered,
    Reject,
    Retry,
    SerializationError,
    TaskRevokedError,
    TurboError,
)
from turbo.policy import poison, time_limits
from turbo.policy.admission import Admission, admit
from turbo.policy.settling import Ending, Verb, settle
from turbo.protocol import compression, content, result_meta
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.faults import to_wire
from turbo.protocol.header_cache import HeaderCache
from turbo.protocol.message import TaskMessage, parse, parse_headers
from turbo.protocol.saferepr import saferepr
from turbo.protocol.table import TableError
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.protocol.properties import Properties
    from turbo.app.base import Turbo
    from turbo.child.options import ChildOptions
    from turbo.child.reporting import Reporter
    from turbo.child.time_limits import SoftLimit
    from turbo.ring.link import ChildLink

logger = logging.getLogger("celery.app.trace")

#: Exit code of a child that a task left by ``sys.exit`` without a number of its own.
_EXIT_BY_TASK = 70
_NO_LIMITS = (None, None)


class NativeExecutor:
    """Runs the tasks of a :class:`turbo.Turbo` app."""

    def __init__(
        self, app: Turbo, options: ChildOptions, link: ChildLink, soft: SoftLimit, reporter: Reporter
    ) -> None:
        self._app = app
        self._options = options
        self._link = link
        self._soft = soft
        self._reporter = reporter
        self._pid = os.getpid()
        self._headers = HeaderCache()
        self._zone = app.timezone
        self._settings = app.task_options()
        self._plans: dict[str, Plan] = {}

    def execute(self, seq: int, payload: bytes) -> None:  # hot: bench drain, trace
        """Handle one TASK record to its DONE."""
        began = monotonic_ns()
        _flags, deliver, header, body = frames.unpack_task(payload)
        self._reporter.begin(seq)
        properties: Properties | None = None
        try:
            properties, _size = self._headers.decode(header)
            message = parse(properties, self._decode(properties, body), self._zone)
        except (TableError, SerializationError, InvalidTaskError) as error:
            self._refuse(seq, began, properties, body, error)
            return
        plan = self._plans.get(message.task) or self._plan(message.task)
        if plan is None:
            self._unknown(seq, began, message)
            return
        poisonous = message.headers is not None and poison.DELIVERIES in message.headers
        if (message.eta or message.expires or poisonous) and not self._admitted(seq, began, message, plan):
            return
        if message.callbacks or message.errbacks or message.chain or message.chord is not None:
            what = followups.unsupported(message)
            if what is not None:
                self._fail_unrun(seq, began, message, NotImplementedError(f"{plan.name} was not run: {what}"))
                return
        self._start(seq, began, message, plan)
        request = Context.from_message(message, *_origin(deliver), self._options.hostname)
        token = current.push(plan.task, request)
        try:
            self._run(seq, began, message, plan, request)
        finally:
            current.pop(token)
            self._link.page.finished()
        if self._link.detached:
            # A body forked and came back in the grandchild as well; only one process may go on with the rings.
            os._exit(0)

    # -- before the body ---------------------------------------------------------------------------------

    def _decode(self, properties: Properties, body: bytes) -> object:
        headers = properties.headers
        packing = headers.get("compression") if headers else None
        if packing is not None or len(body) > 65_536 or properties.content_type != "application/json":
            # Decoding may take long, or never end: the outcome of the task before must not wait for it.
            self._link.signal()
        if len(body) > self._options.max_body_size:
            raise InvalidTaskError(f"body has {len(body)} bytes, more than {self._options.max_body_size}")
        if packing is not None:
            body = compression.decompress(body, str(packing), self._options.max_body_size)
        return content.decode(
            body, properties.content_type, properties.content_encoding, self._options.accept_content
        )

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

    def _admitted(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> bool:
        """Check times and deaths; False when the message is answered already."""
        headers = message.headers
        if headers and poison.deaths(headers) >= self._options.max_deliveries:
            self._fail_unrun(seq, began, message, poison.exhausted(headers))
            return False
        eta = message.eta
        decision = admit(datetime.now(UTC), eta=eta, expires=message.expires)
        if decision is Admission.RUN:
            return True
        if decision is Admission.HOLD and eta is not None:
            due = int(eta.timestamp() * 1e9)
            self._done(seq, began, Verb.HOLD, Ending.IGNORE, due_ns=due)
            return False
        logger.info("Discarding expired task: %s[%s]", plan.name, message.id)
        store = self._failure_document(message, plan, states.REVOKED, TaskRevokedError("expired"), None)
        self._done(seq, began, Verb.ACK, Ending.REVOKED, store=store)
        return False

    def _start(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> None:
        """Say that the task is accepted, with its limits."""
        options = self._options
        hard_given, soft_given = message.timelimit or _NO_LIMITS
        limits = plan.options
        if hard_given or soft_given or limits.time_limit or limits.soft_time_limit or options.time_limit or (
            options.soft_time_limit
        ):
            hard = time_limits.effective(hard_given, limits.time_limit, options.time_limit)
            soft = time_limits.effective(soft_given, limits.soft_time_limit, options.soft_time_limit)
            now = monotonic_ns()
            soft_ns = now + int(soft * 1e9) if soft else 0
            hard_ns = now + int(hard * 1e9) if hard else 0
            self._soft.install()
            self._link.page.enter_body(seq, soft_ns, hard_ns, now)
            flags = frames.HAS_LIMITS | (frames.EARLY_ACK if plan.early else 0)
            started = frames.pack_started(flags, soft_ns, hard_ns, hard or 0.0)
        else:
            self._link.page.enter_body(seq, 0, 0, began)
            started = frames.STARTED_EARLY if plan.early else frames.STARTED_LATE
        self._link.emit(frames.STARTED, seq, (started,))
        if plan.track_started and not self._ignored(message, plan):
            document = result_meta.build_meta(
                message.id,
                states.STARTED,
                {"pid": self._pid, "hostname": options.hostname},
                None,
                group_id=message.group,
                parent_id=message.parent_id,
            )
            store = self._reporter.request(document, message.id, message.reply_to, message.correlation_id)
            self._link.emit(frames.STORE, seq, (frames.pack_store(store),))
        self._link.signal()

    # -- the body and its end ----------------------------------------------------------------------------

    def _run(  # hot: bench drain
        self, seq: int, began: int, message: TaskMessage, plan: Plan, request: Context
    ) -> None:
        """Run the body and report how it ended."""
        args, kwargs = message.args, message.kwargs
        try:
            if plan.before_start is not None:
                plan.before_start(message.id, args, kwargs)
            result = self._soft.call(seq, plan.body, args, kwargs)
            self._link.page.leave_body()
            if message.callbacks or message.chain:
                followups.after_success(self._app, message, result)
            store = b""
            if self._options.stores and not self._ignored(message, plan):
                store = frames.pack_store(self._success(message, request, result))
        except Retry as retry:
            self._retried(seq, began, message, plan, retry)
        except Ignore:
            logger.info("Task %s[%s] ignored", plan.name, message.id)
            self._end(seq, began, plan, Ending.IGNORE)
        except Reject as reject:
            self._rejected(seq, began, message, plan, reject)
        except (SystemExit, KeyboardInterrupt, MemoryError) as error:
            self._leave(error, plan, message)
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            self._failed(seq, began, message, plan, request, error)
        else:
            self._end(seq, began, plan, Ending.SUCCESS, store=store)
            if self._options.verbose:
                logger.info(
                    "Task %s[%s] succeeded in %ss: %s",
                    plan.name,
                    message.id,
                    (monotonic_ns() - began) / 1e9,
                    saferepr(result, plan.task.resultrepr_maxsize),
                )
            if plan.on_success is not None:
                self._handler(plan.on_success, result, message.id, args, kwargs)
            if plan.after_return is not None:
                self._handler(plan.after_return, states.SUCCESS, result, message.id, args, kwargs, None)

    def _success(self, message: TaskMessage, request: Context, result: object) -> frames.StoreRequest:
        """Encode the result. Raises EncodeError, which makes the task a failure."""
        now = datetime.now(UTC).isoformat()
        options = self._options
        if options.result_serializer == "json" and not options.result_extended and not request.has_children:
            payload = result_meta.encode_meta(
                result_meta.build_meta(
                    message.id,
                    states.SUCCESS,
                    result,
                    None,
                    date_done=now,
                    group_id=message.group,
                    parent_id=message.parent_id,
                )
            )
            return frames.StoreRequest(
                message.id,
                payload,
                False,
                message.reply_to or "",
                message.correlation_id or message.id,
                "application/json",
                "utf-8",
            )
        document = self._document(message, states.SUCCESS, result, None, request)
        return self._reporter.request(document, message.id, message.reply_to, message.correlation_id)

    def _document(
        self, message: TaskMessage, state: str, result: object, trace: str | None, request: Context | None
    ) -> dict[str, Any]:
        extended: dict[str, object] | None = None
        if self._options.result_extended:
            extended = {
                "name": message.task,
                "args": message.args,
                "kwargs": message.kwargs,
                "worker": self._options.hostname,
                "retries": message.retries,
                "queue": (request.delivery_info or {}).get("routing_key") if request is not None else None,
            }
        children = [child.as_tuple() for child in request.children] if request is not None else []
        return result_meta.build_meta(
            message.id,
            state,
            result,
            trace,
            children=children,
            date_done=datetime.now(UTC).isoformat(),
            group_id=message.group,
            parent_id=message.parent_id,
            extended=extended,
        )

    def _failed(
        self, seq: int, began: int, message: TaskMessage, plan: Plan, request: Context, error: BaseException
    ) -> None:
        self._link.page.leave_body()
        trace = _trace_of(error)
        if isinstance(error, plan.throws) and plan.throws:
            logger.info("Task %s[%s] raised expected: %r", plan.name, message.id, error)
        else:
            logger.error("Task %s[%s] raised unexpected: %r\n%s", plan.name, message.id, error, trace)
        try:
            followups.after_failure(self._app, message)
        except (TurboError, TypeError, ValueError) as failure:
            logger.exception("Error callbacks of %s[%s] could not be sent: %s", plan.name, message.id, failure)
        store = self._failure_document(message, plan, states.FAILURE, error, trace, request)
        self._end(seq, began, plan, Ending.FAILURE, store=store)
        if plan.on_failure is not None:
            self._handler(plan.on_failure, error, message.id, message.args, message.kwargs, trace)
        if plan.after_return is not None:
            self._handler(
                plan.after_return, states.FAILURE, error, message.id, message.args, message.kwargs, None
            )
        traceback.clear_frames(error.__traceback__)

    def _failure_document(
        self,
        message: TaskMessage,
        plan: Plan | None,
        state: str,
        error: BaseException | None,
        trace: str | None,
        request: Context | None = None,
    ) -> bytes:
        """Encode the document of a state that carries an exception; empty when nothing is to be stored."""
        if not self._options.stores:
            return b""
        if plan is not None and self._ignored(message, plan) and not plan.keep_errors:
            return b""
        result = to_wire(error) if error is not None else None
        document = self._document(message, state, result, trace, request)
        try:
            store = self._reporter.request(document, message.id, message.reply_to, message.correlation_id)
        except EncodeError as failure:
            # Only ``result_extended`` can bring in a value that does not encode: the error itself must get through.
            logger.warning("Document of %s[%s] is stored without its arguments: %s", message.task, message.id, failure)
            document.update(args=saferepr(message.args), kwargs=saferepr(message.kwargs))
            store = self._reporter.request(document, message.id, message.reply_to, message.correlation_id)
        return frames.pack_store(store)

    def _retried(self, seq: int, began: int, message: TaskMessage, plan: Plan, retry: Retry) -> None:
        self._link.page.leave_body()
        logger.info("Task %s[%s] retry: %s", plan.name, message.id, retry)
        store = self._failure_document(message, plan, states.RETRY, retry.exc, _trace_of(retry))
        self._end(seq, began, plan, Ending.RETRY, store=store)
        if plan.on_retry is not None:
            self._handler(plan.on_retry, retry.exc, message.id, message.args, message.kwargs, _trace_of(retry))

    def _rejected(self, seq: int, began: int, message: TaskMessage, plan: Plan, reject: Reject) -> None:
        self._link.page.leave_body()
        logger.warning("Task %s[%s] rejected: %r", plan.name, message.id, reject)
        if reject.requeue:
            self._end(seq, began, plan, Ending.REJECT_REQUEUE)
            return
        cause = reject.reason if isinstance(reject.reason, BaseException) else reject
        store = self._failure_document(message, plan, states.FAILURE, cause, None)
        self._end(seq, began, plan, Ending.REJECT, store=store)

    def _leave(self, error: BaseException, plan: Plan, message: TaskMessage) -> None:
        """A body asked the process to end, or ran out of memory: the master sees a lost child, as it should."""
        logger.error("Task %s[%s] ended its child: %r", plan.name, message.id, error)
        code = error.code if isinstance(error, SystemExit) else _EXIT_BY_TASK
        self._link.signal()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else _EXIT_BY_TASK)

    def _handler(self, handler: Any, *args: Any) -> None:
        """Call a user's handler; its errors are logged, since the task's outcome is known by now."""
        try:
            handler(*args)
        except Exception:
            logger.exception("Handler %s raised", getattr(handler, "__qualname__", handler))

    # -- messages that do not run ------------------------------------------------------------------------

    def _unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        logger.error("Received unregistered task of type %r: its message is rejected", message.task)
        store = self._failure_document(message, None, states.FAILURE, NotRegistered(message.task), None)
        self._done(seq, began, Verb.REJECT, Ending.UNKNOWN_TASK, store=store)

    def _fail_unrun(self, seq: int, began: int, message: TaskMessage, error: BaseException) -> None:
        logger.error("Task %s[%s] is rejected: %s", message.task, message.id, error)
        store = self._failure_document(message, None, states.FAILURE, error, None)
        self._done(seq, began, Verb.REJECT, Ending.INVALID, store=store)

    def _refuse(
        self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception
    ) -> None:
        """A message that cannot be understood: reject it, and store FAILURE where its id is known."""
        store = b""
        where = ""
        if properties is not None:
            try:
                message = parse_headers(properties, body)
            except (InvalidTaskError, SerializationError):
                where = f" ({saferepr((properties.headers or {}).get('id'), 100)})"
            else:
                where = f" {message.task}[{message.id}]"
                store = self._failure_document(message, None, states.FAILURE, error, None)
        logger.critical("Message%s is rejected, it cannot be decoded: %s", where, saferepr(str(error), 400))
        self._done(seq, began, Verb.REJECT, Ending.UNDECODABLE, store=store)

    # -- reporting ---------------------------------------------------------------------------------------

    def _ignored(self, message: TaskMessage, plan: Plan) -> bool:
        return plan.ignore_result if message.ignore_result is None else message.ignore_result

    def _end(self, seq: int, began: int, plan: Plan, ending: Ending, store: bytes = b"") -> None:
        """Settle a task that ran, by the ack table."""
        options = plan.options
        verb = settle(
            ending,
            acks_late=options.acks_late,
            acks_on_failure=options.acks_on_failure,
            acks_on_timeout=options.acks_on_timeout,
            reject_on_worker_lost=options.reject_on_worker_lost,
        )
        self._done(seq, began, verb, ending, store=store)

    def _done(
        self, seq: int, began: int, verb: Verb, ending: Ending, *, store: bytes = b"", due_ns: int = 0
    ) -> None:
        """Write the DONE record. It is signalled with the next claim, or when there is none."""
        payload = frames.pack_done(
            verb, ending, 0, self._reporter.published, monotonic_ns() - began, due_ns, store
        )
        self._reporter.begin(0)
        self._link.emit(frames.DONE, seq, (payload,))


def _origin(deliver: bytes) -> tuple[str, str, bool]:
    """Exchange, routing key and redelivered flag of a delivery."""
    try:
        found = parse_deliver(deliver)
    except TableError:
        return "", "", False
    return found.exchange, found.routing_key, found.redelivered


def _trace_of(error: BaseException) -> str:
    """The traceback's text, without the frames of this package above the body."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_globals.get("__package__") == "turbo.child":
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))
