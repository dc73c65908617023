"""Decodes a message, finds its task, checks its times and reports its start.

Runs in a child, called by ``child.loop`` with each claimed record. It is the base of ``native.executor`` and
``adopted.executor``, which run the task and report its end. The start of a body is written to the control page, which
the master reads when a limit is due, and as a STARTED record, on which the master acknowledges early and arms limits.
Every message ends in exactly one DONE, unless the process ends. It must never run a task's code, nor report the start
of a body that is not run.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from turbo.exceptions import InvalidTaskError, SerializationError
from turbo.policy import poison, time_limits
from turbo.policy.admission import Admission, admit
from turbo.policy.settling import Ending, Verb
from turbo.protocol import body as bodies
from turbo.protocol import content, tagged_json
from turbo.protocol.header_cache import HeaderCache, parse_alike
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.table import TableError
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo

    from turbo.child.options import ChildOptions
    from turbo.child.time_limits import SoftLimit
    from turbo.policy.task_options import TaskOptions
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink

    #: Takes an unpacked body, its content type, its encoding and the content types that are accepted.
    Decoder = Callable[[bytes, str | None, str | None, frozenset[str]], Any]

logger = logging.getLogger("turbo.worker")

_REGISTERED_LATE: Final = (
    "Task %s was registered after the worker's start: only this child runs it, and without its rate limit. Import its "
    "module at the start (imports, include, -I)"
)
#: Bodies above this size may take long to decode.
_LARGE: Final = 65_536
_NO_LIMITS: Final = (None, None)


class TaskPlan(Protocol):
    """A task with what does not change from message to message."""

    #: They change only with the task's limits.
    options: TaskOptions


P = TypeVar("P", bound=TaskPlan)


class Intake(ABC, Generic[P]):
    """Accepts the messages of one child, or ends those that must not run."""

    def __init__(
        self,
        options: ChildOptions,
        link: ChildLink,
        soft: SoftLimit,
        zone: tzinfo,
        registered: Callable[[str], Any],
        task_options: Callable[[], dict[str, TaskOptions]],
        decode: Decoder = content.decode,
    ) -> None:
        """``registered`` finds a task by its name.

        ``decode`` returns the value of an unpacked body.
        """
        self._options = options
        self._link = link
        self._soft = soft
        self._zone = zone
        self._registered = registered
        self._task_options = task_options
        self._settings = task_options()
        self._decode = decode
        #: Decodes JSON directly, which saves a call per task; None if JSON is not accepted or the app decodes it.
        plain = decode is content.decode and content.JSON in options.accept_content
        self._decode_json = tagged_json.loads if plain else None
        self._headers = HeaderCache()
        self._plans: dict[str, P] = {}
        #: The messages of the BATCH record that is being read; None outside of one.
        self._batch: list[Any] | None = None

    def execute(self, seq: int, payload: bytes) -> None:  # hot: bench drain, trace
        """Handle one TASK record up to its DONE record."""
        began = monotonic_ns()
        flags, deliver, header, body = frames.unpack_task(payload)
        properties: Properties | None = None
        options = self._options
        try:
            properties, _size = self._headers.decode(header)
            packed = properties.headers and properties.headers.get("compression") is not None
            if packed or len(body) > _LARGE or properties.content_type != content.JSON:
                # Decoding may take long or never end: the outcome of the previous task must not wait for it.
                self._link.signal()
            large = packed or len(body) > options.max_body_size
            plain = bodies.unpacked(properties, body, options.max_body_size) if large else body
            if self._decode_json is not None and properties.content_type == content.JSON:
                decoded = self._decode_json(plain)
            else:
                decoded = self._decode(
                    plain, properties.content_type, properties.content_encoding, options.accept_content
                )
            message = parse_alike(properties, decoded, self._zone)
        except (TableError, SerializationError, InvalidTaskError) as error:
            self._unreadable(seq, began, properties, body, error)
            return
        plan = self._plans.get(message.task) or self._find(message.task)
        if plan is None:
            self._unknown(seq, began, message)
            return
        if flags & frames.NEW_LIMITS:
            _set_limits(plan, *frames.unpack_limits(payload))
        doubtful = message.headers is not None and poison.needs_look(message.headers)
        if not (message.eta or message.expires or doubtful) or self._admitted(
            seq, began, message, plan, deliver, properties, decoded
        ):
            self._run(seq, began, message, plan, deliver, properties, decoded)

    def execute_batch(self, seq: int, payload: bytes) -> None:
        """Handle a BATCH record as many TASK records, but run what may run together."""
        batch = self._batch = []
        for number, part in enumerate(frames.unpack_batch(payload), seq):
            self.execute(number, part)
        self._batch = None
        if batch:
            self._run_batch(batch)

    def _collect(self, run: Any) -> None:
        """Take a message of a task with batches: to the others of its record, or alone."""
        if self._batch is None:
            self._run_batch([run])
        else:
            self._batch.append(run)

    # -- the start of a body, reported

    def _announce(  # hot: bench drain
        self,
        seq: int,
        began: int,
        timelimit: Sequence[float | None] | None,
        limits: TaskOptions,
        *,
        early: bool,
        to_hooks: bool = False,
    ) -> None:
        """Write the control page and the STARTED record; the caller signals.

        ``timelimit`` is the message's [hard, soft] in seconds, ``began`` the ``time.monotonic_ns`` of the claim.
        ``early``: the message is acknowledged now. ``to_hooks``: the master passes the record to its outcome hooks.
        """
        options = self._options
        hard_given, soft_given = timelimit or _NO_LIMITS
        if (
            hard_given
            or soft_given
            or limits.time_limit
            or limits.soft_time_limit
            or options.time_limit
            or options.soft_time_limit
        ):
            hard = time_limits.effective(hard_given, limits.time_limit, options.time_limit)
            soft = time_limits.effective(soft_given, limits.soft_time_limit, options.soft_time_limit)
            now = monotonic_ns()
            soft_ns = now + int(soft * 1e9) if soft else 0
            hard_ns = now + int(hard * 1e9) if hard else 0
            self._soft.install()
            self._link.page.enter_body(seq, soft_ns, hard_ns, now)
            flags = frames.HAS_LIMITS | (frames.EARLY_ACK if early else 0) | (frames.START_FOR_HOOKS if to_hooks else 0)
            started = frames.pack_started(flags, soft_ns, hard_ns, hard or 0.0)
        else:
            self._link.page.enter_body(seq, 0, 0, began)
            started = frames.STARTED_EARLY if early else frames.STARTED_LATE
            if to_hooks:
                started = frames.pack_started(frames.START_FOR_HOOKS | (frames.EARLY_ACK if early else 0), 0, 0, 0.0)
        self._link.emit(frames.STARTED, seq, (started,))

    def _admit(
        self,
        seq: int,
        timelimit: Sequence[float | None] | None,
        limits: TaskOptions,
        *,
        early: bool,
        to_hooks: bool = False,
    ) -> float | None:
        """Write the ADMITTED record of a coroutine; the caller signals.

        Returns its soft limit in seconds, if any. The control page names no coroutine, since several run at once. The
        child raises their soft limits itself. The master enforces the hard limits. While either exists, it also
        measures time in which the worker is stopped.
        """
        options = self._options
        hard_given, soft_given = timelimit or _NO_LIMITS
        hard = time_limits.effective(hard_given, limits.time_limit, options.time_limit)
        soft = time_limits.effective(soft_given, limits.soft_time_limit, options.soft_time_limit)
        flags = (frames.EARLY_ACK if early else 0) | (frames.HAS_LIMITS if hard or soft else 0)
        if to_hooks:
            flags |= frames.START_FOR_HOOKS
        now = monotonic_ns()
        soft_ns = now + int(soft * 1e9) if soft else 0
        hard_ns = now + int(hard * 1e9) if hard else 0
        self._link.emit(frames.ADMITTED, seq, (frames.pack_started(flags, soft_ns, hard_ns, hard or 0.0),))
        return soft or None

    def _join(self, seq: int, *, early: bool, to_hooks: bool = False, flags: int = 0) -> None:
        """Write ADMITTED for a message in the batch of another, whose limits apply."""
        flags |= (frames.EARLY_ACK if early else 0) | (frames.START_FOR_HOOKS if to_hooks else 0)
        self._link.emit(frames.ADMITTED, seq, (frames.pack_started(flags, 0, 0, 0.0),))

    def _tightest(self, messages: Sequence[TaskMessage], limits: TaskOptions) -> list[float | None]:
        """Return the lowest hard and soft limit of these messages, or None.

        They are in seconds.
        """
        options, given = self._options, [message.timelimit or _NO_LIMITS for message in messages]
        hard = [time_limits.effective(each[0], limits.time_limit, options.time_limit) for each in given]
        soft = [time_limits.effective(each[1], limits.soft_time_limit, options.soft_time_limit) for each in given]
        return [min(filter(None, hard), default=None), min(filter(None, soft), default=None)]

    # -- different for each kind of app ------------------------------------------------------------------

    @abstractmethod
    def _plan(self, task: Any, options: TaskOptions) -> P:
        """Make the plan of a task, at its first message."""

    @abstractmethod
    def _run(
        self, seq: int, began: int, message: TaskMessage, plan: P, deliver: bytes, properties: Properties, decoded: Any
    ) -> None:
        """Run the message's task and write its DONE.

        ``began`` is the ``time.monotonic_ns`` of the claim.
        """

    @abstractmethod
    def _run_batch(self, batch: list[Any]) -> None:
        """Run messages of one task together, and write a DONE for each.

        ``_run`` has collected them.
        """

    @abstractmethod
    def _unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        """End a message that cannot be understood."""

    @abstractmethod
    def _unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        """End a message whose task is not registered here."""

    @abstractmethod
    def _expired(self, seq: int, began: int, message: TaskMessage, plan: P) -> None:
        """End a message that has expired."""

    @abstractmethod
    def _answer(self, seq: int, began: int, verb: Verb, ending: Ending, due_ns: int = 0) -> None:
        """End a message by a DONE record alone."""

    # -- inside ------------------------------------------------------------------------------------------

    def _find(self, name: str) -> P | None:
        task = self._registered(name)
        if task is None:
            return None
        options = self._settings.get(name)
        if options is None:
            # Registered since the worker started, by an import within a task. The master knows nothing of it.
            options = self._task_options()[name]
            logger.warning(_REGISTERED_LATE, name)
        plan = self._plans[name] = self._plan(task, options)
        return plan

    def _admitted(
        self,
        seq: int,
        began: int,
        message: TaskMessage,
        plan: P,
        _deliver: bytes,
        _properties: Properties,
        _decoded: Any,
    ) -> bool:
        """Check a message's times and its mark for rejection.

        Return False if its DONE has been written.
        """
        if message.headers and REJECTED in message.headers:
            self._answer(seq, began, Verb.REJECT, Ending.REJECT)
            return False
        eta = message.eta
        decision = admit(datetime.now(UTC), eta=eta, expires=message.expires)
        if decision is Admission.RUN:
            return True
        if decision is Admission.HOLD and eta is not None:
            self._answer(seq, began, Verb.HOLD, Ending.IGNORE, int(eta.timestamp() * 1e9))
            return False
        self._expired(seq, began, message, plan)
        return False


def _set_limits(plan: TaskPlan, hard: float | None, soft: float | None) -> None:
    """Use these limits of a task, in seconds, for this message and all later ones."""
    options = plan.options
    if (options.time_limit, options.soft_time_limit) != (hard, soft):
        plan.options = replace(options, time_limit=hard, soft_time_limit=soft)
