"""Holds deliveries of tasks with a rate limit until they may start.

Runs in the master. Before it: ``master.delivery.intake``, with deliveries whose ETA has come, and the redelivery guard.
After it: the dispatcher; a delivery that waited goes there through the intake, which checks again whether it was
revoked. One bucket per task (``policy.rate_limit``) gives the rate of this worker; the deliveries of one task stay in
their order. Waiting must never block the prefetch window: ``master.window`` widens it by the number of those that wait.

A bucket outlives the connection, so a reconnect allows no additional start. An expired delivery takes no token.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from turbo.observers import Observers
from turbo.policy import rate_limit
from turbo.policy.admission import Admission, admit
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.peek import EXPIRES, UNKNOWN, peek
from turbo.protocol.task_lookup import TaskLookup

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping

    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.policy.task_options import TaskOptions

#: The shortest timer in seconds: those of the loop count milliseconds.
_SHORTEST_WAIT: Final = 0.001
#: The longest timer in seconds. A task may be limited to one start per year.
_LONGEST_WAIT: Final = 3600.0
#: Deliveries that leave one line per pass of the loop.
_AT_ONCE: Final = 100


class Receiver(Protocol):
    """Takes the deliveries that may run now.

    It is the dispatcher, or ``master.delivery.batches`` before it.
    """

    def submit(self, delivery: Delivery) -> None:
        """Take a READY or SUSPECT delivery."""


class _Line:
    """The waiting deliveries of one task, and its bucket.

    No bucket once the limit is lifted.
    """

    __slots__ = ("bucket", "task", "timer", "waiting")

    def __init__(self, task: str, bucket: rate_limit.TokenBucket) -> None:
        self.task = task
        self.bucket: rate_limit.TokenBucket | None = bucket
        self.waiting: deque[Delivery] = deque()
        self.timer: asyncio.TimerHandle | None = None


class RateLimits:
    """The rate limits of one worker's tasks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receiver: Receiver,
        failure_documents: FailureDocuments,
        tasks: Mapping[str, TaskOptions],
        *,
        disabled: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``receiver`` takes what may start; ``clock`` gives seconds.

        ``disabled``: limit nothing, whatever the tasks and remote control ask for. Raises ValueError for a limit
        that cannot be read.
        """
        self._loop = loop
        self._receiver = receiver
        self._failure_documents = failure_documents
        self._disabled = disabled
        self._clock = clock
        #: Called with a READY delivery that has waited and may start.
        self.on_ready: Observers[Delivery] = Observers()
        self._lines: TaskLookup[_Line] = TaskLookup()
        self._waiting = 0
        #: Whether any task is limited; if not, deliveries need not pass here.
        self.any = False
        for name, options in tasks.items():
            self.change(name, rate_limit.per_second(options.rate_limit))

    def __len__(self) -> int:
        return self._waiting

    def submit(self, delivery: Delivery) -> None:
        """Pass a READY or SUSPECT delivery on, or hold it until its task may start again."""
        line = self._line_of(delivery)
        if line is None or (not line.waiting and (line.bucket is None or line.bucket.take(self._clock()))):
            self._receiver.submit(delivery)
            return
        delivery.move(State.HELD)
        line.waiting.append(delivery)
        self._waiting += 1
        if line.timer is None:
            self._arm(line)

    def change(self, task: str, rate: float) -> None:
        """Limit a task to ``rate`` starts per second, waiting ones too.

        0 lifts the limit.
        """
        if self._disabled:
            return
        line, now = self._lines.named(task), self._clock()
        if line is None:
            if rate:
                self._lines.put(task, _Line(task, rate_limit.TokenBucket(rate, now)))
        elif not rate:
            line.bucket = None
        elif line.bucket is None:
            line.bucket = rate_limit.TokenBucket(rate, now)
        else:
            line.bucket.change(rate, now)
        if line is not None:
            self._arm(line)
        self.any = bool(self._lines)

    def withdraw(self) -> list[Delivery]:
        """Return the deliveries that still wait, oldest first per task, and forget them."""
        taken: list[Delivery] = []
        for line in self._lines:
            taken += line.waiting
            line.waiting.clear()
            self._arm(line)
        self._waiting = 0
        return [delivery for delivery in taken if delivery.state is State.HELD]

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that wait here, and return them."""
        taken: list[Delivery] = []
        for line in self._lines if self._waiting else ():
            found = [delivery for delivery in line.waiting if delivery in wanted]
            if found:
                line.waiting = deque(delivery for delivery in line.waiting if delivery not in wanted)
                self._waiting -= len(found)
                self._arm(line)
                taken += found
        return [delivery for delivery in taken if delivery.state is State.HELD]

    # -- inside ------------------------------------------------------------------------------------------

    def _line_of(self, delivery: Delivery) -> _Line | None:
        if delivery.message is not None:
            return self._lines.named(delivery.message.task)
        return self._lines.find(delivery.header)

    def _arm(self, line: _Line) -> None:
        """Set the timer for the first delivery of a line.

        Forget the line when its limit is lifted and it is empty.
        """
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        if line.waiting:
            wait = line.bucket.wait(self._clock()) if line.bucket is not None else 0.0
            line.timer = self._loop.call_later(min(max(_SHORTEST_WAIT, wait), _LONGEST_WAIT), self._release, line)
        elif line.bucket is None:
            self._lines.put(line.task, None)
            self.any = bool(self._lines)

    def _release(self, line: _Line) -> None:
        """Let the first deliveries of a line go on: expired ones, and one a token."""
        line.timer = None
        ready: list[Delivery] = []
        while line.waiting and len(ready) < _AT_ONCE:
            delivery = line.waiting[0]
            if delivery.state is State.HELD:
                expired = self._has_expired(delivery)
                if not expired and line.bucket is not None and not line.bucket.take(self._clock()):
                    break
                ready.append(delivery)
            line.waiting.popleft()
            self._waiting -= 1
        self._arm(line)
        for delivery in ready:
            delivery.move(delivery.waits_as)
            self.on_ready(delivery)

    def _has_expired(self, delivery: Delivery) -> bool:
        if not peek(delivery.header) & (EXPIRES | UNKNOWN):
            return False
        message = self._failure_documents.message(delivery)
        if message is None or message.utc is False:
            return False  # the child decides
        return admit(datetime.now(UTC), eta=None, expires=message.expires) is Admission.EXPIRED
