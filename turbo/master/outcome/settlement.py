"""Settles a delivery after its confirms and the storing of its result.

Its outcome is known by then.

Runs in the master. Before it: ``master.outcome.outcomes`` (what a child reported) and ``master.outcome.hooks`` (what
was decided in the master). After it: ``amqp.consume.link``, which carries out the verb. The table ``policy.finishing``
says what comes next for a delivery, and why; this module carries out the steps and notes their results. It must never
acknowledge a late-acked message before the table says so. Only an early ack (``ack_early``, called by
``master.outcome.outcomes`` when the child reports STARTED) comes before that.

A retry is sent only after the store has answered every state write of this attempt; otherwise the retry could run
elsewhere and end first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.amqp.publish.publisher import Published
from turbo.backends.store import StoreOutcome
from turbo.exceptions import OperationalError
from turbo.master.outcome.publishing_hold import PublishingHold
from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.policy.finishing import NO_FACTS, Question, Step, next_step
from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.consume.link import BrokerLink
    from turbo.amqp.publish.publisher import Publisher
    from turbo.master.delivery.lease_ends import LeaseEnds
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.outcome.hooks import OutcomeHooks, Storing
    from turbo.master.outcome.interfaces import DispatcherLike
    from turbo.master.outcome.task_events import TaskEvents
    from turbo.policy.finishing import Facts
    from turbo.ring.frames import Asked, PublishRequest, StoreRequest

logger = logging.getLogger(__name__)


class FinalSteps:
    """The last steps of a delivery: a late failure, and the verb at the broker.

    The failure was found after the end of the task. It must never acknowledge a tag of another session.
    """

    def __init__(
        self,
        store: Storing,
        ledger: Ledger,
        hooks: OutcomeHooks,
        link: BrokerLink,
        lease_ends: LeaseEnds,
        on_void_ended: Observers[Delivery, Verb | None],
        events: TaskEvents,
    ) -> None:
        """``on_void_ended``: called when a delivery of a lost connection ended.

        It gets the delivery and its verb (None: never ran).
        """
        self._store = store
        self._ledger = ledger
        self._hooks = hooks
        self._link = link
        self._lease_ends = lease_ends
        self._on_void_ended = on_void_ended
        self._events = events

    def fail(self, delivery: Delivery, error: BaseException) -> None:
        """End a task that failed after its child reported its end: ask, settle.

        The hooks are asked.
        """

        def decided(verb: Verb, store: StoreRequest | None) -> None:
            if self._events.on:
                self._events.lost(delivery, Ending.FAILURE, verb, error)
            if store is None:
                self.settle(delivery, verb)
            else:
                # The delivery is settled whatever the store answers: nothing better can be done with it.
                self._store(store, lambda _outcome: self.settle(delivery, verb))

        self._hooks.lost(delivery, Ending.FAILURE, error, 0, decided)

    def settle(self, delivery: Delivery, verb: Verb) -> None:
        """Carry out the verb at the broker.

        Of a delivery whose connection is lost, only note its end.
        """
        if delivery.end_events:
            self._events.settled(delivery, verb)
        if delivery.epoch != self._ledger.epoch:
            self.end_void(delivery, verb)
            return
        delivery.move(State.SETTLED)
        self._ledger.remove(delivery)
        if delivery.acked:
            return
        if failpoint.ENABLED:
            failpoint.hit("master.before_ack")
        if delivery.lease:
            self._lease_ends.settle(delivery, verb)
        elif verb is Verb.ACK:
            self._link.ack(delivery.epoch, delivery.tag)
        else:
            self._link.reject(delivery.epoch, delivery.tag, verb is Verb.REQUEUE)

    def end_void(self, delivery: Delivery, verb: Verb | None = None) -> None:
        """Forget a delivery of a lost connection that ended with ``verb``.

        None: it never ran. Its copies may run.
        """
        delivery.move(State.VOID)
        self._ledger.remove(delivery)
        self._on_void_ended(delivery, verb)


class Settlement:
    """Settles each delivery exactly once, after everything that comes before."""

    def __init__(
        self,
        publisher: Publisher,
        store: Storing,
        ledger: Ledger,
        dispatcher: DispatcherLike,
        hooks: OutcomeHooks,
        link: BrokerLink,
        lease_ends: LeaseEnds,
        events: TaskEvents,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._ledger = ledger
        self._link = link
        #: What monitors are told of the tasks that are settled here.
        self.events = events
        #: Retries that wait until the store has answered every state write of the attempt before.
        self._waiting: dict[Delivery, list[tuple[PublishRequest, bool]]] = {}
        #: Called with a delivery and its verb (None: it never ran) when a delivery of a lost connection has ended.
        self.on_void_ended: Observers[Delivery, Verb | None] = Observers()
        self._final_steps = FinalSteps(store, ledger, hooks, link, lease_ends, self.on_void_ended, events)
        self._hold = PublishingHold(publisher, dispatcher)

    def ack_early(self, delivery: Delivery) -> None:
        """Acknowledge a delivery at the start of its task, whatever comes of the task."""
        if not delivery.acked:
            delivery.acked = True
            if delivery.epoch == self._ledger.epoch:
                self._link.ack(delivery.epoch, delivery.tag)

    def publish(self, delivery: Delivery | None, request: PublishRequest, *, essential: bool = False) -> None:
        """Send a message of a task; the task's settlement waits for the confirm.

        When the broker refuses the message, at once or after the publisher's retries, the task has failed. When the
        message could not be sent at all, the delivery is requeued; one that was acknowledged before fails. An
        ``essential`` message must also reach a queue.
        """
        if delivery is None:
            self._publisher.publish(
                request.exchange,
                request.routing_key,
                request.header,
                request.body,
                mandatory=request.mandatory,
                patient=True,
            )
            return
        facts = delivery.own_facts()
        facts.unconfirmed += 1
        # What the body of a batch sends is sent for all its messages.
        others = [other for other in delivery.followers if other.state is State.STARTED] if delivery.followers else ()
        for follower in others:
            follower.own_facts().unconfirmed += 1
        if request.after_states:
            # Counts as retried even if the child dies in a handler before it reports the end of the task.
            facts.stored_verb = Verb.ACK
            facts.retried = True
        if request.after_states and facts.unstored:
            self._waiting.setdefault(delivery, []).append((request, essential))
        else:
            self._send(delivery, request, essential, others)

    def _send(
        self, delivery: Delivery, request: PublishRequest, essential: bool, others: Sequence[Delivery] = ()
    ) -> None:
        def confirmed(result: Published) -> None:
            self._confirmed(delivery, request, result, essential)
            for follower in others:
                self._confirmed(follower, request, result, essential)

        self._publisher.publish(
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
        """Store a state of a task that has not ended.

        Its retry waits until the store has answered. ``answer`` is then called with True if the state was stored.
        """
        if delivery is None:
            self._store(request, None)
            return
        facts = delivery.own_facts()
        facts.unstored += 1

        def stored(outcome: StoreOutcome) -> None:
            # If the state was not stored, the store has logged that; the retry is sent all the same.
            facts.unstored -= 1
            if not facts.unstored:
                self._send_waiting(delivery)
            if answer is not None:
                answer(outcome.ok)

        self._store(request, stored)

    def outcome(self, delivery: Delivery, asked: Asked, answer: Callable[[bool], None]) -> None:
        """Store the document that a task waits for.

        ``answer`` is then called once, with True if it was stored. An outcome is stored when the broker has confirmed
        everything that the task has sent. Its verb comes later, with the DONE record, after the task's handlers. An
        outcome may have no document, or one that is stored already.
        """
        if asked.verb is None:
            assert asked.store is not None
            self.state(delivery, asked.store, answer)
            return
        # An unknown verb raises ValueError here, and the child that wrote it is replaced.
        delivery.own_facts().question = Question(Verb(asked.verb), asked.store, answer)
        self._proceed(delivery)

    def send_all_waiting(self) -> None:
        """Send the retries that wait for the store; the worker's exit loses the rest."""
        for delivery in list(self._waiting):
            self._send_waiting(delivery)

    def finish(self, delivery: Delivery, verb: Verb, store: StoreRequest | None) -> None:
        """Settle a delivery by ``verb`` after its confirms and its ``store``."""
        delivery.move(State.FINISHING)
        # hot: bench drain. Most tasks have published and stored nothing, so the table's last row (SETTLE) applies.
        if store is None and delivery.facts is NO_FACTS:
            self._final_steps.settle(delivery, verb)
            return
        facts = delivery.own_facts()
        facts.verb, facts.document, facts.question = verb, store, None
        self._proceed(delivery)

    def keep_or_void(self, delivery: Delivery) -> bool:
        """Return True if an unstarted delivery may wait here for another child.

        Otherwise end it. A delivery of a lost connection ends here, because the broker has it again; its copies may
        run. An acknowledged delivery is always kept, because the broker has deleted it.
        """
        if delivery.acked or delivery.epoch == self._ledger.epoch:
            return True
        self._final_steps.end_void(delivery)
        return False

    # -- inside ------------------------------------------------------------------------------------------

    def _send_waiting(self, delivery: Delivery) -> None:
        for request, essential in self._waiting.pop(delivery, ()):
            self._send(delivery, request, essential)

    def _confirmed(self, delivery: Delivery, request: PublishRequest, result: Published, essential: bool) -> None:
        facts = delivery.own_facts()
        facts.unconfirmed -= 1
        if result is not Published.CONFIRMED:
            who = "the worker" if essential else "a task"
            what = f"sent to exchange {request.exchange!r} with routing key {request.routing_key!r}"
            how = self._publisher.refusal or result.name.lower()
            why = f"A message that {who} {what} was not taken by the broker: {how}"
            if not facts.unsent:
                # Only the first is logged: a task may send any number of messages.
                logger.error(why)
            # A task may publish to a key without a queue; its retry must reach a queue.
            if essential or result is not Published.RETURNED:
                facts.unsent = why
                facts.permanent |= result is not Published.FAILED
        if failpoint.ENABLED and facts.verb is not None and not facts.unconfirmed:
            failpoint.hit("master.followups_confirmed")
        self._proceed(delivery)

    def _proceed(self, delivery: Delivery) -> None:
        """Carry out the table's next step."""
        facts = delivery.facts
        step = next_step(facts, acked=delivery.acked)
        if step is Step.STORE:
            self._store_result(delivery, facts)
        elif step is Step.SETTLE:
            assert facts.verb is not None, "the table settles only what has a verb"
            self._final_steps.settle(delivery, facts.verb)
        elif step is Step.REQUEUE:
            self._final_steps.settle(delivery, Verb.REQUEUE)
        elif step is Step.FAIL_UNSENT:
            self._final_steps.fail(delivery, OperationalError(facts.unsent))
        elif step is Step.FAIL_UNSTORED:
            why = f": {facts.store_refusal}" if facts.store_refusal else ""
            self._final_steps.fail(delivery, OperationalError(f"its result cannot be stored{why}"))
        elif step is not Step.WAIT:
            self._answer(facts, step)

    def _answer(self, facts: Facts[StoreRequest], step: Step) -> None:
        """Tell the waiting task whether its document is stored, now or later."""
        question = facts.question
        assert question is not None, "the table answers only where something is asked"
        facts.question = None
        if step is Step.ANSWER_NOT_STORED:
            question.answer(False)
            return
        document = question.document
        # From here on the app hears of the failure: the task must not fail a second time.
        facts.failed = document is not None and document.guard
        if document is None:
            facts.stored_verb = question.verb
            question.answer(True)
            return

        def stored(outcome: StoreOutcome) -> None:
            if failpoint.ENABLED:
                failpoint.hit("master.outcome_stored")
            if outcome.ok:
                facts.stored_verb = question.verb
            facts.store_failed = not outcome.ok
            facts.permanent |= outcome is StoreOutcome.REFUSED
            question.answer(outcome.ok)

        self._store(document, stored)

    def _store_result(self, delivery: Delivery, facts: Facts[StoreRequest]) -> None:
        document = facts.document
        assert document is not None, "the table stores only what there is"

        def stored(outcome: StoreOutcome) -> None:
            if failpoint.ENABLED:
                failpoint.hit("master.result_stored")
            if outcome.ok:
                facts.document = None
                facts.failed |= document.guard
            else:
                facts.store_failed = True
                facts.store_refusal = self._publisher.refusal
                facts.permanent |= outcome is StoreOutcome.REFUSED
            self._proceed(delivery)

        self._store(document, stored)
