"""The ledger's state machine once more, with tasks that are revoked at any moment: they end, and never begin again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.unit.master.fakes import Shelf
from tests.unit.master.test_ledger_machine import LedgerMachine, Loop
from turbo.master.inflight import Delivery
from turbo.master.revoking import Revoking
from turbo.policy.delivery_lifecycle import State
from turbo.policy.revoked import Revoked
from turbo.protocol.properties import decode_header


class OpenShelf(Shelf):
    """One from which single deliveries are taken."""

    def take_out(self, wanted: set[Delivery]) -> list[Delivery]:
        taken = [delivery for delivery in self.held if delivery in wanted and delivery.state is State.HELD]
        self.held = [delivery for delivery in self.held if delivery not in wanted]
        return taken


class Clock(Loop):
    """Timers that the test fires by itself."""

    def time(self) -> float:
        return 0.0


class RevokingMachine(LedgerMachine):
    @initialize()
    def begin(self) -> None:
        super().begin()
        shelf: Any = OpenShelf()
        self.shelf = shelf
        self.intake.shelve_on(shelf)
        self.outcomes.shelve_on(shelf)
        loop: Any = Clock()
        pool: Any = SimpleNamespace(children={})
        outcomes: Any = self.outcomes
        self.revoking = Revoking(
            loop, Revoked(), self.ledger, self.dispatcher, shelf, self.twins, pool, outcomes._settlement,
            outcomes, outcomes._settlement and self.intake._verdicts, self.intake._judge,
        )  # fmt: skip
        self.intake.refuse_through(self.revoking)
        self.lost.refuses = self.revoking.refuses
        #: Starts that a revoked task had, or may still have had, when it was revoked.
        self.allowed: dict[str, int] = {}

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 50))
    def revoke(self, number: int) -> None:
        message = self.sent[number % len(self.sent)]
        self.revoking.revoke([message.id])
        self._note(message.id)

    @precondition(lambda self: self.sent)
    @rule()
    def revoke_all(self) -> None:
        self.revoking.revoke([message.id for message in self.sent])
        for message in self.sent:
            self._note(message.id)

    @rule()
    def look_again(self) -> None:
        self.revoking._look_again()

    def _anything_left(self) -> bool:
        return bool(super()._anything_left() or self.ledger.running_void)

    def _note(self, identifier: str) -> None:
        claimed = 0
        for child in (*self.children, *self.dying):
            ring: Any = child.link
            if ring.claimed is not None and not ring.begun:
                headers: Any = decode_header(child.assigned[ring.claimed].header)[0].headers
                claimed += headers["id"] == identifier
        self.allowed[identifier] = max(self.allowed.get(identifier, 0), self.starts[identifier] + claimed)
        self.ended.add(identifier)

    @invariant()
    def what_was_revoked_does_not_begin(self) -> None:
        for identifier, most in getattr(self, "allowed", {}).items():
            assert self.starts[identifier] <= most, f"{identifier} began although it was revoked"

    @invariant()
    def nothing_revoked_waits(self) -> None:
        if not hasattr(self, "allowed"):
            return
        watched = self.revoking._claimed
        for delivery in self.ledger:
            if delivery in watched or self.revoking.id_of(delivery) not in self.revoking.revoked:
                continue
            if delivery.state is State.DISPATCHED:
                rings: Any = [
                    child.link for child in (*self.children, *self.dying) if delivery in child.assigned.values()
                ]
                assert all(ring.claimed == delivery.seq for ring in rings), "a child may still take it"


RevokingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)


class TestRevoking(RevokingMachine.TestCase):  # type: ignore[misc]
    """Run the machine."""
