"""Makes the task events of monitors: received, started, succeeded, ….

Runs in the master, and does something only while task events are on. Before it: ``master.delivery.intake`` (received),
``master.outcome.outcomes`` (started, ended), ``master.children.dead_child`` and whoever else ends a task. After it:
``control.event_sender``, which adds the worker's fields and sends batches. The events of an end are kept with the
delivery and sent when it is settled: the result can be read by then, and a later failure replaces them. The order of a
task's events is received, started, ended, also if events were switched on meanwhile. It must never decode a body,
except of the old message protocol, nor change what becomes of a message.
"""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_events import FAILED, REJECTED, RETRIED, REVOKED, SUCCEEDED, types_of_end
from turbo.protocol.event import members, quoted
from turbo.protocol.peek import plain_texts
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError
from turbo.ring.frames import NO_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.policy.task_options import TaskOptions

#: The longest repr of an exception in an event, in characters.
LONGEST_EXCEPTION: Final = 4_000
#: Seconds for which the time in events stays the same: to write a number takes longer than the rest of an event.
_INSTANT: Final = 0.001
#: A plain number: comparing with the enum's member takes longer.
_SUCCESS: Final = Ending.SUCCESS.value


class TaskEvents:
    """The task events of one worker.

    An event is its type and the members of its JSON object, without those that all events of the worker share.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskOptions],
        failure_documents: FailureDocuments,
        *,
        on: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives seconds since 1970."""
        #: Whether events are made. Callers test it before they call, because nothing else may cost anything.
        self.on = on
        #: Called when events are switched on or off.
        self.on_switched: Observers[bool] = Observers()
        #: Called with the type and the members of each event that is to be sent.
        self.on_event: Observers[str, bytes] = Observers()
        self._senders: set[str] = set()
        self._raw_senders: set[bytes] = set()
        self.set_senders(tasks)
        self._failure_documents = failure_documents
        self._clock = clock
        #: The time of the newest event, and that as JSON.
        self._time = 0.0
        self._written_time = b"0.0"
        #: The names of the queues, as JSON.
        self._queues: dict[str, bytes] = {}

    def set_senders(self, tasks: Mapping[str, TaskOptions]) -> None:
        """Make events of those of ``tasks`` whose options ask for them."""
        self._senders = {name for name, options in tasks.items() if options.send_events}
        self._raw_senders = {name.encode("utf-8", "surrogatepass") for name in self._senders}

    def switch(self, on: bool) -> None:
        """Switch events on or off."""
        self.on = on
        self.on_switched(on)

    # -- before the end ----------------------------------------------------------------------------------

    def received(self, delivery: Delivery) -> None:  # hot: bench drain --events
        """The worker accepts a message; called once or more for each."""
        if delivery.event_head is not None:
            return
        texts = plain_texts(delivery.header)
        if texts is None:
            self._received_otherwise(delivery)
            return
        name, task_id, root, parent, args, kwargs = texts
        if name not in self._raw_senders:
            delivery.event_head = b""
            return
        head = delivery.event_head = b'"uuid":"%b","queue":%b,' % (task_id, self._quoted_queue(delivery.queue))
        event = (
            b'%b"name":"%b","args":"%b","kwargs":"%b","root_id":"%b","parent_id":%b,"retries":0,"eta":null,'
            b'"expires":null,"timestamp":%b,"type":"task-received"'
        ) % (head, name, args, kwargs, root, b"null" if parent is None else b'"%b"' % parent, self._now())
        self.on_event("task-received", event)

    def started(self, delivery: Delivery) -> None:  # hot: bench drain --events
        """A child has accepted a task."""
        if delivery.event_head is None:
            self.received(delivery)
        if delivery.event_head:
            event = b'%b"timestamp":%b,"type":"task-started"' % (delivery.event_head, self._now())
            self.on_event("task-started", event)

    def add(self, delivery: Delivery | None, kind: str, event: bytes, names_queue: bool) -> None:
        """A task sends an event of its own, also while the worker's are off."""
        if delivery is not None and not names_queue:
            event += b',"queue":%b' % self._quoted_queue(delivery.queue)
        self.on_event(kind, event)

    # -- the end -----------------------------------------------------------------------------------------

    def ended(  # hot: bench drain --events
        self, delivery: Delivery, ending: int, verb: Verb, texts: tuple[bytes, bytes] = NO_TEXTS, runtime_ns: int = 0
    ) -> None:
        """A task has ended and its message will be settled by ``verb``.

        ``texts``: as JSON, the result's repr, or the exception's repr and the traceback. ``runtime_ns`` in nanoseconds.
        """
        head = delivery.event_head
        if head is None:
            head = self._head(delivery)
        if ending == _SUCCESS:
            if head:
                event = b'%b"result":%b,"runtime":%d.%09d,"timestamp":%b,"type":"task-succeeded"' % (
                    head, texts[0], *divmod(runtime_ns, 1_000_000_000), self._now(),
                )  # fmt: skip
                delivery.end_events = ((SUCCEEDED, event),)
        elif ending == Ending.UNKNOWN_TASK:
            self._unknown(delivery)
        elif head and not (ending == Ending.REJECT and delivery.state is not State.STARTED):
            # A message that is rejected unstarted has had its events when its task ended.
            self._ended_otherwise(delivery, Ending(ending), verb, texts)

    def lost(self, delivery: Delivery, ending: Ending, verb: Verb, error: BaseException) -> None:
        """A task has failed with its child, or its outcome could not be carried out."""
        self.ended(delivery, ending, verb, _texts(error))

    def retried(self, delivery: Delivery, error: BaseException) -> None:
        """A task was lost with its child, and its next attempt is sent."""
        self.ended(delivery, Ending.RETRY, Verb.ACK, _texts(error))

    def stored(self, delivery: Delivery) -> None:
        """A task's child has died when its outcome was stored and not reported."""
        facts = delivery.facts
        ending = Ending.RETRY if facts.retried else Ending.FAILURE if facts.failed else Ending.SUCCESS
        self.ended(delivery, ending, Verb.ACK)

    def revoked(self, delivery: Delivery, *, signum: int | None = None, expired: bool = False) -> None:
        """A task must not run, or was terminated by ``signum``."""
        if self._head(delivery):
            event = self._event(REVOKED, delivery, terminated=signum is not None, signum=signum, expired=expired)
            delivery.end_events = [event]

    def cancelled(self, delivery: Delivery) -> None:
        """A cold shutdown has ended a task."""
        if self._head(delivery):
            delivery.end_events = [self._event("task-cancelled", delivery)]

    def settled(self, delivery: Delivery, verb: Verb) -> None:
        """Send the events of an end: ``verb`` is carried out."""
        events, delivery.end_events = delivery.end_events, ()
        if verb is Verb.REQUEUE and events[0][0] in (SUCCEEDED, RETRIED, FAILED) and not delivery.acked:
            # What the task has sent could not be sent: it runs again.
            events = [self._event(REJECTED, delivery, requeue=True)]
        for kind, event in events:
            self.on_event(kind, event)

    # -- inside ------------------------------------------------------------------------------------------

    def _now(self) -> bytes:
        """Return the time as JSON, which is that of the event before if that is new."""
        now = self._clock()
        if not 0.0 <= now - self._time < _INSTANT:
            self._time, self._written_time = now, b"%r" % now
        return self._written_time

    def _event(self, kind: str, delivery: Delivery, **fields: Any) -> tuple[str, bytes]:
        self._now()
        return kind, (delivery.event_head or b"") + members({**fields, "timestamp": self._time, "type": kind})

    def _received_otherwise(self, delivery: Delivery) -> None:
        """Read the headers of a message that is less plain."""
        headers = self._headers_of(delivery)
        task_id, name = headers.get("id"), headers.get("task")
        if name not in self._senders or not isinstance(task_id, str):
            delivery.event_head = b""
            return
        delivery.event_head = self._head_of(delivery, task_id)
        event = self._event(
            "task-received",
            delivery,
            name=headers.get("shadow") or name,
            args=headers.get("argsrepr") or "",
            kwargs=headers.get("kwargsrepr") or "",
            root_id=headers.get("root_id"),
            parent_id=headers.get("parent_id"),
            retries=headers.get("retries") or 0,
            eta=headers.get("eta"),
            expires=headers.get("expires"),
        )
        self.on_event(*event)

    def _ended_otherwise(self, delivery: Delivery, ending: Ending, verb: Verb, texts: tuple[bytes, bytes]) -> None:
        """Make the events of an end without success."""
        events = []
        for kind in types_of_end(ending, verb, acked=delivery.acked):
            if kind == REJECTED:
                events.append(self._event(kind, delivery, requeue=verb is Verb.REQUEUE))
            elif kind == REVOKED:
                events.append(self._event(kind, delivery, terminated=False, signum=None, expired=True))
            else:
                _kind, event = self._event(kind, delivery)
                events.append((kind, b'"exception":%b,"traceback":%b,%b' % (*texts, event)))
        if ending == Ending.RETRY or verb is Verb.REQUEUE:
            # At once: the next attempt is on its way and may be received before this one is settled.
            for told in events:
                self.on_event(*told)
            events = []
        delivery.end_events = events

    def _headers_of(self, delivery: Delivery) -> Mapping[str, Any]:
        """Return the headers as Celery names them; empty if they cannot be read."""
        try:
            headers = decode_header(delivery.header)[0].headers
            if headers is not None and "task" in headers and "id" in headers:
                return headers
        except TableError:
            return {}
        message = self._failure_documents.message(delivery)
        if message is None:
            return {}
        return {
            "id": message.id, "task": message.task, "retries": message.retries, "root_id": message.root_id,
            "argsrepr": message.argsrepr, "kwargsrepr": message.kwargsrepr,
            "eta": message.eta and message.eta.isoformat(), "expires": message.expires and message.expires.isoformat(),
        }  # fmt: skip

    def _head(self, delivery: Delivery) -> bytes:
        """Return what the events of a delivery have in common.

        Empty if its task sends none or is not known here.
        """
        if delivery.event_head is None:
            message = self._failure_documents.message(delivery)
            sends = message is not None and message.task in self._senders
            delivery.event_head = self._head_of(delivery, message.id) if message is not None and sends else b""
        return delivery.event_head

    def _head_of(self, delivery: Delivery, task_id: str) -> bytes:
        return b'"uuid":%b,"queue":%b,' % (quoted(task_id), self._quoted_queue(delivery.queue))

    def _quoted_queue(self, name: str) -> bytes:
        found = self._queues.get(name)
        if found is None:
            found = self._queues[name] = quoted(name)
        return found

    def _unknown(self, delivery: Delivery) -> None:
        """A message names a task that no child knows: as in Celery, no traceback.

        The event says so.
        """
        message = self._failure_documents.message(delivery)
        if message is not None:
            delivery.event_head = self._head_of(delivery, message.id)
            why = f"NotRegistered({message.task!r})"[:LONGEST_EXCEPTION]
            delivery.end_events = [self._event(FAILED, delivery, exception=why)]


def _texts(error: BaseException) -> tuple[bytes, bytes]:
    return quoted(repr(error)[:LONGEST_EXCEPTION]), quoted("".join(traceback.format_exception_only(error)))
