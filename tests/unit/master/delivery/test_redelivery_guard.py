"""Copies of runs whose connection is lost: held, acknowledged unrun, or run. Whole sequences are in test_ledger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.redelivery_guard import RedeliveryGuard
from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb


class World:
    """A guard whose neighbours remember what it asks of them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.finished: list[tuple[Delivery, Verb]] = []
        self.submitted: list[Delivery] = []
        self.messages: dict[Delivery, Any] = {}
        dispatcher: Any = SimpleNamespace(balance=lambda: None)
        rate_limits: Any = SimpleNamespace(submit=self.submitted.append)
        settlement: Any = SimpleNamespace(
            on_void_ended=Observers(), finish=lambda delivery, verb, _store: self.finished.append((delivery, verb))
        )
        documents: Any = SimpleNamespace(message=self.messages.get)
        self.guard = RedeliveryGuard(dispatcher, rate_limits, settlement, documents, lambda: self.now)

    def made(self, identifier: str, retries: int = 0, state: State = State.READY) -> Delivery:
        delivery = Delivery(1, "q", len(self.messages) + 1, b"", b"", b"")
        delivery.state = state
        self.messages[delivery] = SimpleNamespace(id=identifier, retries=retries)
        return delivery

    def lost_run(self, identifier: str, retries: int = 0) -> Delivery:
        """A run whose connection is lost."""
        run = self.made(identifier, retries, State.STARTED)
        self.guard.watch([run])
        return run

    def hold(self, copy: Delivery) -> bool:
        return self.guard.hold(copy, self.messages[copy])


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_compared_while_no_run_is_lost(world: World) -> None:
    assert not world.guard.watching
    assert not world.hold(world.made("a"))
    assert not world.guard.hold(world.made("a"), None), "an unreadable message is no copy"


@pytest.mark.parametrize(("verb", "acked", "runs"), [
    (Verb.ACK, False, False), (Verb.REJECT, True, False), (None, True, False),
    (Verb.REJECT, False, True), (Verb.REQUEUE, False, True), (None, False, True),
])  # fmt: skip
def test_a_copy_waits_and_runs_only_if_the_first_run_failed(
    world: World, verb: Verb | None, acked: bool, runs: bool
) -> None:
    run = world.lost_run("a")
    assert world.guard.watching
    copy, suspect, other = world.made("a"), world.made("a"), world.made("b")
    suspect.waits_as = State.SUSPECT
    assert world.hold(copy) and world.hold(suspect) and not world.hold(other)
    assert copy.state is suspect.state is State.HELD
    run.acked = acked
    world.guard.ended(run, verb)
    if runs:
        assert world.submitted == [copy, suspect]
        assert (copy.state, suspect.state) == (State.READY, State.SUSPECT)
        assert world.finished == []
    else:
        assert world.finished == [(copy, Verb.ACK), (suspect, Verb.ACK)]
        assert world.submitted == []
    assert not world.guard.watching
    assert not world.hold(world.made("a")), "a later copy is not one of this run"


def test_a_copy_that_comes_after_the_end_is_acknowledged_once(world: World) -> None:
    world.guard.ended(world.lost_run("a", 1), Verb.ACK)
    assert world.guard.watching
    assert not world.hold(world.made("a", 2)), "a retry is another run of the same task"
    copy = world.made("a", 1)
    assert world.hold(copy)
    assert world.finished == [(copy, Verb.ACK)]
    assert not world.guard.watching
    assert not world.hold(world.made("a", 1))


def test_an_end_that_failed_is_not_remembered(world: World) -> None:
    world.guard.ended(world.lost_run("a"), Verb.REQUEUE)
    assert not world.guard.watching
    assert not world.hold(world.made("a"))


def test_an_end_is_remembered_for_five_minutes(world: World) -> None:
    world.guard.ended(world.lost_run("a"), Verb.ACK)
    world.now += 300.0
    assert not world.hold(world.made("other"))
    assert world.guard.watching
    world.now += 0.1
    assert not world.hold(world.made("other"))
    assert not world.guard.watching
    assert not world.hold(world.made("a"))


def test_the_last_ten_thousand_ends_are_remembered(world: World) -> None:
    for number in range(10_001):
        world.guard.ended(world.lost_run(f"id-{number}"), Verb.ACK)
    assert not world.hold(world.made("id-0"))
    assert world.hold(world.made("id-1"))
    assert world.hold(world.made("id-10000"))


def test_another_delivery_of_the_same_task_ends_no_wait(world: World) -> None:
    world.lost_run("a")
    copy = world.made("a")
    assert world.hold(copy)
    world.guard.ended(world.made("a"), Verb.ACK)
    world.guard.ended(Delivery(1, "q", 99, b"", b"", b""), Verb.ACK)
    assert copy.state is State.HELD
    assert world.finished == []


def test_copies_are_given_up_with_their_connection(world: World) -> None:
    run = world.lost_run("a")
    first, second, third = world.made("a"), world.made("a"), world.made("a")
    assert all(world.hold(copy) for copy in (first, second, third))
    assert world.guard.take_out([second, world.made("a")]) == [second]
    third.state = State.VOID
    assert world.guard.withdraw() == [first]
    assert world.guard.withdraw() == []
    world.guard.ended(run, Verb.ACK)
    assert world.finished == []
