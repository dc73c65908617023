"""Decides how long the worker waits for a broker, at its start and later.

Part of ``master.main``, in the master's loop: it hears of failed attempts from ``amqp.dialer`` and of refused queues
from ``amqp.link``, and asks the master to end. At start a broker that answers and refuses the login, the virtual host,
TLS or every queue ends the worker with 69, so that a supervisor sees it; ``broker_connection_retry_on_startup=True``
makes it wait instead. It must never connect by itself.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.link import BrokerLink
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger("turbo.worker")

#: Exit code of a worker that cannot begin because the broker refuses it; sysexits' "service unavailable".
EX_UNAVAILABLE: Final = 69
_FAILED: Final = 1
#: Refused attempts for each address after which a start is given up.
_MOST_REFUSALS: Final = 5
#: Seconds between looks at a start in which every queue is refused.
_LOOK: Final = 0.5


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
        self, link: BrokerLink, options: WorkerOptions, master: Ends, *, addresses: int, queues: Iterable[str]
    ) -> None:
        """``addresses``: how many brokers there are to try; ``queues``: names of those to consume from."""
        self._queues = frozenset(queues)
        self._link = link
        self._options = options
        self._master = master
        self._addresses = addresses
        link.dialer.on_failure = self._attempt_failed
        if not options.broker_connection_retry:
            link.dialer.on_lost = partial(master.give_the_broker_up, "broker_connection_retry=False")

    async def wait_for_queues(self) -> bool:
        """Wait at start until a queue is consumed; False when the worker ends instead."""
        options = self._options
        bound = 3 * options.broker_connection_timeout
        began = time.monotonic()
        refused_since: float | None = None
        while not await self._link.wait_ready(_LOOK):
            now = time.monotonic()
            if not options.broker_connection_retry_on_startup and now - began >= bound:
                self._unreachable()
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

    def _attempt_failed(self, failures: int) -> None:
        """One more attempt to reach the broker has failed."""
        options = self._options
        if self._master.starting:
            if not options.broker_connection_retry_on_startup and failures >= self._addresses:
                self._unreachable()
                return
            if self._link.dialer.refusals >= _MOST_REFUSALS * self._addresses and not options.wait_when_refused:
                self._refused(f"the broker refuses this worker: {self._link.last_error}")
                return
        most = options.broker_connection_max_retries
        if most is not None and failures > most:
            self._master.give_the_broker_up(f"broker_connection_max_retries={most}")

    def _unreachable(self) -> None:
        error = ConnectionError(f"no broker could be reached at start: {self._link.last_error}")
        self._master.end_at_start(error, _FAILED)

    def _refused(self, why: str) -> None:
        text = f"{why}; broker_connection_retry_on_startup=True would let it wait"
        self._master.end_at_start(ConnectionError(text), EX_UNAVAILABLE)
