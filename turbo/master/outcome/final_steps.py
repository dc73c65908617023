"""Carries out the last steps of a delivery: a failure found after the end of its task, and the verb.

Runs in the master. Before it: ``master.outcome.settlement``, when everything is confirmed and the store has answered.
After it: ``amqp.consume.link``. It must never acknowledge a tag of another session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    from turbo.amqp.consume.link import BrokerLink
    from turbo.master.delivery.lease_ends import LeaseEnds
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.outcome.hooks import OutcomeHooks, Storing
    from turbo.observers import Observers
    from turbo.ring.frames import StoreRequest


class FinalSteps:
    """Settles each delivery once."""

    def __init__(
        self,
        store: Storing,
        ledger: Ledger,
        hooks: OutcomeHooks,
        link: BrokerLink,
        lease_ends: LeaseEnds,
        on_void_ended: Observers[Delivery, Verb | None],
    ) -> None:
        """``on_void_ended``: called when a delivery of a lost connection has ended, with its verb (None: never ran)."""
        self._store = store
        self._ledger = ledger
        self._hooks = hooks
        self._link = link
        self._lease_ends = lease_ends
        self._on_void_ended = on_void_ended

    def fail(self, delivery: Delivery, error: BaseException) -> None:
        """End a task that has failed after its child reported its end: ask the hooks, then settle."""
        delivery.own_facts().failed = True

        def decided(verb: Verb, store: StoreRequest | None) -> None:
            if store is None:
                self.settle(delivery, verb)
            else:
                # The delivery is settled whatever the store answers: nothing better can be done with it.
                self._store(store, lambda _outcome: self.settle(delivery, verb))

        self._hooks.lost(delivery, Ending.FAILURE, error, 0, decided)

    def settle(self, delivery: Delivery, verb: Verb) -> None:
        """Carry out the verb at the broker; of a delivery whose connection is lost, only note its end."""
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
        """Forget a delivery of a lost connection that ended with ``verb`` (None: it never ran); its copies may run."""
        delivery.move(State.VOID)
        self._ledger.remove(delivery)
        self._on_void_ended(delivery, verb)
