"""Copies of deliveries in this worker's lease queues, from their publish until they stand for the delivery.

Runs in the master. Before it: ``master.delivery.leases``, for what is held for long, and ``master.delivery.suspects``,
for what was delivered before. After it: the publisher, and the session that consumes the lease queues
(``amqp.consume.lease_queue``). It must never acknowledge an original whose copy is not both confirmed and here.

One move, whatever the delivery is doing (running, waiting for a child, held for its ETA, finishing):

1. A copy is published to the lease queue of the task queue, mandatory and confirmed, with a token in its headers. The
   copy of a task that runs, or of one that is about to, counts one death more: it comes back only from a lost worker.
2. The worker consumes the copy itself and does not acknowledge it.
3. When both the confirm and the copy have arrived, the original is acknowledged and the delivery's tag becomes the
   copy's.

Killed between any two of these, the worker leaves the original unacknowledged or a copy in the lease queue, or both:
a copy too many, never one too few. Both return to the task queue at once when the connection closes. A copy whose token
is not known here (its session is over, its task has ended) is sent back to the task queue or taken out.

``master.delivery.lease_ends`` settles what is on a lease.
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

    Done = Callable[[Delivery, bool], None]

logger = logging.getLogger(__name__)

_ENDED = frozenset({State.SETTLED, State.VOID})
#: Seconds after which a confirmed copy that has not come will not come any more: its time in the lease queue is over.
_OVERDUE = 10.0
#: Seconds for which a charged delivery takes none of the window's room: most have ended by then.
_ROOM_AFTER = 5.0
#: Seconds between looks at whether the last copies have come, while the worker ends.
_STEP = 0.01
_LOST = "the worker that ran it was lost"


@dataclass(slots=True)
class _Move:
    """One copy on its way. Written by the loop alone."""

    delivery: Delivery
    queue: str
    #: When the copy was published, by the loop's clock.
    began: float
    #: Told once whether the copy stands for the delivery.
    done: Done | None = None
    confirmed: bool = False
    #: The copy's delivery tag; 0 until it has arrived.
    tag: int = 0


class LeaseCopies:
    """The copies of one worker's deliveries."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        publisher: Publisher,
        queues: Sequence[Queue],
        link: BrokerLink,
        ends: LeaseEnds,
        *,
        hostname: str,
        enabled: bool,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._publisher = publisher
        self._queues = {queue.name: queue for queue in queues}
        self._link = link
        self._own = OwnQueues(link)
        self._ends = ends
        self._enabled = enabled
        #: Names this life of this worker: nobody else may consume its copies.
        self._worker = f"{hostname}.{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._moves: dict[str, _Move] = {}
        #: What is about to be moved, from the moment at which room is made for it.
        self._moving: set[Delivery] = set()
        #: When deliveries were charged that take no room yet.
        self._charged: dict[Delivery, float] = {}
        #: Lease queues by task queue, of the current session: consumed; refused by the broker.
        self._open: dict[str, Queue] = {}
        self._refused: set[str] = set()
        self._failing = False
        #: Moves made so far.
        self.moved = 0

    @property
    def count(self) -> int:
        """Unsettled deliveries whose message a lease queue holds, or is about to, and which take room of the window."""
        epoch, since = self._ledger.epoch, self._loop.time() - _ROOM_AFTER
        self._charged = {
            delivery: at
            for delivery, at in self._charged.items()
            if at > since and delivery.epoch == epoch and delivery.state not in _ENDED
        }
        young = sum(bool(delivery.lease) for delivery in self._charged)
        moving = sum(not delivery.lease for delivery in self._moving if delivery not in self._charged)
        return self._ledger.leased - young + moving

    def forget(self) -> None:
        """Drop what belongs to a session that is over; the broker has every copy back."""
        self._moves.clear()
        self._moving.clear()
        self._charged.clear()
        self._open.clear()
        self._refused.clear()

    def lost_queue(self, name: str) -> None:
        """A lease queue is not consumed any more: open it again at the next move."""
        self._open = {task: queue for task, queue in self._open.items() if queue.name != name}

    # -- what is held for long ---------------------------------------------------------------------------

    def is_moving(self, delivery: Delivery) -> bool:
        """Whether a copy of this delivery is on its way, or about to be."""
        return delivery in self._moving

    def plan(self, deliveries: Iterable[Delivery]) -> None:
        """Count deliveries as moving before room is made for them."""
        for delivery in deliveries:
            self._charged.pop(delivery, None)
            self._moving.add(delivery)

    def carry_out(self, deliveries: Iterable[Delivery]) -> None:
        """Move what was planned. It may have ended meanwhile, or its session."""
        for delivery in deliveries:
            if delivery in self._moving and not (delivery.state not in _ENDED and self._move(delivery)):
                self._moving.discard(delivery)

    def drop_overdue(self, now: float) -> None:
        """Make the move of a delivery again whose copy went back to the task queue before it came here."""
        for token, move in list(self._moves.items()):
            if move.confirmed and now - move.began > _OVERDUE:
                del self._moves[token]
                self._moving.discard(move.delivery)
                logger.warning("A copy did not come from the lease queue %r in time; it is made again", move.queue)

    # -- what was delivered before -----------------------------------------------------------------------

    def can_charge(self, delivery: Delivery) -> bool:
        """Whether a copy of this delivery may be published. The publisher may yet have to connect."""
        return (
            self._enabled
            and self._link.session is not None
            and delivery.epoch == self._ledger.epoch
            and delivery.queue not in self._refused
            and not self._publisher.blocked
        )

    async def charge(self, deliveries: Sequence[Delivery], done: Done) -> None:
        """Move SUSPECT deliveries to leases whose copies count one death more; tell ``done`` of each whether it is so.

        They take no room of the window at first: one that ends soon would have it swapped twice.
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
        """Return when the broker knows which originals are acknowledged; what a killed worker sends may be lost."""
        self._link.flush()
        await self._own.catch_up()

    # -- a move ------------------------------------------------------------------------------------------

    async def ready(self, name: str) -> bool:
        """Open the lease queue of a task queue, once a session; False when it cannot be used."""
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
        """Publish the copy; False for a message that cannot be read, which a child is about to reject."""
        try:
            properties, size = decode_header(delivery.header)
        except TableError:
            return False
        token = f"{self._worker}.{next(self._numbers)}"
        # What comes back of a running task has lost the worker that ran it: it counts as a death of a child does.
        # One whose child died before its body is READY again, and its next child gets it without another charge.
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
        """Match copies with the moves that published them."""
        for tag, _deliver, header, _body in batch:
            token = _token(header)
            move = self._moves.get(token)
            if move is None or epoch != self._ledger.epoch:
                # Its task may still run here: the task queue's delivery of it is held until that has ended.
                logger.info("An unknown copy came from a lease queue and goes back to its task queue")
                self._ends.hand_on(epoch, tag)
                continue
            move.tag = tag
            self._complete(token, move)

    def _complete(self, token: str, move: _Move) -> None:
        """Let the copy stand for the delivery once it is safe and here."""
        if not (move.confirmed and move.tag):
            return
        if failpoint.ENABLED:
            failpoint.hit("master.lease_copied")
        del self._moves[token]
        delivery = move.delivery
        self._moving.discard(delivery)
        epoch = self._ledger.epoch
        if delivery.epoch != epoch or delivery.state in _ENDED or delivery.acked:
            # It was settled, or taken back by the broker, while the copy was made.
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
        """Wait until copies on their way have come, or until ``deadline`` by the loop's clock.

        The original of one that was returned meanwhile is in its queue again: the copy would be one too many.
        """
        while self._moves and self._link.session is not None and self._loop.time() < deadline:
            await asyncio.sleep(_STEP)

    async def close(self) -> None:
        """Delete the lease queues of a worker that ends in order; what may still hold a message expires later."""
        if self._ledger.leased or self._moves or self._ends.passing_on or self._ends.returning:
            return
        for queue in self._open.values():
            await self._own.delete_lease(queue)


def _headers(
    delivery: Delivery, headers: Mapping[str, object] | None, token: str, *, counts: bool
) -> dict[str, object]:
    """The headers of a copy: the token first (see ``protocol.own_headers``), and where the message was sent to."""
    origin = parse_deliver(delivery.deliver)
    own: dict[str, object] = {LEASE: token, ROUTE: [origin.exchange, origin.routing_key]}
    own |= {name: value for name, value in (headers or {}).items() if name != LEASE}
    if counts:
        own[poison.DELIVERIES] = poison.deaths(own) + 1
        own[poison.REASON] = _LOST
    return own


def _token(header: bytes) -> str:
    """The token in a copy's headers; empty where there is none."""
    try:
        properties, _size = decode_header(header)
    except TableError:
        return ""
    return str((properties.headers or {}).get(LEASE, ""))
