"""What a dead child held when deciding about it fails: nothing waits for ever, and its slot is filled."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.master.fakes import (
    BODY,
    NO_LEASES,
    Broker,
    Loop,
    Message,
    Publisher,
    Ring,
    Store,
    deliver_args,
    done_record,
    header_of,
    no_events,
    nobody,
)
from turbo.exceptions import Retry
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.dead_child import DeadChild, describe_exit
from turbo.master.children.pool import Pool
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.spawners import Spawners
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.master.delivery.revoked_tasks import RevokedTasks
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.poison import Poison
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.start_looks import StartLooks
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.revoked import Revoked
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_options import TaskOptions
from turbo.ring import frames


class RaisingHooks:
    """Code of the app's that raises."""

    def lost(self, *_: object) -> None:
        raise RuntimeError("the hook is broken")


class World:
    """One child, the task that it runs, and one that it has not claimed."""

    def __init__(self, *, early: bool, hooks: Any = None, **options: Any) -> None:
        """``options``: further options of the task."""
        self.broker, self.ledger = Broker(), Ledger()
        broker: Any = self.broker
        self.publisher = Publisher()
        publisher: Any = self.publisher
        store: Any = Store()
        loop: Any = Loop()
        hooks = hooks or RaisingHooks()
        nothing: Any = None
        self.dispatcher = Dispatcher(loop, max_tasks_per_child=None)
        failure_documents = FailureDocuments({"t": TaskOptions("t", acks_late=not early, **options)}, stores=True)
        settlement = Settlement(
            publisher,
            DocumentStore(store, self.dispatcher),
            self.ledger,
            self.dispatcher,
            hooks,
            broker,
            NO_LEASES,
            no_events(),
        )
        outcomes = self.outcomes = Outcomes(
            self.dispatcher, settlement, hooks, nothing, StartLooks(loop, self.dispatcher)
        )
        self.revoked = Revoked()
        revoked_tasks = RevokedTasks(self.revoked, settlement, outcomes, failure_documents, hooks)
        retries = LostRetries(settlement, failure_documents, hooks)
        poison = Poison(settlement, failure_documents, max_deliveries=5)
        self.paused_queues = PausedQueues()
        self.lost = DeadChild(
            self.dispatcher, outcomes, settlement, failure_documents, hooks, poison, retries, revoked_tasks,
            self.paused_queues,
        )  # fmt: skip
        self.ledger.begin_epoch(self.broker.open())
        ring: Any = Ring()
        self.child = ChildProcess(1, 1, ring, 0.0, nobody)
        self.child.state = ChildState.SERVING
        self.dispatcher.add_child(self.child)
        for identifier in ("running", "unclaimed"):
            self.broker.queue.append(Message(identifier, "t", header_of(identifier, "t")))
        self.deliveries = [
            Delivery(1, "q", tag, deliver_args(tag, False), header, BODY)
            for tag, _deliver, header, _body in self.broker.deliver(2)
        ]
        self.dispatcher._depth = 2
        for delivery in self.deliveries:
            self.ledger.add(delivery)
            self.dispatcher.submit(delivery)
        self.dispatcher.pump()
        ring.claimed, ring.begun, ring.entered = ring.unclaimed.popleft(), True, True
        payload = frames.STARTED_EARLY if early else frames.STARTED_LATE
        outcomes.take(self.child, [(frames.STARTED, ring.claimed, payload)])
        self.child.move(ChildState.KILLED)
        self.dispatcher.remove_child(self.child)


def test_a_late_task_returns_to_its_queue_when_a_hook_raises(caplog: pytest.LogCaptureFixture) -> None:
    world = World(early=False)
    world.lost.settle(world.child, orderly=False)
    assert [delivery.state for delivery in world.deliveries] == [State.SETTLED, State.SETTLED]
    assert sorted(message.id for message in world.broker.queue) == ["running", "unclaimed"]
    assert world.child.assigned == {}
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(said) == 3
    assert "t[running] goes back" in said[1]
    assert "t[unclaimed] goes back" in said[2]
    assert "the hook is broken" in caplog.text


def test_a_child_that_dies_before_a_body_whose_connection_is_lost_ends_both(caplog: pytest.LogCaptureFixture) -> None:
    world = World(early=False)
    ring: Any = world.child.link
    ring.entered = False
    world.broker.close()
    world.ledger.void_epoch()
    world.ledger.begin_epoch(world.broker.open())
    world.lost.settle(world.child, orderly=False)
    assert [delivery.state for delivery in world.deliveries] == [State.VOID, State.VOID]
    assert not [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]


def test_what_a_dead_child_never_began_waits_if_its_queue_was_paused_meanwhile() -> None:
    world = World(early=False, hooks=Hooks())
    world.paused_queues.pause("q")
    _die(world, "", None, None)
    _running, unclaimed = world.deliveries
    assert (unclaimed.state, list(world.paused_queues)) == (State.HELD, [unclaimed])
    assert not world.dispatcher._ready


def test_an_early_task_is_only_logged_when_a_hook_raises(caplog: pytest.LogCaptureFixture) -> None:
    world = World(early=True)
    world.lost.settle(world.child, orderly=False)
    assert [message.id for message in world.broker.acked] == ["running"]
    assert [message.id for message in world.broker.queue] == ["unclaimed"]
    assert len(world.ledger) == 0
    assert "t[running] is lost" in caplog.text


class Hooks:
    """Notes the errors of lost tasks, and acknowledges."""

    def __init__(self) -> None:
        self.errors: list[tuple[Ending, BaseException]] = []
        self.terminated: list[int] = []

    def lost(self, _delivery: Delivery, ending: Ending, error: BaseException, _pid: int, decided: Any) -> None:
        self.errors.append((ending, error))
        decided(Verb.ACK, None)

    def retried(self, _delivery: Delivery, _reason: Retry, _pid: int) -> None:
        """The next attempt is sent."""

    def revoked(self, _delivery: Delivery, reason: str, then: Any, signum: int = 0) -> None:
        self.terminated.append(signum)
        then(Verb.ACK, None)


def _die(world: World, reason: str = "", detail: object = None, status: int | None = -9) -> None:
    child = world.child
    child.kill_reason, child.kill_detail, child.exit_status = reason, detail, status
    world.lost.settle(child, orderly=False)


@pytest.mark.parametrize(("reason", "detail", "status", "ending", "error"), [
    ("", None, -9, Ending.WORKER_LOST, "WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL)."),
    ("", None, 3, Ending.WORKER_LOST, "WorkerLostError: Worker exited prematurely: exitcode 3."),
    ("", None, None, Ending.WORKER_LOST, "WorkerLostError: Worker exited prematurely: exit status unknown."),
    ("time_limit", 5, -9, Ending.TIMEOUT, "TimeLimitExceeded: TimeLimitExceeded(5,)"),
    ("memory", "too much", -9, Ending.WORKER_LOST, "MemoryLimitExceeded: too much"),
])  # fmt: skip
def test_a_task_fails_with_its_child_and_says_why(
    reason: str, detail: object, status: int | None, ending: Ending, error: str
) -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    _die(world, reason, detail, status)
    assert [(each, f"{type(found).__name__}: {found}") for each, found in hooks.errors] == [(ending, error)]
    assert world.outcomes.endings[ending] == 1
    assert [message.id for message in world.broker.acked] == ["running"]
    running, unclaimed = world.deliveries
    assert (running.state, unclaimed.state) == (State.SETTLED, State.READY)
    assert world.dispatcher.waiting == 1, "another child may run it"
    assert (running.deaths, unclaimed.deaths) == (0, 0)


def test_a_task_that_is_retried_because_its_child_died_counts_as_a_retry_and_not_as_a_failure() -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks, retry_on_worker_lost=True)
    _die(world)
    assert hooks.errors == []
    assert {ending: count for ending, count in world.outcomes.endings.items() if count} == {Ending.RETRY: 1}


def test_a_terminated_task_is_revoked(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    with caplog.at_level(logging.INFO):
        _die(world, "terminated", 15)
    assert (hooks.terminated, hooks.errors) == ([15], [])
    assert world.outcomes.endings[Ending.REVOKED] == 1
    (said,) = (record for record in caplog.records if "died" in record.getMessage())
    assert said.levelno == logging.INFO, "nothing is wrong"


def test_a_task_that_had_not_begun_goes_to_other_children_until_too_many_have_died() -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    running, _ = world.deliveries
    ring: Any = world.child.link
    ring.entered = False
    running.deaths = 3
    _die(world)
    assert (running.state, running.deaths, hooks.errors) == (State.READY, 4, [])
    assert world.dispatcher.waiting == 2
    world = World(early=False, hooks=hooks)
    running, _ = world.deliveries
    ring = world.child.link
    ring.entered = False
    running.deaths = 4
    _die(world)
    assert (running.state, running.deaths) == (State.SETTLED, 5)
    assert [ending for ending, _ in hooks.errors] == [Ending.WORKER_LOST]


@pytest.mark.parametrize(("reason", "text"), [
    ("time_limit", "its child was killed for the hard time limit of another task"),
    ("terminated", "its child was ended by the termination of another task"),
])  # fmt: skip
def test_a_task_beside_the_one_that_was_meant_is_lost(reason: str, text: str) -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    world.child.limited = 99
    _die(world, reason, 15)
    assert [(ending, str(error)) for ending, error in hooks.errors] == [
        (Ending.WORKER_LOST, f"Worker exited prematurely: {text}.")
    ]
    assert hooks.terminated == []


def test_a_task_whose_outcome_is_stored_is_settled_by_it(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    world.deliveries[0].own_facts().stored_verb = Verb.REJECT
    _die(world)
    assert [message.id for message in world.broker.dead] == ["running"]
    assert hooks.errors == []
    assert "whose outcome is stored" in caplog.text
    assert "Child 1 (pid 0) died with a task: signal 9 (SIGKILL)" in caplog.text


def test_a_cold_shutdown_publishes_again_what_was_acknowledged_and_never_began() -> None:
    hooks = Hooks()
    world = World(early=True, hooks=hooks)
    ring: Any = world.child.link
    ring.entered = False
    world.lost.terminating = True
    _die(world, "shutdown")
    assert [key for key, _header, _body, _done in world.publisher.waiting] == ["q"]
    assert hooks.errors == []


def test_of_coroutines_that_had_not_begun_only_the_next_can_have_killed_the_child() -> None:
    world = World(early=False, hooks=Hooks())
    child, (first, second) = world.child, world.deliveries
    ring: Any = child.link
    ring.unclaimed.clear()
    ring.claimed = None
    second.move(State.STARTED)
    child.parked.update(child.assigned)
    child.assigned.clear()
    _die(world)
    assert (first.deaths, second.deaths) == (1, 0)
    assert (first.state, second.state) == (State.READY, State.READY)
    assert child.parked == {}


def test_what_was_revoked_meanwhile_is_not_handed_on() -> None:
    world = World(early=False, hooks=Hooks())
    world.revoked.add(["unclaimed"], 0.0)
    _die(world)
    assert world.dispatcher.waiting == 0
    assert sorted(message.id for message in world.broker.acked) == ["running", "unclaimed"]


def test_a_cold_shutdown_gives_the_tasks_back_uncounted() -> None:
    hooks = Hooks()
    world = World(early=False, hooks=hooks)
    world.lost.terminating = True
    _die(world, "shutdown")
    assert [message.id for message in world.broker.queue] == ["running"]
    assert (hooks.errors, world.deliveries[0].deaths) == ([], 0)


def test_a_child_that_leaves_with_nothing_is_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    world = World(early=False, hooks=Hooks())
    ring: Any = world.child.link
    world.dispatcher.resubmit(world.dispatcher.reclaim(world.child))
    world.outcomes.take(world.child, [(frames.DONE, ring.claimed, done_record(Verb.ACK, Ending.SUCCESS, b""))])
    ring.claimed = None
    with caplog.at_level(logging.INFO):
        world.lost.settle(world.child, orderly=True)
        assert not [record for record in caplog.records if "died" in record.getMessage()]
        _die(world)
    assert [record.getMessage() for record in caplog.records if "died" in record.getMessage()] == [
        "Child 1 (pid 0) died: signal 9 (SIGKILL); was it out of memory? (peak memory 0 KiB)"
    ]


def test_an_unknown_signal_is_named_by_its_number() -> None:
    assert describe_exit(-99) == "signal 99 (unknown)"
    assert describe_exit(0) == "exitcode 0"


class Spawner:
    """Notes which slots were asked for."""

    gone = False

    def __init__(self) -> None:
        self.asked: list[int] = []

    def spawn(self, _epoch: int, index: int, _fds: object) -> None:
        self.asked.append(index)


def test_a_slot_is_filled_although_settling_a_dead_child_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Link(Ring):
        def __init__(self, _epoch: int = 0, **_: object) -> None:
            super().__init__()
            self.closed = False

        def child_fds(self) -> tuple[int, ...]:
            return ()

        def close_child_fds(self) -> None:
            """Nothing to close."""

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr("turbo.master.children.pool.MasterLink", Link)
    loop: Any = SimpleNamespace(time=lambda: 0.0, call_later=lambda *_: object())
    spawner: Any = Spawner()
    outcomes: Any = SimpleNamespace(unwatch=lambda *_: None)

    def settle(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    broken: Any = SimpleNamespace(settle=settle)
    nothing: Any = None
    dispatcher = Dispatcher(loop, max_tasks_per_child=None)
    pool = Pool(
        loop, Spawners(loop, spawner), nothing, dispatcher, outcomes, broken, PoolSize(3), proc_alive_timeout=1.0
    )
    child = pool.spawn(3)
    assert child is not None
    child.state = ChildState.KILLED
    with pytest.raises(RuntimeError, match="a fault of ours"):
        pool._remove_ended(child)
    assert spawner.asked == [3, 3]
    link: Any = child.link
    assert link.closed
