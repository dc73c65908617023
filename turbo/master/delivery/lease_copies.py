"""Moves deliveries to this worker's lease queues, as published copies.

Runs in the master. Before it: ``master.delivery.leases``, for deliveries held for long, and
``master.delivery.suspects``, for redelivered ones. After it: the publisher, and the session that consumes the lease
queues (``amqp.consume.lease_queue``). It must never acknowledge an original before its copy is both confirmed and
received.

A move is the same whether the delivery runs, waits for a child, is held for its ETA or is finishing:

1. A copy is published to the lease queue of the task queue, mandatory and confirmed, with a token in its headers. The
   copy of a running task, or of one about to start, counts one death more: it returns only if the worker is lost.
2. The worker consumes the copy and does not acknowledge it.
3. When both the confirm and the copy have arrived, the original is acknowledged and the delivery takes the copy's tag.

A worker that is killed between two steps leaves the unacknowledged original, the copy, or both: a duplicate is
possible, a loss is not. Both return to the task queue at once when the connection closes. A copy with an unknown token
(its session is over, its task has ended) is returned to the task queue or removed. ``master.delivery.lease_ends``
settles deliveries on a lease.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.amqp.consume.lease_queue import lease_queue
from turbo.amqp.consume.own_queues import OwnQueues
from turbo.amqp.publish.publisher import Published
from turbo.policy import poison
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.own_headers import LEASE, ROUTE
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.amqp.publish.publisher import Publisher
    from turbo.amqp.topology import Queue
    from turbo.master.delivery.lease_ends import LeaseEnds
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.delivery.paused_queues import PausedQueues

    Done = Callable[[Delivery, bool], None]

logger = logging.getLogger(__name__)

_ENDED = frozenset({State.SETTLED, State.VOID})
#: Seconds after which a confirmed copy can no longer arrive: it has expired in the lease queue.
_OVERDUE = 10.0
#: Seconds for which a charged delivery takes no room in the window: most have ended by then.
_ROOM_AFTER = 5.0
#: Seconds between checks for the last copies while the worker ends.
_STEP = 0.01
_LOST = "the worker that ran it was lost"


@dataclass(slots=True)
class _Move:
    """One copy that is being moved. Written only by the loop."""

    delivery: Delivery
    queue: str
    #: When the copy was published, by the loop's clock.
    began: float
    #: Called once: whether the copy has replaced the original.
    done: Done | None = None
    confirmed: bool = False
    #: The copy's delivery tag; 0 before it arrives.
    tag: int = 0


class LeaseCopies:
    """The copies of one worker's deliveries."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        publisher: Publisher,
        queues: Mapping[str, Queue],
        link: BrokerLink,
        ends: LeaseEnds,
        paused_queues: PausedQueues,
        *,
        hostname: str,
        enabled: bool,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._publisher = publisher
        self._queues = queues
        self._link, self._own = link, OwnQueues(link)
        self._ends = ends
        self._paused_queues = paused_queues
        self._enabled = enabled
        #: Identifies this run of this worker; no other worker may consume its copies.
        self._worker = f"{hostname}.{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._moves: dict[str, _Move] = {}
        #: Deliveries being moved, from the moment that room is made for them.
        self._moving: set[Delivery] = set()
        #: Charged deliveries that take no room yet, and when they were charged.
        self._charged: dict[Delivery, float] = {}
        #: Lease queues by task queue, of the current session: consumed; refused by the broker.
        self._open: dict[str, Queue] = {}
        self._refused: set[str] = set()
        self._failing = False
        #: Number of completed moves.
        self.moved = 0

    @property
    def count(self) -> int:
        """Number of deliveries on a lease, or about to be, that fill the window."""
        epoch, since = self._ledger.epoch, self._loop.time() - _ROOM_AFTER
        self._charged = {
            delivery: at
            for delivery, at in self._charged.items()
            if at > since and delivery.epoch == epoch and delivery.state not in _ENDED
        }
        moving = sum(not delivery.lease for delivery in self._moving if delivery not in self._charged)
        young = sum(bool(delivery.lease) for delivery in self._charged)
        return self._ledger.leased - young + moving - self._paused_queues.leased(self._moving, self._charged)

    def forget(self) -> None:
        """Drop the state of a session that is over; the broker has requeued every copy."""
        self._moves.clear()
        self._moving.clear()
        self._charged.clear()
        self._open.clear()
        self._refused.clear()

    def lost_queue(self, name: str) -> None:
        """Note that a lease queue is no longer consumed; the next move opens it again."""
        self._open = {task: queue for task, queue in self._open.items() if queue.name != name}

    # -- what is held for long ---------------------------------------------------------------------------

    def is_moving(self, delivery: Delivery) -> bool:
        """Whether a copy of this delivery is being moved or about to be."""
        return delivery in self._moving

    def plan(self, deliveries: Iterable[Delivery]) -> None:
        """Count deliveries as moving before room is made for them."""
        for delivery in deliveries:
            self._charged.pop(delivery, None)
            self._moving.add(delivery)

    def carry_out(self, deliveries: Iterable[Delivery]) -> None:
        """Move the planned deliveries, except those that have ended or lost their session."""
        for delivery in deliveries:
            if delivery in self._moving and not (delivery.state not in _ENDED and self._move(delivery)):
                self._moving.discard(delivery)

    def drop_overdue(self, now: float) -> None:
        """Repeat the move of a delivery whose copy expired before it was received."""
        for token, move in list(self._moves.items()):
            if move.confirmed and now - move.began > _OVERDUE:
                del self._moves[token]
                self._moving.discard(move.delivery)
                logger.warning("A copy did not arrive from lease queue %r in time; publishing it again", move.queue)

    # -- what was delivered before -----------------------------------------------------------------------

    def can_charge(self, delivery: Delivery) -> bool:
        """Whether a copy of this delivery may be published, perhaps later."""
        return (
            self._enabled
            and self._link.session is not None
            and delivery.epoch == self._ledger.epoch
            and delivery.queue not in self._refused
            and not self._publisher.blocked
        )

    async def charge(self, deliveries: Sequence[Delivery], done: Done) -> None:
        """Move SUSPECT deliveries to leases whose copies count one more death.

        Report each result to ``done``. They take no room in the window at first: a short task would change the window
        twice.
        """
        for name in {delivery.queue for delivery in deliveries}:
            await self.ready(name)
        for delivery in deliveries:
            wanted = delivery.state is State.SUSPECT and delivery.queue in self._open and self.can_charge(delivery)
            if wanted and not self.is_moving(delivery):
                self._charged[delivery] = self._loop.time()
                self._moving.add(delivery)
                if self._move(delivery, charge=True, done=done):
                    continue
                self._moving.discard(delivery)
                del self._charged[delivery]
            done(delivery, False)

    async def settle(self) -> None:
        """Return when the broker knows the acked originals, even if we are killed."""
        self._link.flush()
        await self._own.catch_up()

    # -- a move ------------------------------------------------------------------------------------------

    async def ready(self, name: str) -> bool:
        """Open a task queue's lease queue, once per session; False: not usable."""
        if name in self._open:
            return True
        if name in self._refused:
            return False
        quorum = self._link.refusals.is_quorum(name)
        queue = lease_queue(self._queues[name], self._worker, self._link.server_version, quorum=quorum)
        if await self._own.open_lease(queue):
            self._open[name] = queue
            return True
        self._refused.add(name)
        logger.error(
            "Queue %r: the lease queue %r cannot be used, so messages held longer than the broker's consumer timeout "
            "are delivered twice, and deaths of this worker are not counted. Allow this user to configure "
            "turbo.lease.*, or raise the timeout",
            name,
            queue.name,
        )
        return False

    def _move(self, delivery: Delivery, *, charge: bool = False, done: Done | None = None) -> bool:
        """Publish the copy; False for an unreadable message, soon to be rejected."""
        try:
            properties, size = decode_header(delivery.header)
        except TableError:
            return False
        token = f"{self._worker}.{next(self._numbers)}"
        # A copy of a running task returns only if the worker is lost, which counts like the death of a child.
        # A task whose child died before its body is READY again; its next child gets it without another charge.
        given = delivery.state in (State.READY, State.DISPATCHED) and delivery.waits_as is State.SUSPECT
        counts = charge or given or delivery.state is State.STARTED
        properties.headers = _headers(delivery, properties.headers, token, counts=counts)
        queue = self._open[delivery.queue].name
        move = self._moves[token] = _Move(delivery, queue, self._loop.time(), done)
        self._publisher.publish(
            "",
            queue,
            encode_header(properties, size),
            delivery.body,
            mandatory=True,
            done=lambda result: self._published(token, move, result),
        )
        return True

    def _published(self, token: str, move: _Move, result: Published) -> None:
        if self._moves.get(token) is not move:
            return
        if result is Published.CONFIRMED:
            self._failing = False
            move.confirmed = True
            self._complete(token, move)
            return
        del self._moves[token]
        self._moving.discard(move.delivery)
        self._charged.pop(move.delivery, None)
        if result is Published.RETURNED:
            self.lost_queue(move.queue)
        if not self._failing:
            self._failing = True
            logger.error(
                "A message of queue %r could not be copied to its lease queue (%s). It is tried again when it is held "
                "for long; after the broker's consumer timeout the message is delivered to another worker as well",
                move.delivery.queue,
                result.name.lower(),
            )
        if move.done is not None:
            move.done(move.delivery, False)

    def take(self, epoch: int, batch: list[RawDelivery]) -> None:
        """Match received copies with the moves that published them."""
        for tag, _deliver, header, _body in batch:
            token = _token(header)
            move = self._moves.get(token)
            if move is None or epoch != self._ledger.epoch:
                # Its task may still run here: the redelivery from the task queue is held until that has ended.
                logger.info("Received an unknown copy from a lease queue; returning it to its task queue")
                self._ends.hand_on(epoch, tag)
                continue
            move.tag = tag
            self._complete(token, move)

    def _complete(self, token: str, move: _Move) -> None:
        """Replace the original by the copy once the copy is confirmed and received."""
        if not (move.confirmed and move.tag):
            return
        if failpoint.ENABLED:
            failpoint.hit("master.lease_copied")
        del self._moves[token]
        delivery = move.delivery
        self._moving.discard(delivery)
        epoch = self._ledger.epoch
        if delivery.epoch != epoch or delivery.state in _ENDED or delivery.acked:
            # It was settled, or taken back by the broker, during the move.
            self._link.ack(epoch, move.tag)
            if move.done is not None:
                move.done(delivery, False)
            return
        original = delivery.tag
        self._ledger.replace_tag(delivery, move.tag, move.queue)
        self._link.ack(epoch, original)
        self.moved += 1
        logger.debug("Delivery %d of queue %r continues as %d on a lease", original, delivery.queue, move.tag)
        if move.done is not None:
            move.done(delivery, True)

    # -- the end -----------------------------------------------------------------------------------------

    async def finish(self, deadline: float) -> None:
        """Wait for the pending copies, until ``deadline`` by the loop's clock.

        The original of a delivery returned meanwhile is already in its queue: its copy would be a duplicate.
        """
        while self._moves and self._link.session is not None and self._loop.time() < deadline:
            await asyncio.sleep(_STEP)

    async def close(self) -> None:
        """Delete lease queues at a clean stop; those still needed expire later."""
        if self._ledger.leased or self._moves or self._ends.passing_on or self._ends.returning:
            return
        for queue in self._open.values():
            await self._own.delete_lease(queue)


def _headers(
    delivery: Delivery, headers: Mapping[str, object] | None, token: str, *, counts: bool
) -> dict[str, object]:
    """Return a copy's headers: the token first, and the original route.

    See ``protocol.own_headers``.
    """
    origin = parse_deliver(delivery.deliver)
    own: dict[str, object] = {LEASE: token, ROUTE: [origin.exchange, origin.routing_key]}
    own |= {name: value for name, value in (headers or {}).items() if name != LEASE}
    if counts:
        own[poison.DELIVERIES] = poison.deaths(own) + 1
        own[poison.REASON] = _LOST
    return own


def _token(header: bytes) -> str:
    """Return the token in a copy's headers; empty when there is none."""
    try:
        properties, _size = decode_header(header)
    except TableError:
        return ""
    return str((properties.headers or {}).get(LEASE, ""))
