"""Makes the task events of monitors: received, started, succeeded, failed and the others.

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

from turbo.exceptions import DecodeError
from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_events import FAILED, REJECTED, RETRIED, REVOKED, SUCCEEDED, types_of_end
from turbo.protocol.header_cache import HeaderCache
from turbo.protocol.table import TableError
from turbo.protocol.tagged_json import loads_untagged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.policy.task_options import TaskOptions

    #: An event without the fields of its worker.
    Event = dict[str, Any]

#: The longest repr of an exception in an event, in characters.
LONGEST_EXCEPTION: Final = 4_000


class TaskEvents:
    """The task events of one worker."""

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
        #: Called with each event that is to be sent.
        self.on_event: Observers[Event] = Observers()
        self._tasks = tasks
        self._failure_documents = failure_documents
        self._clock = clock
        self._headers = HeaderCache()

    def switch(self, on: bool) -> None:
        """Switch events on or off."""
        self.on = on
        self.on_switched(on)

    # -- before the end ----------------------------------------------------------------------------------

    def received(self, delivery: Delivery) -> None:  # hot: bench drain --events
        """The worker accepts a message; called once or more for each."""
        if delivery.event_id is not None:
            return
        headers = self._headers_of(delivery)
        task_id, name = headers.get("id"), headers.get("task")
        options = self._tasks.get(name) if isinstance(name, str) else None
        if options is None or not options.send_events or not isinstance(task_id, str):
            delivery.event_id = ""
            return
        delivery.event_id = task_id
        self.on_event(
            {
                "uuid": task_id,
                "name": headers.get("shadow") or name,
                "args": headers.get("argsrepr") or "",
                "kwargs": headers.get("kwargsrepr") or "",
                "root_id": headers.get("root_id"),
                "parent_id": headers.get("parent_id"),
                "retries": headers.get("retries") or 0,
                "eta": headers.get("eta"),
                "expires": headers.get("expires"),
                "queue": delivery.queue,
                "timestamp": self._clock(),
                "type": "task-received",
            }
        )

    def started(self, delivery: Delivery) -> None:
        """A child has accepted a task."""
        if delivery.event_id is None:
            self.received(delivery)
        if delivery.event_id:
            self.on_event(self._event("task-started", delivery))

    def add(self, delivery: Delivery | None, payload: bytes) -> None:
        """A task sends an event of its own, also while the worker's are off. Raises ValueError for nonsense."""
        try:
            event = loads_untagged(payload)
        except DecodeError as error:
            raise ValueError(f"an event that cannot be read: {error}") from error
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise ValueError("an event without a type")
        if delivery is not None:
            event.setdefault("queue", delivery.queue)
        self.on_event(event)

    # -- the end -----------------------------------------------------------------------------------------

    def ended(
        self, delivery: Delivery, ending: int, verb: Verb, texts: tuple[str, str] = ("", ""), runtime_ns: int = 0
    ) -> None:
        """A task has ended and its message will be settled by ``verb``.

        ``texts``: the result's repr, or the exception's repr and the traceback. ``runtime_ns`` in nanoseconds.
        """
        if ending == Ending.UNKNOWN_TASK:
            self._unknown(delivery)
            return
        if not self._id(delivery) or (ending == Ending.REJECT and delivery.state is not State.STARTED):
            return  # a message that is rejected unstarted has had its events when its task ended
        first, second = texts
        events = []
        for kind in types_of_end(Ending(ending), verb, acked=delivery.acked):
            event = self._event(kind, delivery)
            if kind == SUCCEEDED:
                event.update(result=first, runtime=runtime_ns / 1e9)
            elif kind == REJECTED:
                event["requeue"] = verb is Verb.REQUEUE
            elif kind == REVOKED:
                event.update(terminated=False, signum=None, expired=True)
            else:
                event.update(exception=first, traceback=second)
            events.append(event)
        if ending == Ending.RETRY or verb is Verb.REQUEUE:
            # At once: the next attempt is on its way and may be received before this one is settled.
            for event in events:
                self.on_event(event)
            events = []
        delivery.end_events = events

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
        if self._id(delivery):
            event = self._event(REVOKED, delivery)
            event.update(terminated=signum is not None, signum=signum, expired=expired)
            delivery.end_events = [event]

    def cancelled(self, delivery: Delivery) -> None:
        """A cold shutdown has ended a task."""
        if self._id(delivery):
            delivery.end_events = [self._event("task-cancelled", delivery)]

    def settled(self, delivery: Delivery, verb: Verb) -> None:
        """Send the events of an end: ``verb`` is carried out."""
        events, delivery.end_events = delivery.end_events, ()
        if verb is Verb.REQUEUE and events[0]["type"] in (SUCCEEDED, RETRIED, FAILED) and not delivery.acked:
            # What the task has sent could not be sent: it runs again.
            events = [{**self._event(REJECTED, delivery), "requeue": True}]
        for event in events:
            self.on_event(event)

    # -- inside ------------------------------------------------------------------------------------------

    def _event(self, kind: str, delivery: Delivery) -> Event:
        return {"uuid": delivery.event_id, "queue": delivery.queue, "timestamp": self._clock(), "type": kind}

    def _headers_of(self, delivery: Delivery) -> Mapping[str, Any]:
        """Return the headers as Celery names them; empty if they cannot be read."""
        try:
            headers = self._headers.decode(delivery.header)[0].headers
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

    def _id(self, delivery: Delivery) -> str:
        """Return the task's id in events; empty if the task sends none or is not known here."""
        if delivery.event_id is None:
            message = self._failure_documents.message(delivery)
            options = None if message is None else self._tasks.get(message.task)
            sends = message is not None and options is not None and options.send_events
            delivery.event_id = message.id if message is not None and sends else ""
        return delivery.event_id

    def _unknown(self, delivery: Delivery) -> None:
        """A message names a task that no child knows: as in Celery, the event says so and the traceback is left out."""
        message = self._failure_documents.message(delivery)
        if message is not None:
            event = self._event(FAILED, delivery)
            event.update(uuid=message.id, exception=f"NotRegistered({message.task!r})"[:LONGEST_EXCEPTION])
            delivery.end_events = [event]


def _texts(error: BaseException) -> tuple[str, str]:
    return repr(error)[:LONGEST_EXCEPTION], "".join(traceback.format_exception_only(error))
