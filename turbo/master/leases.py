"""Moves deliveries that this worker holds for long to a lease of its own before the broker takes them back.

Runs in the master, beside the intake. Before it: ``master.inflight``, whose deliveries it looks at several times a
lease (``policy.lease``). After it: the publisher, and the session that consumes the lease queues
(``amqp.lease_queue``). It never looks at a delivery that is settled soon: a short task pays nothing.

One move, whatever the delivery is doing (running, waiting for a child, held for its ETA, finishing):

1. A copy is published to the lease queue of the task queue, mandatory and confirmed, with a token in its headers.
2. The worker consumes the copy itself and does not acknowledge it.
3. When both the confirm and the copy have arrived, the original is acknowledged and the delivery's tag becomes the
   copy's. A lease queue's deliveries have a lease too, so the same move is made again when half of it has passed.

Killed between any two of these, the worker leaves the original unacknowledged or a copy in the lease queue, or both:
a copy too many, never one too few. Both return to the task queue at once when the connection closes. A copy whose token
is not known here (its session is over, its task has ended) is sent back to the task queue or taken out.

``master.lease_ends`` settles what is on a lease.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.amqp.lease_queue import lease_queue
from turbo.amqp.outbox import Published
from turbo.amqp.own_queues import OwnQueues
from turbo.policy import lease, poison
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.own_headers import LEASE
from turbo.protocol.properties import decode_header, encode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from turbo.amqp.consumer_timeouts import ConsumerTimeouts
    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.amqp.link import BrokerLink
    from turbo.amqp.outbox import Outbox
    from turbo.amqp.topology import Queue
    from turbo.master.inflight import Delivery, Ledger
    from turbo.master.lease_ends import LeaseEnds

logger = logging.getLogger(__name__)

_ENDED = frozenset({State.SETTLED, State.VOID})
#: Seconds after which a confirmed copy that has not come will not come any more: its time in the lease queue is over.
_OVERDUE = 10.0
#: Seconds between looks while there is no session.
_IDLE = 1.0


@dataclass(slots=True)
class _Move:
    """One copy on its way. Written by the loop alone."""

    delivery: Delivery
    queue: str
    #: When the copy was published, by the loop's clock.
    began: float
    confirmed: bool = False
    #: The copy's delivery tag; 0 until it has arrived.
    tag: int = 0


class Leases:
    """The leases of one worker's deliveries."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        outbox: Outbox,
        queues: Sequence[Queue],
        *,
        hostname: str,
        timeouts: ConsumerTimeouts,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._outbox = outbox
        self._queues = {queue.name: queue for queue in queues}
        #: Names this life of this worker: nobody else may consume its copies.
        self._worker = f"{hostname}.{secrets.token_hex(4)}"
        self._timeouts = timeouts
        #: Seconds: no lease of this worker is longer.
        self._longest = max([timeouts.configured, *(timeouts.longest_of(queue) for queue in queues)])
        self._numbers = itertools.count(1)
        self._moves: dict[str, _Move] = {}
        self._moving: set[Delivery] = set()
        #: Lease queues by task queue, of the current session: consumed; refused by the broker.
        self._open: dict[str, Queue] = {}
        self._refused: set[str] = set()
        self._ages: dict[str, float] = {}
        self._marks = lease.AgeMarks(0.0, keep=0.0)
        self._failing = False
        #: Moves made so far.
        self.moved = 0

    def attach(self, link: BrokerLink, ends: LeaseEnds, make_room: Callable[[], Awaitable[None]]) -> None:
        """Name the consuming side, which leads here, and who narrows its window; they are made after this object."""
        self._link = link
        self._own = OwnQueues(link)
        self._ends = ends
        self._make_room = make_room

    @property
    def count(self) -> int:
        """Unsettled deliveries whose message a lease queue holds, or is about to hold."""
        return self._ledger.leased + sum(not delivery.lease for delivery in self._moving)

    # -- the session's side ------------------------------------------------------------------------------

    def begin_session(self) -> None:
        """Start anew: every tag and every lease queue of the session before is gone."""
        self._marks = lease.AgeMarks(self._loop.time(), keep=self._longest)
        self._forget()

    def end_session(self) -> None:
        """Drop the moves of a session that is lost; the broker has every copy back."""
        self._forget()
        self._ages = {}

    def lost_queue(self, name: str) -> None:
        """A lease queue is not consumed any more: open it again at the next move."""
        self._open = {task: queue for task, queue in self._open.items() if queue.name != name}

    def _forget(self) -> None:
        self._moves.clear()
        self._moving.clear()
        self._open.clear()
        self._refused.clear()

    def take_copies(self, epoch: int, batch: list[RawDelivery]) -> None:
        """Match copies with the moves that published them."""
        for tag, _deliver, header, _body in batch:
            move = self._moves.get(_token(header))
            if move is None or epoch != self._ledger.epoch:
                # Its task may still run here: the task queue's delivery of it is held until that has ended.
                logger.info("An unknown copy came from a lease queue and goes back to its task queue")
                self._ends.hand_on(epoch, tag)
                continue
            move.tag = tag
            self._complete(_token(header), move)

    # -- renewing ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the ages of deliveries until cancelled, and move what is due."""
        if self._timeouts.configured <= 0:
            return
        while True:
            shortest = min(self._ages.values(), default=0.0)
            await asyncio.sleep(lease.look_interval(2 * shortest) if shortest else _IDLE)
            await self.renew()

    async def renew(self) -> None:
        """Move every delivery that has become too old, opening the lease queues that this needs."""
        due = self._due(self._loop.time())
        for name in {delivery.queue for delivery in due}:
            if not await self._ready(name):
                due = [delivery for delivery in due if delivery.queue != name]
        self._moving.update(due)
        await self._make_room()
        for delivery in due:
            # It may have ended meanwhile, or its session.
            if delivery in self._moving and not (delivery.state not in _ENDED and self._move(delivery)):
                self._moving.discard(delivery)

    def _due(self, now: float) -> list[Delivery]:
        self._marks.note(self._ledger.newest, now)
        self._drop_overdue(now)
        ages = self._ages = self._renewal_ages()
        if not ages:
            return []
        oldest = self._marks.newest_of_age(min(ages.values()), now)
        return [
            delivery
            for delivery in self._ledger.up_to(oldest)
            if not delivery.acked
            and delivery not in self._moving
            and self._marks.most_age(delivery.tag, now) >= self._age_to_move(delivery)
        ]

    def _drop_overdue(self, now: float) -> None:
        """Make the move of a delivery again whose copy went back to the task queue before it came here."""
        for token, move in list(self._moves.items()):
            if move.confirmed and now - move.began > _OVERDUE:
                del self._moves[token]
                self._moving.discard(move.delivery)
                logger.warning("A copy did not come from the lease queue %r in time; it is made again", move.queue)

    def _renewal_ages(self) -> dict[str, float]:
        """Ask each time: what kind a queue is the broker says only once it is declared."""
        version, kinds = self._link.server_version, self._link.refusals
        if self._link.session is None:
            return {}
        lengths = {
            name: self._timeouts.lease_of(queue, version, quorum=kinds.is_quorum(name))
            for name, queue in self._queues.items()
        }
        return {name: lease.renewal_age(seconds) for name, seconds in lengths.items() if seconds > 0}

    def _age_to_move(self, delivery: Delivery) -> float:
        """Seconds. A lease queue names no timeout of its own."""
        if delivery.lease:
            return lease.renewal_age(self._timeouts.configured)
        return self._ages.get(delivery.queue, math.inf)

    async def _ready(self, name: str) -> bool:
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
            "are delivered twice. Allow this user to configure turbo.lease.*, or raise the timeout",
            name,
            queue.name,
        )
        return False

    def _move(self, delivery: Delivery) -> bool:
        """Publish the copy; False for a message that cannot be read, which a child is about to reject."""
        try:
            properties, size = decode_header(delivery.header)
        except TableError:
            return False
        token = f"{self._worker}.{next(self._numbers)}"
        properties.headers = {**(properties.headers or {}), LEASE: token}
        if delivery.state is State.STARTED:
            # What comes back of a running task has lost the worker that ran it: it counts as a death of a child does.
            properties.headers[poison.DELIVERIES] = poison.deaths(properties.headers) + 1
            properties.headers[poison.REASON] = "the worker that ran it was lost"
        queue = self._open[delivery.queue].name
        move = self._moves[token] = _Move(delivery, queue, self._loop.time())
        self._outbox.publish(
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
        if result is Published.RETURNED:
            self.lost_queue(move.queue)
        if not self._failing:
            self._failing = True
            logger.error(
                "A message of queue %r is held for long and could not be copied to its lease queue (%s). It is tried "
                "again; after the broker's consumer timeout the message is delivered to another worker as well",
                move.delivery.queue,
                result.name.lower(),
            )

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
            return
        original = delivery.tag
        self._ledger.replace_tag(delivery, move.tag, move.queue)
        self._link.ack(epoch, original)
        self.moved += 1
        logger.debug("Delivery %d of queue %r continues as %d on a lease", original, delivery.queue, move.tag)

    async def close(self) -> None:
        """Delete the lease queues of a worker that ends in order; what may still hold a message expires later."""
        if self._ledger.leased or self._moves or self._ends.passing_on or self._ends.returning:
            return
        for queue in self._open.values():
            await self._own.delete_lease(queue)


def _token(header: bytes) -> str:
    """The token in a copy's headers; empty where there is none."""
    try:
        properties, _size = decode_header(header)
    except TableError:
        return ""
    return str((properties.headers or {}).get(LEASE, ""))
