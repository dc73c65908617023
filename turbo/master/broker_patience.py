"""Decides how long the worker waits for a broker, at its start and later.

Part of ``master.main``, in the master's loop. ``amqp.dialer`` reports failed attempts of either side,
``amqp.consume.link`` refused queues; this module asks the master to end. At start, a broker that refuses the login, the
virtual host, TLS or every queue ends the worker with exit code 69, so that a supervisor sees it;
``broker_connection_retry_on_startup=True`` makes it wait. A worker is not ready before it can publish, and if it
publishes to another broker, it does not consume before. It must never connect by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.consume.link import BrokerLink
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

    def give_the_broker_up(self, why: str) -> None:
        """Finish the running tasks, then end with a failure."""


class BrokerPatience:
    """Waits for the broker of one worker."""

    def __init__(
        self, link: BrokerLink, publisher: Publisher, options: WorkerOptions, master: Ends, *, queues: Iterable[str]
    ) -> None:
        """``queues``: names of the queues to consume."""
        self._queues = frozenset(queues)
        self._link = link
        self._publisher = publisher
        self._options = options
        self._master = master
        for dialer in (link.dialer, publisher.dialer):
            dialer.on_failure = partial(self._attempt_failed, dialer)
        if not options.broker_connection_retry:
            link.dialer.on_lost = partial(master.give_the_broker_up, "broker_connection_retry=False")

    async def wait_for_broker(self) -> bool:
        """Connect at start; wait until publishing works and a queue is consumed. False when the worker ends.

        Both sides connect at once if they use the same broker, which refuses both or none.
        """
        if not self._publisher.dialer.same_brokers(self._link.dialer) and not await self._can_publish():
            return False
        await self._link.start()
        return await self._consumes() and await self._can_publish()

    async def _can_publish(self) -> bool:
        options = self._options
        began = time.monotonic()
        while not self._publisher.connected:
            late = time.monotonic() - began >= 3 * options.broker_connection_timeout
            if late and not options.broker_connection_retry_on_startup:
                self._unreachable(self._publisher.dialer)
                return False
            await asyncio.sleep(_STEP)
        return True

    async def _consumes(self) -> bool:
        options = self._options
        bound = 3 * options.broker_connection_timeout
        began = time.monotonic()
        refused_since: float | None = None
        while not await self._link.wait_ready(_LOOK):
            now = time.monotonic()
            if not options.broker_connection_retry_on_startup and now - began >= bound:
                self._unreachable(self._link.dialer)
                return False
            if not self._all_refused():
                refused_since = None
            elif refused_since is None:
                refused_since = now
            elif now - refused_since >= bound and not options.wait_when_refused:
                names = ", ".join(self._link.refusals.names)
                self._refused(f"the broker lets this worker consume from none of its queues ({names})")
                return False
        return True

    def _all_refused(self) -> bool:
        """Whether the broker is reachable and refuses every queue."""
        refused = set(self._link.refusals.names)
        return bool(refused) and refused >= self._queues

    def _attempt_failed(self, dialer: Dialer[Any], failures: int) -> None:
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
            self._master.give_the_broker_up(f"broker_connection_max_retries={most}")

    def _unreachable(self, dialer: Dialer[Any]) -> None:
        error = ConnectionError(f"no broker could be reached at start: {dialer.last_error}")
        self._master.end_at_start(error, _FAILED)

    def _refused(self, why: str) -> None:
        text = f"{why}; broker_connection_retry_on_startup=True would let it wait"
        self._master.end_at_start(ConnectionError(text), EX_UNAVAILABLE)
