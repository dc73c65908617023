"""Takes in received deliveries and gives them to the dispatcher.

Some are held for their ETA, others settled at once.

Runs in the master. Before it: ``amqp.consume.link`` with batches of raw deliveries. After it:
``master.delivery.dispatcher`` for nearly all of them, ``master.delivery.eta`` for those that are not due,
``master.outcome.settlement`` for those that have expired. ``protocol.peek`` looks at each header. Only a header with
one of a few fields set is decoded here, that of a redelivered message, and every header if each message is logged or
has to be compared with something. The child decodes every message and makes the final decision. It must never block
the loop, and never settle what belongs to an older session.

A lost connection voids its tags. What no child has claimed is dropped here, because the broker delivers it again; what
runs goes on. A redelivered copy of a task that still runs here is held until that run ends
(``master.delivery.redelivery_guard``), so a short outage does not make one task run twice at the same time.
"""

from __future__ import annotations

import functools
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.master.delivery import units
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.received_hook import ReceivedHook
from turbo.master.delivery.recognition import is_redelivered, recognise, restore
from turbo.master.delivery.waiting_places import WaitingPlaces
from turbo.policy.admission import Admission, admit
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.own_headers import LEASE, ROUTE
from turbo.protocol.peek import AGAIN, ETA, EXPIRES, UNKNOWN, peek

if TYPE_CHECKING:
    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.master.delivery.batches import Batches
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.leases import Leases
    from turbo.master.delivery.ledger import Ledger
    from turbo.master.delivery.parking import Parking
    from turbo.master.delivery.paused_queues import PausedQueues
    from turbo.master.delivery.rate_limits import RateLimits
    from turbo.master.delivery.redelivery_guard import RedeliveryGuard
    from turbo.master.delivery.returning import Returns
    from turbo.master.delivery.revoked_tasks import RevokedTasks
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.outcomes import Outcomes
    from turbo.master.outcome.settlement import Settlement

logger = logging.getLogger("celery.worker.strategy")

_LOOK = ETA | EXPIRES | UNKNOWN | AGAIN
_LEASE = LEASE.encode()


class Intake:
    """Decides what to do with each delivery of the consume connection."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        settlement: Settlement,
        failure_documents: FailureDocuments,
        hooks: OutcomeHooks,
        redelivery_guard: RedeliveryGuard,
        outcomes: Outcomes,
        leases: Leases,
        returns: Returns,
        shelf: EtaShelf,
        rate_limits: RateLimits,
        batches: Batches,
        revoked_tasks: RevokedTasks,
        paused_queues: PausedQueues,
        *,
        parking: Parking | None = None,
        verbose: bool,
    ) -> None:
        """``verbose`` logs each message, which costs a decode; ``parking`` may be None."""
        self._leases, self._returns = leases, returns
        self._ledger, self._dispatcher = ledger, dispatcher
        self._settlement, self._events = settlement, settlement.events
        self._failure_documents = failure_documents
        self._hooks = hooks
        self._redelivery_guard = redelivery_guard
        self._outcomes = outcomes
        self._verbose = verbose
        self._received_hook = ReceivedHook(hooks, failure_documents, self._after_received_hook)
        self._shelf = shelf
        shelf.on_due.add(self.due)
        self._batches = batches
        #: Takes what may run now. Without tasks that run in batches, deliveries skip those.
        self._receiver = batches if batches.any else dispatcher
        self._rate_limits = rate_limits
        rate_limits.on_ready.add(self._ready)
        self._parking = parking
        self._paused_queues = paused_queues
        held_by = (returns, redelivery_guard, self._received_hook, shelf, rate_limits, batches, paused_queues)
        self.places = WaitingPlaces(ledger, dispatcher, *held_by, parking)
        self._revoked_tasks, self._revoked = revoked_tasks, revoked_tasks.revoked
        #: Whether to ignore deliveries: they stay unacknowledged and return to the broker when the connection closes.
        self.closed = False
        self.bytes_received = 0

    # -- amqp.consume.session.DeliverySink ---------------------------------------------------------------

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:  # hot: bench drain
        """Take in a batch."""
        if self.closed:
            return
        ledger, dispatcher = self._ledger, self._dispatcher
        # While no task has a rate limit, the limits cost nothing.
        submit = self._rate_limits.submit if self._rate_limits.any else self._receiver.submit
        tells = self._events.on
        slow = self._verbose or self._redelivery_guard.watching or self._revoked.any or self._received_hook.wanted
        counted, paused = self._returns.counted(queue), queue in self._paused_queues.names
        # All came through one consumer, so the redelivered bit is at the same place in each: after the length of the
        # consumer tag (one byte), the consumer tag and the delivery tag (eight bytes).
        bits = batch[0][1][0] + 9 if batch else 0
        for tag, deliver, header, body in batch:
            delivery = Delivery(epoch, queue, tag, deliver, header, body)
            ledger.add(delivery)
            if counted and self._returns.is_near_limit(delivery):
                # `renew` publishes a copy, whose count restarts; mark it as delivered before.
                recognise(delivery, self._failure_documents)
                self._returns.renew(delivery)
                continue
            if paused:
                self._paused_queues.hold(delivery, told=False)
                continue
            if (slow or deliver[bits]) and self._handled(delivery):
                continue
            if peek(header) & _LOOK:
                self._admit(delivery)
            else:
                if tells:
                    self._events.received(delivery)
                submit(delivery)
        if failpoint.ENABLED:
            failpoint.hit("master.got")
        dispatcher.balance()

    def on_session_up(self, epoch: int) -> None:
        """Begin a new session: tags count from one again."""
        self._ledger.begin_epoch(epoch)
        self._leases.begin_session()

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """Void every tag of the session."""
        if epoch != self._ledger.epoch:
            return
        unstarted = units.flat(self._dispatcher.withdraw())
        # Already acknowledged, and its first child died before the body began: only this worker still has it.
        kept = [delivery for delivery in unstarted if delivery.acked]
        dropped = [delivery for delivery in unstarted if not delivery.acked]
        dropped += self.places.drop_held()
        self._leases.end_session()
        for delivery in dropped:
            delivery.move(State.VOID)
        self._dispatcher.resubmit(kept)
        lost = self._ledger.void_epoch()
        running = [d for d in lost if d.state is not State.VOID]
        self._redelivery_guard.watch(running)
        if lost:
            logger.warning(
                "Session %d lost with %d unsettled messages; %d of them are still running here",
                epoch,
                len(lost),
                len(running),
            )
        if kept:
            self._dispatcher.pump()

    def on_consumer_cancelled(self, epoch: int, queue: str, consumer_tag: str) -> list[int]:
        """Void the tags of one consumer, as a lost session voids all tags.

        Running tasks go on. Return those tags. Redelivered copies of running tasks are held.
        """
        if epoch != self._ledger.epoch:
            return []
        self._leases.copies.lost_queue(queue)
        gone = {d for d in self._ledger if not d.acked and _came_by(d, queue, consumer_tag)}
        tags = [delivery.tag for delivery in gone]
        for delivery in self.places.take_out(gone):
            delivery.move(State.VOID)
        self._ledger.void(gone)
        self._redelivery_guard.watch([d for d in gone if d.state is not State.VOID])
        return tags

    def on_lease_copies(self, epoch: int, batch: list[RawDelivery]) -> None:
        """Take in lease copies of deliveries that this worker holds."""
        self._leases.copies.take(epoch, batch)

    # -- called by master.delivery.eta -------------------------------------------------------------------

    def due(self, delivery: Delivery) -> None:
        """Check a held delivery's expiry when it is due, then hand it on."""
        delivery.move(delivery.waits_as)
        self._admit(delivery)
        self._dispatcher.balance()

    # -- called by master.delivery.queue_changes ---------------------------------------------------------

    def take_paused(self) -> list[Delivery]:
        """Return what is held because its queue is paused, and forget it."""
        return self._paused_queues.withdraw()

    def take_up(self, queue: str) -> None:
        """Take in what was held of a queue, which is no longer paused."""
        for delivery, told in self._paused_queues.resume(queue):
            if not self._handled(delivery, told=told):
                self._admit(delivery)
        self._dispatcher.balance()

    # -- inside ------------------------------------------------------------------------------------------

    def _ready(self, delivery: Delivery) -> None:
        """Hand on a delivery that waited for its rate, if not expired or revoked."""
        if self._may_run(delivery):
            self._receiver.submit(delivery)
            self._dispatcher.balance()

    def _handled(self, delivery: Delivery, *, told: bool = False) -> bool:
        """Do the checks that few deliveries need; True if it has been dealt with.

        ``told``: log and hook have it already.
        """
        if self._verbose and not told:
            message = self._failure_documents.message(delivery)
            if message is not None:
                data = {
                    "id": message.id,
                    "name": message.shadow or message.task,
                    "args": message.argsrepr,
                    "kwargs": message.kwargsrepr,
                    "eta": message.eta,
                }
                logger.info("Task %s received", message.label, extra={"data": data})
        if self._revoked.any and self._revoked_tasks.refuses(delivery):
            return True
        if is_redelivered(delivery.deliver) or _LEASE in delivery.header:
            recognise(delivery, self._failure_documents)
            if self._redelivery_guard.watching and self._redelivery_guard.hold(
                delivery, self._failure_documents.message(delivery)
            ):
                return True
        return not told and self._received_hook.wanted and self._received_hook.hold(delivery)

    def _after_received_hook(self, delivery: Delivery) -> None:
        """Continue after the app's received hook; during a stop, keep the delivery."""
        if not self.closed:
            self._admit(delivery)
            self._dispatcher.balance()

    def _admit(self, delivery: Delivery) -> None:
        """Look at the headers, then hand the delivery on, at once or rate-limited."""
        if self._may_run(delivery):
            if self._events.on:
                self._events.received(delivery)
            self._rate_limits.submit(delivery)

    def _may_run(self, delivery: Delivery) -> bool:
        """Decode and decide: run (True), hold or expire. Children refuse bad ones."""
        if self._revoked.any and self._revoked_tasks.refuses(delivery):
            return False  # it was revoked while it was held, or while the received hook ran
        message = self._failure_documents.message(delivery)
        headers = (message.properties.headers if message is not None else None) or {}
        if LEASE in headers:
            recognise(delivery, self._failure_documents)
        elif ROUTE in headers:
            restore(delivery)
        message = self._failure_documents.message(delivery)
        if message is None or not (message.eta or message.expires):
            return True
        if message.utc is False:
            # The times of a message without UTC are in the app's time zone, which only the child knows.
            return True
        eta = message.eta
        decision = admit(datetime.now(UTC), eta=eta, expires=message.expires)
        if decision is Admission.EXPIRED:
            logger.info("Discarding revoked task: %s: it has expired", message.label)
            self._outcomes.endings[Ending.REVOKED] += 1
            if self._events.on:
                self._events.revoked(delivery, expired=True)
            self._hooks.revoked(delivery, "expired", functools.partial(self._settlement.finish, delivery))
        elif decision is Admission.HOLD and eta is not None:
            delivery.move(State.HELD)
            delivery.due = eta.timestamp()
            if self._parking is None or not self._parking.park(delivery):
                if self._events.on:
                    self._events.received(delivery)
                self._shelf.hold(delivery)
        else:
            return True
        return False


def _came_by(delivery: Delivery, queue: str, consumer_tag: str) -> bool:
    """Return whether the current tag came from this consumer.

    It is the tag of the message, or of its lease copy.
    """
    if delivery.lease:
        return delivery.lease == queue
    return delivery.queue == queue and parse_deliver(delivery.deliver).consumer_tag == consumer_tag
