"""A message before its body: decoded, its task found, its times looked at. The part that every executor has.

Runs in a child, called by ``child.loop`` with each claimed record. ``native.executor`` and ``adopted.executor`` derive
from it: they run what was taken on, and say how it ended. Whatever a message is, it ends in exactly one DONE, unless
the process ends. It must never run code of a task's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from turbo.exceptions import InvalidTaskError, SerializationError
from turbo.policy import poison
from turbo.policy.admission import Admission, admit
from turbo.policy.settling import Ending, Verb
from turbo.protocol import body as bodies
from turbo.protocol import content
from turbo.protocol.header_cache import HeaderCache
from turbo.protocol.message import TaskMessage, parse
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.table import TableError
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from turbo.child.options import ChildOptions
    from turbo.policy.task_options import TaskOptions
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink

    #: Takes an unpacked body, its content type, its encoding and the content types that are accepted.
    Decoder = Callable[[bytes, str | None, str | None, frozenset[str]], Any]

#: Bodies above this size may take long to decode.
_LARGE: Final = 65_536

#: A task with what does not change from message to message.
P = TypeVar("P")


class Intake(ABC, Generic[P]):
    """Takes messages on, for one child."""

    def __init__(
        self,
        options: ChildOptions,
        link: ChildLink,
        zone: tzinfo,
        registered: Callable[[str], Any],
        task_options: Callable[[], dict[str, TaskOptions]],
        decode: Decoder = content.decode,
    ) -> None:
        """``registered`` finds a task by its name; ``decode`` turns an unpacked body into what it means."""
        self._options = options
        self._link = link
        self._zone = zone
        self._registered = registered
        self._task_options = task_options
        self._settings = task_options()
        self._decode = decode
        self._headers = HeaderCache()
        self._plans: dict[str, P] = {}

    def execute(self, seq: int, payload: bytes) -> None:  # hot: bench drain, trace
        """Handle one TASK record to its DONE."""
        began = monotonic_ns()
        _flags, deliver, header, body = frames.unpack_task(payload)
        properties: Properties | None = None
        options = self._options
        try:
            properties, _size = self._headers.decode(header)
            packed = properties.headers and properties.headers.get("compression") is not None
            if packed or len(body) > _LARGE or properties.content_type != content.JSON:
                # Decoding may take long, or never end: the outcome of the task before must not wait for it.
                self._link.signal()
            large = packed or len(body) > options.max_body_size
            plain = bodies.unpacked(properties, body, options.max_body_size) if large else body
            decoded = self._decode(plain, properties.content_type, properties.content_encoding, options.accept_content)
            message = parse(properties, decoded, self._zone)
        except (TableError, SerializationError, InvalidTaskError) as error:
            self._unreadable(seq, began, properties, body, error)
            return
        plan = self._plans.get(message.task) or self._find(message.task)
        if plan is None:
            self._unknown(seq, began, message)
            return
        doubtful = message.headers is not None and poison.needs_look(message.headers)
        if not (message.eta or message.expires or doubtful) or self._admitted(
            seq, began, message, plan, deliver, properties, decoded
        ):
            self._run(seq, began, message, plan, deliver, properties, decoded)

    # -- what each kind of app does in its own way -------------------------------------------------------

    @abstractmethod
    def _plan(self, task: Any, options: TaskOptions) -> P:
        """Make the plan of a task, at its first message."""

    @abstractmethod
    def _run(
        self, seq: int, began: int, message: TaskMessage, plan: P, deliver: bytes, properties: Properties, decoded: Any
    ) -> None:
        """Run a message that was taken on, and write its DONE. ``began`` is the ``time.monotonic_ns`` of the claim."""

    @abstractmethod
    def _unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        """End a message that cannot be understood."""

    @abstractmethod
    def _unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        """End a message whose task is not registered here."""

    @abstractmethod
    def _expired(self, seq: int, began: int, message: TaskMessage, plan: P) -> None:
        """End a message whose time to run is over."""

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
            # Registered since the worker started, by an import within a task.
            self._settings = self._task_options()
            options = self._settings[name]
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
        """Look at a message's times, and whether it is to be rejected; False when it is answered already."""
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
