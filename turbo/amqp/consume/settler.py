"""Settles deliveries of the current session, and counts those of ended sessions.

The part of ``amqp.consume.link`` that the master calls for every message. A settlement for an old epoch is counted,
logged and dropped, because the broker has already requeued that message. It must never open or close a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.amqp.consume.stale_acks import StaleAcks

if TYPE_CHECKING:
    from turbo.amqp.consume.session import Session


class Settler:
    """Acknowledges, rejects and requeues by epoch and delivery tag."""

    def __init__(self) -> None:
        #: The current session. Written only by ``amqp.consume.link``.
        self._session: Session | None = None
        #: Counters of settlements that came too late.
        self.stale_acks = StaleAcks()

    def ack(self, epoch: int, tag: int) -> None:
        """Acknowledge a delivery.

        Sent at the end of this pass of the loop, or up to 2 ms later while a lower tag is open.
        """
        session = self._session
        if session is None or session.epoch != epoch or not session.alive:
            self.stale_acks.note_stale(epoch, tag)
        elif not session.ack(tag):
            self.stale_acks.note_wrong(epoch, tag)

    def reject(self, epoch: int, tag: int, requeue: bool) -> None:
        """Reject a delivery.

        It goes to the dead-letter exchange, or back to the queue, where a quorum queue counts it as failed.
        """
        self._give_back(epoch, tag, requeue=requeue, penalty=True)

    def requeue(self, epoch: int, tag: int) -> None:
        """Give back a delivery that was not tried; newer quorum queues do not count it."""
        self._give_back(epoch, tag, requeue=True, penalty=False)

    def _give_back(self, epoch: int, tag: int, *, requeue: bool, penalty: bool) -> None:
        session = self._session
        if session is None or session.epoch != epoch or not session.alive:
            self.stale_acks.note_stale(epoch, tag)
        elif not session.give_back(tag, requeue=requeue, penalty=penalty):
            self.stale_acks.note_wrong(epoch, tag)

    def running_tags(self) -> frozenset[bytes]:
        """Return the tags of the consumers whose windows count."""
        return frozenset() if self._session is None else self._session.consumers.running_tags()

    async def others_lack(self, name: str, counted: frozenset[bytes] = frozenset()) -> bool:
        """Return whether a queue is empty and others consume it too, who may be free.

        False without a session. ``counted``: tags of this worker's consumers that the broker counts though they may
        have been stopped. Raises ``ChannelGone``.
        """
        session = self._session
        facts = None if session is None else await session.declarer.inspect(name)
        if session is None or facts is None:
            return False
        ready, consumers = facts
        return ready == 0 and consumers > len(session.consumers.tags_of(name) | counted)

    def flush(self) -> None:
        """Send every settlement now."""
        if self._session is not None:
            self._session.flush()
