"""Decides how long the worker waits for a broker, at its start and later.

Part of ``master.main``, in the master's loop: it hears of failed attempts from the ``amqp.dialer`` of either side and
of refused queues from ``amqp.consume.link``, and asks the master to end. At start a broker that answers and refuses the
login, the virtual host, TLS or every queue ends the worker with 69, so that a supervisor sees it;
``broker_connection_retry_on_startup=True`` makes it wait instead. A worker is not ready before it can publish, and
where it publishes to another broker, it consumes nothing before. It must never dial by itself.
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

#: Exit code of a worker that cannot begin because the broker refuses it; sysexits' "service unavailable".
EX_UNAVAILABLE: Final = 69
_FAILED: Final = 1
#: Refused attempts for each address after which a start is given up.
_MOST_REFUSALS: Final = 5
#: Seconds between looks at a start in which every queue is refused.
_LOOK: Final = 0.5
#: Seconds between looks whether messages can be sent.
_STEP: Final = 0.01


class Ends(Protocol):
    """What the master offers: to end, at its start or after its tasks."""

    @property
    def starting(self) -> bool:
        """Whether the worker has not been ready yet."""

    def end_at_start(self, error: Exception, code: int) -> None:
        """End now with ``code``."""

    def give_the_broker_up(self, why: str) -> None:
        """Finish what runs, then end as one that has failed."""


class BrokerPatience:
    """The waiting of one worker."""

    def __init__(
        self, link: BrokerLink, publisher: Publisher, options: WorkerOptions, master: Ends, *, queues: Iterable[str]
    ) -> None:
        """``queues``: names of those to consume from."""
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
        """Connect at start, and wait until messages can be sent and a queue is consumed; False when the worker ends.

        Both sides connect at once, where it is to the same broker: that refuses both or none.
        """
        if not self._publisher.dialer.same_places(self._link.dialer) and not await self._can_publish():
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
        """Whether the broker is there and refuses every queue."""
        refused = set(self._link.refusals.names)
        return bool(refused) and refused >= self._queues

    def _attempt_failed(self, dialer: Dialer[Any], failures: int) -> None:
        """One more attempt to reach the broker has failed."""
        options = self._options
        if self._master.starting:
            if not options.broker_connection_retry_on_startup and failures >= dialer.places:
                self._unreachable(dialer)
                return
            if dialer.refusals >= _MOST_REFUSALS * dialer.places and not options.wait_when_refused:
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
