"""The ledger's state machine once more, with tasks that are revoked at any moment: they end, and never begin again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.harness.examples import examples
from tests.unit.master.delivery.test_ledger import CHILDREN, LedgerMachine, Loop
from tests.unit.master.fakes import Shelf
from turbo.master.delivery import revoking, slices
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.revoking import Revoking
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending


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
    shelf_type = OpenShelf

    @initialize()
    def begin(self) -> None:
        super().begin()
        shelf: Any = self.shelf
        loop: Any = Clock()
        pool: Any = SimpleNamespace(children={})
        outcomes: Any = self.outcomes
        self.revoking = Revoking(
            loop, self.revoked_tasks, self.ledger, self.dispatcher, shelf, self.rate_limits, self.batches,
            self.redelivery_guard, self.paused_queues, pool, outcomes._settlement,
        )  # fmt: skip
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

    def _elsewhere(self) -> set[int]:
        return super()._elsewhere() | {id(delivery) for delivery in self.revoking.discarding}

    def _note(self, identifier: str) -> None:
        claimed = 0
        for child in (*self.children, *self.dying):
            ring: Any = child.link
            if ring.claimed is not None and not ring.entered:
                claimed += identifier in [self._facts(self._held(child, seq))[0] for seq in ring.members]
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
                    child.link
                    for child in (*self.children, *self.dying)
                    if delivery in (*child.assigned.values(), *child.parked.values())
                ]
                assert all(delivery.seq in ring.members for ring in rings), "a child may still take it"


class Turns(Clock):
    """A loop whose callbacks wait until the test runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.soon: list[Any] = []

    def call_soon(self, callback: Any, *args: Any) -> None:
        self.soon.append((callback, args))

    def turn(self) -> None:
        callback, args = self.soon.pop(0)
        callback(*args)


class SlicedMachine(RevokingMachine):
    """The same where all that waits is looked at in slices, with everything else happening in between."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.turns = Turns()
        loop: Any = self.turns
        self.revoking._loop = loop

    @precondition(lambda self: self.turns.soon)
    @rule()
    def turn(self) -> None:
        self.turns.turn()

    def teardown(self) -> None:
        while hasattr(self, "turns") and self.turns.soon:
            self.turns.turn()
        super().teardown()

    @invariant()
    def nothing_revoked_waits(self) -> None:
        if hasattr(self, "turns") and not self.turns.soon:
            super().nothing_revoked_waits()
            assert not self.dispatcher._pauses, "everything may run again"


RevokingMachine.TestCase.settings = settings(max_examples=examples(20), stateful_step_count=60)


class TestRevoking(RevokingMachine.TestCase):  # type: ignore[misc]
    """Run the machine."""


SlicedMachine.TestCase.settings = settings(max_examples=examples(20), stateful_step_count=60)


@pytest.mark.usefixtures("tiny_slices")
class TestInSlices(SlicedMachine.TestCase):  # type: ignore[misc]
    """Run it in slices."""


@pytest.fixture
def tiny_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 2)
    monkeypatch.setattr(revoking, "_FEW", 1)
    monkeypatch.setattr(revoking, "_AT_ONCE", 1)


def test_twenty_thousand_that_wait_are_discarded_a_hundred_at_a_time() -> None:
    machine = RevokingMachine()
    machine.begin()
    turns: Any = Turns()
    machine.revoking._loop = turns
    for _ in range(40):
        machine.send("late", 50)
    machine.deliver(2_000)
    settled: list[int] = []

    def so_far() -> int:
        return machine.outcomes.endings[Ending.REVOKED]

    sweep = machine.revoking.revoke([message.id for message in machine.sent])
    assert not sweep.finished
    assert machine.dispatcher._pauses == {"revoking"}, "nothing begins"
    while turns.soon:
        before = so_far()
        turns.turn()
        settled.append(so_far() - before)
    assert sweep.finished
    assert not machine.dispatcher._pauses
    assert sum(settled) >= 2_000 - 3 * CHILDREN
    assert max(settled) <= 100
    assert len(sweep.found) >= 2_000 - 3 * CHILDREN


class TestSlices:
    def test_other_callbacks_of_the_loop_run_between_batches(self) -> None:
        loop: Any = Turns()
        done: list[int] = []

        def work() -> Iterator[int]:
            for number in range(10):
                done.append(number)
                yield slices.SLICE // 4

        piece = slices.Slices(loop, work())
        assert (len(done), piece.finished) == (4, False)
        loop.turn()
        assert len(done) == 8
        loop.turn()
        assert (len(done), piece.finished, loop.soon) == (10, True, [])
        assert slices.Slices(loop, iter([1, 1])).finished

    def test_an_error_reaches_the_loop_and_who_waits(self) -> None:
        def work() -> Iterator[int]:
            yield slices.SLICE
            raise KeyError("on purpose")

        async def waited() -> None:
            heard: list[Any] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: heard.append(context["exception"]))
            with pytest.raises(KeyError):
                await slices.Slices(loop, work()).wait()
            assert [type(each) for each in heard] == [KeyError]

        asyncio.run(waited())
