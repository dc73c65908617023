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
    header_of,
    no_events,
    nobody,
)
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.dead_child import DeadChild
from turbo.master.children.pool import Pool
from turbo.master.children.pool_size import PoolSize
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.delivery.revoked_tasks import RevokedTasks
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.poison import Poison
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.revoked import Revoked
from turbo.policy.task_options import TaskOptions
from turbo.ring import frames


class RaisingHooks:
    """Code of the app's that raises."""

    def lost(self, *_: object) -> None:
        raise RuntimeError("the hook is broken")


class World:
    """One child, the task that it runs, and one that it has not claimed."""

    def __init__(self, *, early: bool) -> None:
        self.broker, self.ledger = Broker(), Ledger()
        broker: Any = self.broker
        publisher: Any = Publisher()
        store: Any = Store()
        loop: Any = Loop()
        hooks: Any = RaisingHooks()
        nothing: Any = None
        self.dispatcher = Dispatcher(loop, max_tasks_per_child=None)
        failure_documents = FailureDocuments({"t": TaskOptions("t", acks_late=not early)}, stores=True)
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
        outcomes = Outcomes(self.dispatcher, settlement, hooks, nothing)
        revoked_tasks = RevokedTasks(Revoked(), settlement, outcomes, failure_documents, hooks)
        retries = LostRetries(settlement, failure_documents, hooks)
        poison = Poison(settlement, failure_documents, max_deliveries=5)
        self.lost = DeadChild(
            self.dispatcher, outcomes, settlement, failure_documents, hooks, poison, retries, revoked_tasks
        )
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


def test_an_early_task_is_only_logged_when_a_hook_raises(caplog: pytest.LogCaptureFixture) -> None:
    world = World(early=True)
    world.lost.settle(world.child, orderly=False)
    assert [message.id for message in world.broker.acked] == ["running"]
    assert [message.id for message in world.broker.queue] == ["unclaimed"]
    assert len(world.ledger) == 0
    assert "t[running] is lost" in caplog.text


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
    pool = Pool(loop, spawner, nothing, dispatcher, outcomes, broken, PoolSize(3), proc_alive_timeout=1.0)
    child = pool.spawn(3)
    assert child is not None
    child.state = ChildState.KILLED
    with pytest.raises(RuntimeError, match="a fault of ours"):
        pool._bury(child)
    assert spawner.asked == [3, 3]
    link: Any = child.link
    assert link.closed
