"""Queues of the worker's own beside those that it was told to consume: lease queues, and the way back from delays.

Runs in the master, between ``master.delivery.leases`` and ``master.delivery.parking`` and whichever session is current:
each call answers False when there is none, or when it is lost on the way. It must never remember anything beyond a
session.
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
    """What one link does for its worker's own queues."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    async def open_lease(self, queue: Queue) -> bool:
        """Declare and consume a lease queue, in this session alone; False when the broker refuses."""
        return await self._tried(lambda session: session.start_lease(queue), queue.name)

    async def delete_lease(self, queue: Queue) -> bool:
        """Delete a lease queue that holds nothing any more; False when the broker refuses."""
        return await self._tried(lambda session: session.end_lease(queue), queue.name)

    async def catch_up(self) -> bool:
        """Return when the broker has read every settlement; False when the session is lost."""
        return await self._tried(lambda session: session.catch_up(), "of a lease")

    async def open_parking(self, queue: Queue) -> bool:
        """Let the delay queues lead back to ``queue``; False when the broker refuses."""
        return await self._tried(lambda session: session.start_parking(queue), queue.name)

    async def _tried(self, step: Callable[[Session], Awaitable[bool]], name: str) -> bool:
        session = self._link.session
        if session is None:
            return False
        try:
            return await step(session)
        except ChannelGone as gone:
            logger.warning("The session was lost while queue %r was set up: %s", name, gone)
            return False
