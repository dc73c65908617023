"""A batch in the dispatcher and with a child: one record, whose deliveries begin, end and return each by its number."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.children.test_dead_child import World as SingleWorld
from tests.unit.master.fakes import BODY, Message, Ring, deliver_args, done_record, header_of, no_hooks, nobody
from turbo.amqp.publish.publisher import Published
from turbo.exceptions import TimeLimitExceeded, WorkerLostError
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery import units
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_options import TaskOptions
from turbo.ring import frames

IN_FUNCTION = frames.pack_started(frames.IN_FUNCTION, 0, 0, 0.0)


class World(SingleWorld):
    """A batch of four, which a child has in its ring."""

    def __init__(self, *, early: bool = False) -> None:
        documents = FailureDocuments({"t": TaskOptions("t", acks_late=not early)}, stores=False)
        super().__init__(early=early, hooks=no_hooks(documents))
        ring: Any = Ring()
        self.ring = ring
        self.child = self.another(ring)
        for number in range(4):
            self.broker.queue.append(Message(f"id-{number}", "t", header_of(f"id-{number}", "t")))
        self.members = [
            Delivery(1, "q", tag, deliver_args(tag, False), header, BODY)
            for tag, _deliver, header, _body in self.broker.deliver(4)
        ]
        for delivery in self.members:
            self.ledger.add(delivery)
        self.dispatcher.submit(units.group(list(self.members)))
        self.dispatcher.pump()
        self.first = self.members[0].seq

    def another(self, ring: Any) -> ChildProcess:
        child = ChildProcess(2, ring.seq + 2, ring, 0.0, nobody)
        child.state = ChildState.SERVING
        self.dispatcher.withdraw()
        self.dispatcher.add_child(child)
        return child

    def claim(self) -> None:
        self.ring.claimed = self.ring.unclaimed.popleft()

    def report(self, kind: int, *numbers: int, payload: bytes = frames.STARTED_LATE) -> None:
        self.outcomes.take(self.child, [(kind, self.first + number, payload) for number in numbers])

    def begin(self) -> None:
        """The child runs all four; the first stands for the batch."""
        self.claim()
        self.report(frames.STARTED, 0)
        self.report(frames.ADMITTED, 1, 2, 3, payload=IN_FUNCTION)

    def end(self, *numbers: int, verb: Verb = Verb.ACK, ending: Ending = Ending.SUCCESS) -> None:
        self.report(frames.DONE, *numbers, payload=done_record(verb, ending, b""))

    def die(self, *, reason: str = "", limited: int = 0) -> None:
        self.child.move(ChildState.KILLED)
        self.dispatcher.remove_child(self.child)
        self.child.kill_reason, self.child.kill_detail, self.child.exit_status = reason, 1, -9
        self.child.limited = limited
        self.lost.settle(self.child, orderly=False)

    @property
    def states(self) -> set[State]:
        return {delivery.state for delivery in self.members}


def test_the_record_takes_a_number_for_each() -> None:
    world = World()
    assert [delivery.seq - world.first for delivery in world.members] == [0, 1, 2, 3]
    assert world.states == {State.DISPATCHED}
    assert list(world.child.assigned.values()) == world.members[:1]
    assert list(world.child.parked.values()) == world.members[1:]


def test_all_begin_and_end_and_the_child_is_busy_until_the_first_has_ended() -> None:
    world = World()
    world.begin()
    assert world.states == {State.STARTED}
    world.end(1, 2, 3)
    assert list(world.child.assigned) == [world.first] and not world.child.parked
    world.end(0)
    assert world.states == {State.SETTLED}
    assert not world.child.assigned and world.child.free_listed
    assert world.child.done == 4


def test_the_next_stands_for_the_batch_when_the_first_is_refused() -> None:
    world = World()
    world.claim()
    world.end(0, verb=Verb.REJECT, ending=Ending.INVALID)
    assert not world.child.free_listed
    world.end(1, verb=Verb.REJECT, ending=Ending.INVALID)
    assert list(world.child.assigned) == [world.first + 2] and list(world.child.parked) == [world.first + 3]
    world.report(frames.STARTED, 2)
    world.report(frames.ADMITTED, 3, payload=IN_FUNCTION)
    world.end(3, 2)
    assert world.states == {State.SETTLED}
    assert world.child.free_listed


def test_an_unclaimed_batch_comes_back_as_one() -> None:
    world = World()
    (first,) = world.dispatcher.reclaim(world.child)
    assert [first, *first.followers] == world.members
    assert world.states == {State.READY}
    assert not world.child.parked
    world.dispatcher.resubmit([first])
    world.dispatcher.take_up(world.child)
    world.dispatcher.pump()
    assert world.states == {State.DISPATCHED}


def test_single_ones_are_taken_out_of_it() -> None:
    world = World()
    wanted = {world.members[0], world.members[2]}
    taken, left = units.split(world.dispatcher.withdraw(), wanted)
    assert set(taken) == wanted
    ((first, *_),) = [left]
    assert [first, *first.followers] == [world.members[1], world.members[3]]
    assert units.flat(left) == [world.members[1], world.members[3]]


def test_a_child_that_dies_before_it_claims_the_batch_leaves_it_whole() -> None:
    world = World()
    world.die()
    (first,) = world.dispatcher.withdraw()
    assert [first, *first.followers] == world.members
    assert world.states == {State.READY}


def test_a_child_that_dies_before_the_body_leaves_single_messages() -> None:
    world = World()
    world.begin()
    world.die()
    found = world.dispatcher.withdraw()
    assert set(found) == set(world.members)
    assert not any(delivery.followers for delivery in found)


@pytest.mark.parametrize("early", [True, False])
def test_a_child_that_dies_in_the_body_fails_them_all(early: bool) -> None:
    world = World(early=early)
    world.begin()
    world.ring.entered, world.ring.claimed = True, world.first + 3
    failed: list[BaseException] = []
    world.lost._hooks = _Noting(failed)  # type: ignore[assignment]
    world.die()
    assert len(failed) == 4
    assert all(isinstance(error, WorkerLostError) for error in failed)


def test_the_time_limit_of_one_is_that_of_all() -> None:
    world = World()
    world.begin()
    failed: list[BaseException] = []
    world.lost._hooks = _Noting(failed)  # type: ignore[assignment]
    world.die(reason="time_limit", limited=world.first + 1)
    assert len(failed) == 4
    assert all(isinstance(error, TimeLimitExceeded) for error in failed)


def test_what_the_body_sends_holds_all_back_until_it_is_confirmed() -> None:
    world = World()
    world.begin()
    request = frames.PublishRequest("", "elsewhere", b"h", b"b", False)
    world.report(frames.PUBLISH, 0, payload=b"".join(frames.pack_publish(request)))
    world.end(1, 2, 3, 0)
    assert world.states == {State.FINISHING}
    (waiting,) = world.publisher.waiting
    done = waiting[3]
    assert done is not None
    done(Published.CONFIRMED)
    assert world.states == {State.SETTLED}


class _Noting:
    """Hooks that note the errors of lost tasks."""

    def __init__(self, errors: list[BaseException]) -> None:
        self._errors = errors

    def lost(self, _delivery: Delivery, _ending: Ending, error: BaseException, _pid: int, then: Any) -> None:
        self._errors.append(error)
        then(Verb.ACK, None)
