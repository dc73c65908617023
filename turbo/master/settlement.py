"""Brings a delivery whose outcome is known to its settlement: publishes confirmed, result stored, then the verb.

Runs in the master. Before it: ``master.outcomes`` (what a child reported) and ``master.verdicts`` (what the master
decided itself). After it: ``amqp.link`` carries out the verb. The order is a promise: nothing is acknowledged
before everything that its task sent is confirmed and its result is stored. A task of which something was refused has
failed: run again, it would send all the rest again, and be refused again. One of which something could not be sent at
all, since the worker ends, runs again; likewise one whose result was not stored, unless that is hopeless. A task's own
next attempt leaves only when the store has answered for the states of this one: it could run elsewhere at once, and end
before they are stored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.amqp.outbox import Published
from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.exceptions import OperationalError
from turbo.master.final_steps import FinalSteps
from turbo.master.publishing_hold import PublishingHold
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.link import BrokerLink
    from turbo.amqp.outbox import Outbox
    from turbo.backends.store import ResultStore
    from turbo.master.dispatcher import Dispatcher
    from turbo.master.inflight import Delivery, Ledger
    from turbo.master.lease_ends import LeaseEnds
    from turbo.master.verdicts import Verdicts
    from turbo.ring.frames import Asked, PublishRequest, StoreRequest

logger = logging.getLogger(__name__)


class Settlement:
    """Waits for what must come before a settlement, then settles, each delivery exactly once."""

    def __init__(
        self,
        outbox: Outbox,
        store: ResultStore,
        ledger: Ledger,
        dispatcher: Dispatcher,
        verdicts: Verdicts,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._verdicts = verdicts
        #: Next attempts that wait for states of the attempt before.
        self._waiting: dict[Delivery, list[tuple[PublishRequest, bool]]] = {}
        self.final_steps = FinalSteps(self.store, ledger, verdicts)
        self.failed_publishes = 0
        self._hold = PublishingHold(outbox, dispatcher)

    def settle_through(self, link: BrokerLink, lease_ends: LeaseEnds) -> None:
        """Name the connection, whose sink needs this object first."""
        self._link = link
        self.final_steps.settle_through(link, lease_ends)

    def ack_early(self, delivery: Delivery) -> None:
        """The child accepted the task: acknowledge now, whatever becomes of it."""
        if not delivery.acked:
            delivery.acked = True
            if delivery.epoch == self._ledger.epoch:
                self._link.ack(delivery.epoch, delivery.tag)

    def publish(self, delivery: Delivery | None, request: PublishRequest, *, essential: bool = False) -> None:
        """Send what a task published; its own settlement waits for the confirm.

        When the broker does not take the message, at once or after the outbox's patience, the task has failed. Where
        it could not be sent at all, the delivery is requeued, and fails where it was acknowledged before. An
        ``essential`` message must also have found a queue.
        """
        if delivery is None:
            self._outbox.publish(
                request.exchange,
                request.routing_key,
                request.header,
                request.body,
                mandatory=request.mandatory,
                patient=True,
            )
            return
        delivery.unconfirmed += 1
        if request.after_states:
            # It ends as one that is tried again, also if its child dies before it has said so, perhaps in a handler.
            delivery.kept = Verb.ACK
        if request.after_states and delivery.unstored:
            self._waiting.setdefault(delivery, []).append((request, essential))
        else:
            self._send(delivery, request, essential)

    def _send(self, delivery: Delivery, request: PublishRequest, essential: bool) -> None:
        def confirmed(result: Published) -> None:
            self._confirmed(delivery, request, result, essential)

        self._outbox.publish(
            request.exchange,
            request.routing_key,
            request.header,
            request.body,
            mandatory=request.mandatory,
            patient=True,
            done=confirmed,
        )
        self._hold.look()

    def state(
        self, delivery: Delivery | None, request: StoreRequest, answer: Callable[[bool], None] | None = None
    ) -> None:
        """Store a state on the way of a task; its next attempt waits until the store has answered.

        So does ``answer``, which is told whether it is stored.
        """
        if delivery is None:
            self.store(request)
            return
        delivery.unstored += 1

        def stored(outcome: StoreOutcome) -> None:
            # One that could not be stored has been logged by the store; the next attempt must not be lost as well.
            delivery.unstored -= 1
            if not delivery.unstored:
                self._send_waiting(delivery)
            if answer is not None:
                answer(outcome.ok)

        self.store(request, stored)

    def outcome(self, delivery: Delivery, asked: Asked, answer: Callable[[bool], None]) -> None:
        """Store the document that a task waits for; ``answer`` is called once with whether it is stored.

        An outcome is stored when the broker has confirmed all that the task has sent; its verb comes with the DONE
        record, after the task's handlers. An outcome may have no document, or have it stored before.
        """
        if asked.verb is None:
            assert asked.store is not None
            self.state(delivery, asked.store, answer)
            return
        Verb(asked.verb)  # ValueError here, where it condemns the child that made it up
        delivery.asked = asked, answer
        if not delivery.unconfirmed:
            self._store_asked(delivery)

    def send_all_waiting(self) -> None:
        """Send next attempts although their states are not stored: the worker ends, and they would end with it."""
        for delivery in list(self._waiting):
            self._send_waiting(delivery)

    def store(self, request: StoreRequest, then: Callable[[StoreOutcome], None] | None = None) -> None:
        """Store one document; ``then`` is called once, when the store has answered."""
        self._store.store(
            ResultWrite(
                request.task_id,
                request.payload,
                request.guard,
                request.reply_to or None,
                request.correlation_id or None,
                request.content_type,
                request.content_encoding,
            ),
            then or _nothing,
        )
        if self._store.congested:
            # Outcomes are never dropped, so no more may be made: dispatch goes on when the store is relieved.
            self._dispatcher.pause("results")

    def finish(self, delivery: Delivery, verb: Verb, store: StoreRequest | None) -> None:
        """The outcome of a delivery is known: settle it as soon as its publishes and its result are safe."""
        delivery.move(State.FINISHING)
        delivery.final = verb
        delivery.store = store
        delivery.asked = None
        if not delivery.unconfirmed:
            self._store_then_settle(delivery)

    def still_ours(self, delivery: Delivery) -> bool:
        """Whether a delivery that did not start, and is with no child any more, may wait here for another.

        One of a lost connection may not: the broker has it again. It ends here, and its copies may run. What was
        acknowledged is nobody else's.
        """
        if delivery.acked or delivery.epoch == self._ledger.epoch:
            return True
        self.final_steps.end_void(delivery)
        return False

    # -- inside ------------------------------------------------------------------------------------------

    def _send_waiting(self, delivery: Delivery) -> None:
        for request, essential in self._waiting.pop(delivery, ()):
            self._send(delivery, request, essential)

    def _confirmed(self, delivery: Delivery, request: PublishRequest, result: Published, essential: bool) -> None:
        delivery.unconfirmed -= 1
        if result is not Published.CONFIRMED:
            self.failed_publishes += 1
            who = "the worker" if essential else "a task"
            what = f"sent to exchange {request.exchange!r} with routing key {request.routing_key!r}"
            how = self._outbox.refusal or result.name.lower()
            why = f"A message that {who} {what} was not taken by the broker: {how}"
            if not delivery.unsent:
                # The first says it: a task may send any number.
                logger.error(why)
            if essential or result is not Published.RETURNED:
                delivery.unsent = why
                delivery.hopeless |= result is not Published.FAILED
        if delivery.asked is not None and not delivery.unconfirmed:
            self._store_asked(delivery)
        elif delivery.final is not None and not delivery.unconfirmed:
            if failpoint.ENABLED:
                failpoint.hit("master.followups_confirmed")
            self._store_then_settle(delivery)

    def _store_asked(self, delivery: Delivery) -> None:
        if delivery.asked is None:
            return
        asked, answer = delivery.asked
        delivery.asked = None
        fails = asked.store is not None and asked.store.guard and asked.verb is not None
        if delivery.unsent and not (fails and (delivery.acked or delivery.hopeless)):
            answer(False)
            return
        delivery.failed = fails
        if asked.store is None:
            delivery.kept = None if asked.verb is None else Verb(asked.verb)
            answer(True)
            return

        def stored(outcome: StoreOutcome) -> None:
            if failpoint.ENABLED:
                failpoint.hit("master.outcome_stored")
            if outcome.ok and asked.verb is not None:
                delivery.kept = Verb(asked.verb)
            delivery.unkept = not outcome.ok
            delivery.hopeless |= outcome is StoreOutcome.REFUSED
            answer(outcome.ok)

        self.store(asked.store, stored)

    def _store_then_settle(self, delivery: Delivery) -> None:
        if delivery.unsent and (delivery.acked or delivery.hopeless):
            # Part of the task's effect is lost, and it cannot run again, or would be refused again. One that has failed
            # by itself stays as it is.
            if not delivery.failed and (delivery.store is None or not delivery.store.guard):
                self.final_steps.fail(delivery, OperationalError(delivery.unsent))
                return
        elif delivery.unsent:
            # As above, but it can: a result would say that all is done.
            delivery.final, delivery.store = Verb.REQUEUE, None
        elif delivery.unkept:
            # As below, also when the child told the rest of its end in the meantime.
            self.final_steps.end_unstored(delivery)
            return
        request = delivery.store
        if request is None:
            self.final_steps.settle(delivery)
            return
        delivery.store = None

        def stored(outcome: StoreOutcome) -> None:
            if failpoint.ENABLED:
                failpoint.hit("master.result_stored")
            if outcome.ok:
                self.final_steps.settle(delivery)
                return
            delivery.hopeless |= outcome is StoreOutcome.REFUSED
            self.final_steps.end_unstored(delivery, self._outbox.refusal)

        self.store(request, stored)


def _nothing(_outcome: StoreOutcome) -> None:
    """For documents that nothing waits for: the store has logged a failure itself."""
