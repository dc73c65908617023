"""Sends task events to monitors, many in one message.

Runs in the master, for ``control.service``. Before it: ``master.outcome.task_events``, with each event. After it:
``amqp.mailbox``. While the broker is away or slow, events wait here, up to a bound; then the oldest are dropped, which
is counted and logged once an outage. A type of the app's own travels alone, under its own routing key, as Celery sends
it. It must never delay a task, and never send events in another order than they were made.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from turbo.control.events import hours_west
from turbo.exceptions import DecodeError, EncodeError
from turbo.policy.task_events import RETRIED
from turbo.protocol.event import BATCH_KEY, packed_message, quoted, routing_key

if TYPE_CHECKING:
    import asyncio

    from turbo.amqp.mailbox import Mailbox
    from turbo.control.options import ControlOptions
    from turbo.master.outcome.task_events import TaskEvents
    from turbo.protocol.clock import LogicalClock

logger = logging.getLogger("turbo.control.events")

#: The types that travel in batches: Celery's own.
_BATCHED: Final = frozenset(
    f"task-{name}"
    for name in (
        "sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled",
    )
)  # fmt: skip
#: Seconds that an event waits for others to travel with.
_DELAY: Final = 0.02
#: The most events in one message.
_BATCH: Final = 250
#: The most events that wait for the broker.
LIMIT: Final = 20_000
#: Seconds between attempts to send while the broker is away.
_RETRY: Final = 0.5


class EventSender:
    """The task events that wait to be sent."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        options: ControlOptions,
        clock: LogicalClock,
        events: TaskEvents,
        *,
        hostname: str,
        limit: int = LIMIT,
    ) -> None:
        """``limit``: the most events that may wait."""
        self._loop = loop
        self._mailbox = mailbox
        self._options = options
        self._clock = clock
        self._hostname = hostname
        self._limit = limit
        self._pid = os.getpid()
        self._named = quoted(hostname)
        #: Type and members of each event.
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        #: Starts a mailbox that nothing else needs; does nothing once it is started.
        self._starting: asyncio.Task[None] | None = None
        #: Number of events that were dropped since the last that were sent.
        self._dropped_now = 0
        #: Number of events that were dropped.
        self.dropped = 0
        events.on_event.add(self._add)

    def flush(self) -> None:
        """Send what waits, as far as the broker takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if not self._mailbox.can_send:
                self._starting = self._loop.create_task(self._mailbox.start(), name="mailbox-start")
                self._timer = self._loop.call_later(_RETRY, self.flush)
                return
            self._send_some()
        if self._dropped_now:
            logger.warning("Task events are sent again; %d were dropped", self._dropped_now)
            self._dropped_now = 0

    # -- inside ------------------------------------------------------------------------------------------

    def _add(self, kind: str, members: bytes) -> None:  # hot: bench drain --events
        waiting = self._waiting
        waiting.append((kind, members))
        if self._timer is None:
            self._timer = self._loop.call_later(_DELAY, self.flush)
        # A monitor that hears of a retry after the next attempt, which another worker may run at once, shows a retry.
        if len(waiting) >= _BATCH or kind == RETRIED:
            if self._mailbox.can_send:
                self.flush()
            elif len(waiting) > self._limit:
                waiting.popleft()
                self._drop(1)

    def _drop(self, count: int) -> None:
        if not self._dropped_now:
            logger.warning(
                "Task events are dropped: %d wait because the broker does not take them; the oldest go first",
                self._limit,
            )
        self._dropped_now += count
        self.dropped += count

    def _send_some(self) -> None:  # hot: bench drain --events
        """Send the oldest events: a batch of Celery's types, or one of another type."""
        waiting = self._waiting
        kind = waiting[0][0]
        alone = kind not in _BATCHED
        common = b'{"hostname":%b,"utcoffset":%r,' % (self._named, hours_west())
        ours = b'%b"pid":%d,' % (common, self._pid)
        taken = [waiting.popleft()[1]]
        while not alone and waiting and len(taken) < _BATCH and waiting[0][0] in _BATCHED:
            taken.append(waiting.popleft()[1])
        # A task's own event has the pid of its child.
        events = [
            b'%b"clock":%d,%b}' % (common if members.startswith(b'"pid":') else ours, clock, members)
            for clock, members in enumerate(taken, self._clock.forward(len(taken)) - len(taken) + 1)
        ]
        self._send(kind, events, alone=alone)

    def _send(self, kind: str, events: list[bytes], *, alone: bool) -> None:
        try:
            message = packed_message(events, self._hostname, self._options.event_serializer, alone=alone)
        except (EncodeError, DecodeError) as error:
            if len(events) == 1:
                self.dropped += 1
                logger.warning("A %.100s event cannot be encoded and is dropped: %.300s", kind, error)
                return
            # Texts come from the wire: one that cannot be encoded must not cost the others.
            for event in events:
                self._send(kind, [event], alone=alone)
            return
        key = routing_key(kind) if alone else BATCH_KEY
        if not self._mailbox.send(self._options.event_exchange, key, *message, keep=True):
            self._drop(len(events))
