"""Sends a running task's messages, states and end to the master.

Runs in a child; installed in ``turbo.current``, so that ``delay``, ``retry`` and ``update_state`` inside a task go
through the outcome ring to the master instead of a broker connection of the child's own. The master settles the task
only after the broker has confirmed what it published here. ``child.endings`` (tasks that ran) and ``child.refusals``
(messages that did not) report ends: each TASK record gets exactly one DONE record, unless the process ends. It must
never lose a message that ``publish`` has accepted.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol

from turbo import failpoint, states
from turbo.amqp.publish.frames import publish_method
from turbo.current import Publisher
from turbo.protocol import content, result_meta
from turbo.protocol.event import members
from turbo.protocol.faults import to_wire
from turbo.protocol.properties import header_table_span
from turbo.protocol.result_row import ROW_TYPE, pack, row_of
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.app.tasks.context import Context
    from turbo.child.plan import Plan
    from turbo.child.time_limits import SoftLimit
    from turbo.policy.settling import Ending, Verb
    from turbo.protocol.message import TaskMessage
    from turbo.ring.link import ChildLink


class Declaring(Publisher, Protocol):
    """A publisher that can also declare queues."""

    def declare(self, queues: Sequence[Any]) -> None:
        """Declare queues (``amqp.topology.Queue``).

        Raises ``turbo.exceptions.OperationalError``.
        """


class Run:
    """One task being run. ``gave`` is set when a part of a chord has returned."""

    __slots__ = ("batch", "began", "gave", "given_up", "message", "plan", "request", "returned", "seq")

    #: The part's result, encoded for counting.
    gave: bytes

    def __init__(self, seq: int, began: int, message: TaskMessage, plan: Plan, request: Context) -> None:
        self.seq = seq
        #: ``time.monotonic_ns`` of the claim.
        self.began = began
        self.message = message
        self.plan = plan
        self.request = request
        #: The body has returned: an exception raised from here on is not the body's.
        self.returned = False
        #: The runs of its batch, itself included, in the order of their numbers; empty without one.
        self.batch: Sequence[Run] = ()
        #: The task was not started here, because too many children died with its message.
        self.given_up = False

    @property
    def entered(self) -> int:
        """The last sequence number whose body begins with this one's."""
        return self.batch[-1].seq if self.batch else self.seq


class Share:
    """The messages that one running task has sent so far."""

    __slots__ = ("held", "seq", "task_id")

    def __init__(self) -> None:
        #: The task's sequence number; 0 between tasks.
        self.seq = 0
        #: Its id; empty between tasks.
        self.task_id = ""
        #: Messages that it has sent under its own id: its next attempt.
        self.held: list[frames.PublishRequest] = []


#: The share of a task that runs beside others; asyncio tasks that it starts inherit it.
_beside: ContextVar[Share | None] = ContextVar("turbo_share", default=None)


class Reporter:
    """The publisher and state store of a child, and the writer of DONE records."""

    def __init__(
        self,
        link: ChildLink,
        soft: SoftLimit,
        *,
        known_queues: frozenset[str],
        declaring: Callable[[], Declaring],
        result_serializer: str,
        stores: bool,
        result_extended: bool = False,
        result_rows: bool = False,
    ) -> None:
        """``known_queues`` are declared already.

        The first message to any other queue goes through ``declaring``. ``result_rows``: documents are sent as rows
        for a database.
        """
        self._link = link
        self._soft = soft
        self._known = set(known_queues)
        self._declaring = declaring
        self._serializer = result_serializer
        self._stores = stores
        self._extended = result_extended
        self._rows = result_rows
        self._own = Share()
        #: Tasks run as coroutines or in threads, so more than one may be running.
        self.concurrent = False

    @property
    def share(self) -> Share:
        """The share of the running task."""
        if self.concurrent:
            return _beside.get() or self._own
        return self._own

    def begin(self, seq: int, task_id: str = "") -> None:
        """Start the share of a task."""
        share = self.share if self.concurrent else self._own
        share.seq = seq
        share.task_id = task_id

    def begin_beside(self, seq: int, task_id: str) -> None:
        """Start the share of a task that runs beside others; called in its context."""
        self.concurrent = True
        _beside.set(Share())
        self.begin(seq, task_id)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Any] = (),
        mandatory: bool = False,
    ) -> None:
        """Hand one message to the master, which publishes it with a confirm.

        The task's own next attempt waits here until this attempt ends, and in the master until the store has answered
        for this attempt's RETRY. Otherwise the next attempt could run elsewhere and store its result first; RETRY would
        then overwrite it, and a caller that waits for the result would wait for ever.

        Raises ValueError for a name over 255 bytes, in the task, as clients do.
        """
        publish_method(exchange, routing_key, mandatory)
        share = self.share
        self._soft.mask()
        try:
            unknown = [queue for queue in declare if queue.name not in self._known]
            if _is_next_attempt(share.task_id, header):
                if unknown:
                    self._declaring().declare(unknown)
                    self._known.update(queue.name for queue in unknown)
                share.held.append(frames.PublishRequest(exchange, routing_key, header, body, mandatory, True))
                return
            if unknown:
                # This worker has not declared the queue yet: declare it once, over the app's own connection.
                self._declaring().publish(exchange, routing_key, header, body, declare=declare, mandatory=mandatory)
                self._known.update(queue.name for queue in unknown)
                return
            request = frames.PublishRequest(exchange, routing_key, header, body, mandatory)
            self._link.emit(frames.PUBLISH, share.seq, frames.pack_publish(request))
            self._link.signal()
        finally:
            self._soft.unmask()

    def release(self) -> None:
        """Send the task's next attempt, after its RETRY state.

        It is signalled with the next record.
        """
        share = self.share
        for request in share.held:
            self._link.emit(frames.PUBLISH, share.seq, frames.pack_publish(request))
        share.held.clear()

    def done(  # hot: bench drain
        self,
        seq: int,
        began: int,
        verb: Verb,
        ending: Ending,
        *,
        store: bytes = b"",
        due_ns: int = 0,
        payload: bytes = b"",
        texts: bytes = b"",
    ) -> None:
        """Write one DONE record and end the task's share.

        It is signalled with the next claim, or when none is left. ``began`` is the ``time.monotonic_ns`` of the claim;
        ``due_ns`` goes with the verb HOLD. ``payload`` is for the master's outcome hooks, which may call the app and
        override the verb; ``store`` must then be empty. ``texts`` are for the event of the end.
        """
        share = self.share if self.concurrent else self._own
        if share.held:
            self.release()
        flags = frames.FOR_HOOKS if payload else 0
        runtime = monotonic_ns() - began
        done = frames.pack_done(verb, ending, flags, runtime, due_ns, store or payload, texts)
        share.seq = 0
        share.task_id = ""
        self._link.emit(frames.DONE, seq, (done,))
        if failpoint.ENABLED:
            failpoint.hit("child.result_written")

    def send_event(self, event: dict[str, Any]) -> None:
        """Send an event of the running task. Raises EncodeError."""
        parts = frames.pack_event(event["type"], members(event), names_queue="queue" in event)
        self._soft.mask()
        try:
            self._link.emit(frames.EVENT, self.share.seq, parts)
            self._link.signal()
        finally:
            self._soft.unmask()

    def store_state(self, task_id: str, state: str | None, meta: Any, request: Any) -> None:
        """Store a state that the task sets itself (``update_state``)."""
        if not self._stores:
            return
        result = to_wire(meta) if isinstance(meta, BaseException) else result_meta.stored_form(meta, self._serializer)
        extended = None
        if self._extended and request.id is not None:
            queue = (request.delivery_info or {}).get("routing_key")
            extended = result_meta.extended(request, request.hostname, queue)
        document = result_meta.build_meta(
            task_id,
            state or "PENDING",
            result,
            None,
            date_done=datetime.now(UTC).isoformat() if state in states.READY_STATES else None,
            group_id=request.group,
            parent_id=request.parent_id,
            extended=extended,
        )
        self._soft.mask()
        try:
            store = self.request(document, task_id, request.reply_to, request.correlation_id)
            self._link.emit(frames.STORE, self.share.seq, (frames.pack_store(store),))
            self._link.signal()
        finally:
            self._soft.unmask()

    def request(
        self, document: dict[str, Any], task_id: str, reply_to: str | None, correlation_id: str | None
    ) -> frames.StoreRequest:
        """Encode a result document. Raises EncodeError when it cannot be carried."""
        if self._rows:
            payload, content_type, encoding = pack(row_of(document, self._serializer)), ROW_TYPE, "binary"
        else:
            payload, content_type, encoding = content.encode(document, self._serializer)
        guard = document["status"] != "SUCCESS"
        return frames.StoreRequest(
            task_id, payload, guard, reply_to or "", correlation_id or task_id, content_type, encoding
        )


def _is_next_attempt(task_id: str, header: bytes) -> bool:
    """Whether this content header has the running task's id as its correlation id.

    After the table come delivery mode and priority, one byte each if set, and then the correlation id.
    """
    if not task_id:
        return False
    name = task_id.encode("utf-8", "surrogatepass")
    end = header_table_span(header)[1]
    return len(name) < 256 and header.find(bytes([len(name)]) + name, end, end + len(name) + 3) >= 0
