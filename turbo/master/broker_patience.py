"""Decides how long the worker waits for a broker, at its start and later.

Part of ``master.main``, in the master's loop. ``amqp.dialer`` reports failed attempts of either side,
``amqp.consume.link`` refused queues; this module asks the master to end. At start, a broker that refuses the login, the
virtual host, TLS or every queue ends the worker with exit code 69, so that a supervisor sees it;
``broker_connection_retry_on_startup=True`` makes it wait. A worker is not ready before it can publish; if it
publishes to another broker than it consumes from, it does not consume before that either. It must never connect by
itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.consume.session import DeliverySink
    from turbo.amqp.dialer import Dialer
    from turbo.amqp.publish.publisher import Publisher
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger("turbo.worker")

#: Exit code of a worker that the broker refuses at start; sysexits' "service unavailable".
EX_UNAVAILABLE: Final = 69
_FAILED: Final = 1
#: Refused attempts per address after which the start fails.
_MOST_REFUSALS: Final = 5
#: Seconds between checks whether every queue is refused.
_LOOK: Final = 0.5
#: Seconds between checks whether messages can be published.
_STEP: Final = 0.01


class Ends(Protocol):
    """The part of the master that ends the worker."""

    @property
    def starting(self) -> bool:
        """Whether the worker has never been ready."""

    def end_at_start(self, error: Exception, code: int) -> None:
        """End now with ``code``."""

    def give_up_broker(self, why: str) -> None:
        """Finish the running tasks, then end with a failure."""


class BrokerPatience:
    """Waits for the broker of one worker."""

    def __init__(self, options: WorkerOptions, master: Ends, *, queues: Iterable[str]) -> None:
        """``queues``: names of the queues to consume."""
        self._queues = frozenset(queues)
        self._options = options
        self._master = master

    async def wait_for_broker(self, link: BrokerLink, publisher: Publisher, sink: DeliverySink) -> bool:
        """Connect at start; wait until publishing works and a queue is consumed.

        False when the worker ends. Both sides connect at once if they use the same broker, which refuses both or none.
        """
        if not publisher.dialer.same_brokers(link.dialer) and not await self._can_publish(publisher):
            return False
        await link.start(sink)
        return await self._consumes(link) and await self._can_publish(publisher)

    async def _can_publish(self, publisher: Publisher) -> bool:
        options = self._options
        began = time.monotonic()
        while not publisher.connected:
            late = time.monotonic() - began >= 3 * options.broker_connection_timeout
            if late and not options.broker_connection_retry_on_startup:
                self._unreachable(publisher.dialer)
                return False
            await asyncio.sleep(_STEP)
        return True

    async def _consumes(self, link: BrokerLink) -> bool:
        options = self._options
        bound = 3 * options.broker_connection_timeout
        began = time.monotonic()
        refused_since: float | None = None
        while not await link.wait_ready(_LOOK):
            now = time.monotonic()
            if not options.broker_connection_retry_on_startup and now - began >= bound:
                self._unreachable(link.dialer)
                return False
            if not self._all_refused(link):
                refused_since = None
            elif refused_since is None:
                refused_since = now
            elif now - refused_since >= bound and not options.wait_when_refused:
                names = ", ".join(link.refusals.names)
                self._refused(f"the broker lets this worker consume from none of its queues ({names})")
                return False
        return True

    def _all_refused(self, link: BrokerLink) -> bool:
        """Whether the broker is reachable and refuses every queue."""
        refused = set(link.refusals.names)
        return bool(refused) and refused >= self._queues

    def attempt_failed(self, dialer: Dialer[Any], failures: int) -> None:
        """Handle one more failed attempt to reach the broker."""
        options = self._options
        if self._master.starting:
            if not options.broker_connection_retry_on_startup and failures >= dialer.address_count:
                self._unreachable(dialer)
                return
            if dialer.refusals >= _MOST_REFUSALS * dialer.address_count and not options.wait_when_refused:
                self._refused(f"the broker refuses this worker: {dialer.last_error}")
                return
        most = options.broker_connection_max_retries
        if most is not None and failures > most:
            self._master.give_up_broker(f"broker_connection_max_retries={most}")

    def consuming_lost(self) -> None:
        """Handle the loss of a connection that had consumed."""
        if not self._options.broker_connection_retry:
            self._master.give_up_broker("broker_connection_retry=False")

    def _unreachable(self, dialer: Dialer[Any]) -> None:
        error = ConnectionError(f"no broker could be reached at start: {dialer.last_error}")
        self._master.end_at_start(error, _FAILED)

    def _refused(self, why: str) -> None:
        text = f"{why}; broker_connection_retry_on_startup=True would let it wait"
        self._master.end_at_start(ConnectionError(text), EX_UNAVAILABLE)
