"""What becomes of a delivery on receipt: to the dispatcher, on the ETA shelf, or answered at once.

Runs in the master. Before it: ``amqp.link`` with batches of raw deliveries. After it: ``master.dispatcher`` for
nearly all, ``master.eta`` for those that are not due, ``master.settlement`` for those that have expired.
``protocol.peek`` looks at each header; only one in which something is set is decoded. The child decodes them all
and has the last word.

A lost connection voids its tags: what no child has claimed is dropped here, since the broker delivers it again;
what runs goes on. A redelivered copy of a task that still runs here is held until that run ends
(``master.twins``), so that a blip does not make one task run twice at the same time.
"""

from __future__ import annotations

import functools
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.master.inflight import Delivery
from turbo.master.receipts import Receipts
from turbo.policy.admission import Admission, admit
from turbo.policy.delivery_lifecycle import State
from turbo.policy.revoked import Revoked
from turbo.policy.settling import Ending
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.peek import ETA, EXPIRES, UNKNOWN, peek

if TYPE_CHECKING:
    from turbo.amqp.frame_splitter import RawDelivery
    from turbo.master.dispatcher import Dispatcher
    from turbo.master.eta import EtaShelf
    from turbo.master.inflight import Ledger
    from turbo.master.judge import Judge
    from turbo.master.outcomes import Outcomes
    from turbo.master.revoking import Revoking
    from turbo.master.settlement import Settlement
    from turbo.master.twins import Twins
    from turbo.master.verdicts import Verdicts

logger = logging.getLogger("celery.worker.strategy")

_LOOK = ETA | EXPIRES | UNKNOWN


class Intake:
    """The sink of the consume connection."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        settlement: Settlement,
        verdicts: Verdicts,
        judge: Judge,
        twins: Twins,
        outcomes: Outcomes,
        *,
        verbose: bool,
    ) -> None:
        """``verbose``: log a line for each message received, which costs a decode."""
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._settlement = settlement
        self._verdicts = verdicts
        self._judge = judge
        self._twins = twins
        self._outcomes = outcomes
        self._verbose = verbose
        self._receipts = Receipts(judge, verdicts, self._told)
        self._shelf: EtaShelf | None = None
        self._revoking: Revoking | None = None
        self._revoked = Revoked()
        #: Stop taking part: late deliveries are left unacknowledged, the broker gets them back at the close.
        self.closed = False
        self.bytes_received = 0

    def shelve_on(self, shelf: EtaShelf) -> None:
        """Name the shelf; it calls :meth:`due` back, so it is made after this object."""
        self._shelf = shelf

    def refuse_through(self, revoking: Revoking) -> None:
        """Name who discards revoked tasks; it works on what this object has handed on."""
        self._revoking = revoking
        self._revoked = revoking.revoked

    # -- amqp.session.DeliverySink -----------------------------------------------------------------------

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:  # hot: bench drain
        """Take in a batch."""
        if self.closed:
            return
        ledger, dispatcher = self._ledger, self._dispatcher
        slow = self._verbose or self._twins.watching or self._revoked.any or self._receipts.wanted
        for tag, deliver, header, body in batch:
            delivery = Delivery(epoch, queue, tag, deliver, header, body)
            ledger.add(delivery)
            if slow and self._looked_at(delivery):
                continue
            if peek(header) & _LOOK:
                self._admit(delivery)
            else:
                dispatcher.submit(delivery)
        if failpoint.ENABLED:
            failpoint.hit("master.got")
        dispatcher.balance()

    def on_session_up(self, epoch: int) -> None:
        """A new session: tags count from one again."""
        self._ledger.begin_epoch(epoch)

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """Void every tag of the session."""
        if epoch != self._ledger.epoch:
            return
        unstarted = self._dispatcher.withdraw()
        # Acknowledged, and its first child died before the body: nobody but this worker has it.
        kept = [delivery for delivery in unstarted if delivery.acked]
        dropped = [delivery for delivery in unstarted if not delivery.acked]
        if self._shelf is not None:
            dropped += self._shelf.withdraw()
        dropped += self._twins.withdraw()
        dropped += self._receipts.withdraw()
        for delivery in dropped:
            delivery.move(State.VOID)
        self._dispatcher.resubmit(kept)
        lost = self._ledger.void_epoch()
        running = [d for d in lost if d.state is not State.VOID]
        self._twins.watch(running)
        if lost:
            logger.warning(
                "Session %d lost with %d unsettled messages; %d of them run on here", epoch, len(lost), len(running)
            )
        if kept:
            self._dispatcher.pump()

    def on_consumer_cancelled(self, epoch: int, queue: str) -> None:
        """The link revives the consumer itself."""
        logger.warning("The broker cancelled the consumer of queue %r; it is being set up again", queue)

    # -- inside ------------------------------------------------------------------------------------------

    def due(self, delivery: Delivery) -> None:
        """The shelf says that a held delivery's time has come: check its expiry once more, then hand over."""
        delivery.move(State.READY)
        self._admit(delivery)
        self._dispatcher.balance()

    def _looked_at(self, delivery: Delivery) -> bool:
        """The rarely needed looks; True when the delivery is dealt with."""
        if self._verbose:
            message = self._verdicts.message(delivery)
            if message is not None:
                data = {
                    "id": message.id,
                    "name": message.shadow or message.task,
                    "args": message.argsrepr,
                    "kwargs": message.kwargsrepr,
                    "eta": message.eta,
                }
                logger.info("Task %s received", message.label, extra={"data": data})
        if self._revoked.any and self._refused(delivery):
            return True
        if (
            self._twins.watching
            and parse_deliver(delivery.deliver).redelivered
            and self._twins.hold(delivery, self._verdicts.message(delivery))
        ):
            return True
        return self._receipts.wanted and self._receipts.hold(delivery)

    def _refused(self, delivery: Delivery) -> bool:
        return self._revoking is not None and self._revoking.refuses(delivery)

    def _told(self, delivery: Delivery) -> None:
        """The app has heard of it. At a stop it stays unacknowledged, and goes back with the connection."""
        if not self.closed:
            self._admit(delivery)
            self._dispatcher.balance()

    def _admit(self, delivery: Delivery) -> None:
        """Decode and decide: run, hold or expired. What cannot be decoded is the child's to refuse."""
        if self._revoked.any and self._refused(delivery):
            return  # revoked while it was held, or while the app was told of it
        message = self._verdicts.message(delivery)
        if message is None or not (message.eta or message.expires):
            self._dispatcher.submit(delivery)
            return
        if message.utc is False:
            # Naive times of an old message are in the app's zone, which only the child knows.
            self._dispatcher.submit(delivery)
            return
        eta = message.eta
        decision = admit(datetime.now(UTC), eta=eta, expires=message.expires)
        if decision is Admission.EXPIRED:
            logger.info("Discarding revoked task: %s: it has expired", message.label)
            self._outcomes.endings[Ending.REVOKED] += 1
            self._judge.revoked(delivery, "expired", functools.partial(self._settlement.finish, delivery))
        elif decision is Admission.HOLD and eta is not None and self._shelf is not None:
            delivery.move(State.HELD)
            delivery.due = eta.timestamp()
            self._shelf.hold(delivery)
        else:
            self._dispatcher.submit(delivery)
