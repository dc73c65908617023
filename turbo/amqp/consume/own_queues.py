"""The worker's own queues: lease queues, and the return path of the delay queues.

Runs in the master, between ``master.delivery.leases`` and ``master.delivery.parking`` and the current session. Each
call returns False when there is no session, or when it is lost during the call. It must never keep state across
sessions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.amqp.channel_calls import ChannelGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.consume.session import Session
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.consume.link")


class OwnQueues:
    """Declares and deletes the worker's own queues through one link."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    async def open_lease(self, queue: Queue) -> bool:
        """Declare and consume a lease queue, for this session only.

        False when the broker refuses.
        """
        return await self._tried(lambda session: session.start_lease(queue), f"queue {queue.name!r} was set up")

    async def delete_lease(self, queue: Queue) -> bool:
        """Delete an empty lease queue; False when the broker refuses."""
        return await self._tried(lambda session: session.end_lease(queue), f"queue {queue.name!r} was deleted")

    async def catch_up(self) -> bool:
        """Return when the broker has read every settlement.

        False when the session is lost.
        """
        return await self._tried(lambda session: session.catch_up(), "the broker read what was acknowledged")

    async def open_parking(self, queue: Queue) -> bool:
        """Route the delay queues back to ``queue``; False when the broker refuses."""
        return await self._tried(lambda session: session.start_parking(queue), f"queue {queue.name!r} was set up")

    async def _tried(self, step: Callable[[Session], Awaitable[bool]], during: str) -> bool:
        session = self._link.session
        if session is None:
            return False
        try:
            return await step(session)
        except ChannelGone as gone:
            logger.warning("The session was lost while %s: %s", during, gone)
            return False
