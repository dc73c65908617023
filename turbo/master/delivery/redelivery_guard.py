"""Holds a redelivered copy of a task that still runs here until that run ends.

Runs in the master. When a connection is lost, the broker redelivers its unsettled messages while the first runs go on;
without the guard every running ``acks_late`` task would run twice at once. A copy is recognised by its id and its
redelivered flag. If the first run succeeds, the copy is acknowledged without running; otherwise the copy runs. A run
may end before its copy arrives, so ends are remembered for some minutes by id and number of retries (a retry has the
id of its task). It must never hold a first delivery.

All causes of a redelivery: docs/architecture.md, "Why a task is delivered or run again".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.settlement import Settlement
    from turbo.protocol.message import TaskMessage


#: Seconds for which a run that ended before its copy arrived is remembered, and the most such runs.
_REMEMBERED = 300.0
_MOST_ENDED = 10_000


class RedeliveryGuard:
    """Runs whose connection is gone, by task id, and the copies that wait for them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        rate_limits: RateLimits,
        settlement: Settlement,
        failure_documents: FailureDocuments,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._dispatcher = dispatcher
        self._rate_limits = rate_limits
        self._settlement = settlement
        self._failure_documents = failure_documents
        self._running: dict[str, Delivery] = {}
        self._copies: dict[str, list[Delivery]] = {}
        #: When runs succeeded whose copies had not arrived: by id and retries, oldest first.
        self._ended: dict[tuple[str, int], float] = {}
        #: True while a redelivery has to be compared with something.
        self.watching = False
        settlement.on_void_ended.add(self.ended)

    def watch(self, running: Iterable[Delivery]) -> None:
        """Remember the deliveries of a lost connection that still run."""
        for delivery in running:
            message = self._failure_documents.message(delivery)
            if message is not None:
                self._running[message.id] = delivery
        self._look_at_watching()

    def hold(self, delivery: Delivery, message: TaskMessage | None) -> bool:
        """Hold a copy whose first run goes on, or acknowledge it if that succeeded.

        False: it may run.
        """
        if message is None:
            return False
        if message.id not in self._running:
            return self._has_ended(delivery, message)
        delivery.move(State.HELD)
        self._copies.setdefault(message.id, []).append(delivery)
        return True

    def withdraw(self) -> list[Delivery]:
        """Give up the held copies: their connection is lost, or the worker stops."""
        held = [copy for copies in self._copies.values() for copy in copies if copy.state is State.HELD]
        self._copies.clear()
        return held

    def take_out(self, wanted: Collection[Delivery]) -> list[Delivery]:
        """Remove those of ``wanted`` that are held here, and return them."""
        taken = [copy for copies in self._copies.values() for copy in copies if copy in wanted]
        for copies in self._copies.values():
            copies[:] = [copy for copy in copies if copy not in wanted]
        return [copy for copy in taken if copy.state is State.HELD]

    def ended(self, delivery: Delivery, verb: Verb | None) -> None:
        """Settle the held copies of a lost connection's run.

        It ended with ``verb``; None: it never began.
        """
        message = self._failure_documents.message(delivery)
        if message is None or self._running.get(message.id) is not delivery:
            return
        del self._running[message.id]
        copies = [copy for copy in self._copies.pop(message.id, []) if copy.state is State.HELD]
        well = delivery.acked or verb is Verb.ACK
        if well and not copies:
            self._ended[message.id, message.retries] = self._clock()
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]
        self._look_at_watching()
        for copy in copies:
            if well:
                self._settlement.finish(copy, Verb.ACK, None)
            else:
                copy.move(copy.waits_as)
                self._rate_limits.submit(copy)
        self._dispatcher.balance()

    def _has_ended(self, delivery: Delivery, message: TaskMessage) -> bool:
        if self._ended.pop((message.id, message.retries), None) is None:
            self._look_at_watching()
            return False
        self._look_at_watching()
        self._settlement.finish(delivery, Verb.ACK, None)
        return True

    def _look_at_watching(self) -> None:
        """Forget old ends; update ``watching``."""
        old = self._clock() - _REMEMBERED
        while self._ended and next(iter(self._ended.values())) < old:
            del self._ended[next(iter(self._ended))]
        self.watching = bool(self._running or self._ended)
