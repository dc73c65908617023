"""The next attempt of a task that was lost with its child: what is sent, in which order, and which hook is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.master.fakes import (
    BODY,
    NO_LEASES,
    QUEUE,
    Broker,
    Loop,
    Message,
    Publisher,
    Store,
    deliver_args,
    no_events,
    no_hooks,
)
from turbo.amqp.publish.publisher import Published
from turbo.backends.store import StoreOutcome
from turbo.exceptions import Retry, WorkerLostError
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.task_options import TaskOptions
from turbo.protocol.building import build
from turbo.protocol.properties import Properties, decode_header, encode_header

LOST = WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL).")


class OutcomeHooks:
    """Records the retries that are reported."""

    def __init__(self) -> None:
        self.reports: list[Retry] = []

    def retried(self, _delivery: Delivery, reason: Retry, _pid: int) -> None:
        self.reports.append(reason)


class World:
    """One delivery that has started, of a task with these options."""

    def __init__(self, *, retries: int = 0, stores: bool = True, headers: Any = None, **options: Any) -> None:
        self.broker, self.publisher, self.store, self.hooks = Broker(), Publisher(), Store(), OutcomeHooks()
        fields, _body, properties = build("1", "t", retries=retries)
        properties.headers = {**fields, **(headers or {})}
        properties.content_type, properties.content_encoding, properties.priority = "application/json", "utf-8", 7
        header = encode_header(properties, len(BODY))
        self.broker.queue.append(Message("1", "t", header))
        ledger = Ledger()
        ledger.begin_epoch(self.broker.open())
        self.broker.deliver(1)
        anything: Any = self
        loop: Any = Loop()
        options = {"retry_on_worker_lost": True, "acks_late": True, **options}
        self.failure_documents = FailureDocuments({"t": TaskOptions("t", **options)}, stores=stores)
        dispatcher = Dispatcher(loop, max_tasks_per_child=None)
        hooks = no_hooks(self.failure_documents)
        settlement = Settlement(
            anything.publisher,
            DocumentStore(anything.store, dispatcher),
            ledger,
            dispatcher,
            hooks,
            anything.broker,
            NO_LEASES,
            no_events(),
        )
        self.retries = LostRetries(settlement, self.failure_documents, anything.hooks)
        self.delivery = Delivery(1, QUEUE, 1, deliver_args(1, False), header, BODY)
        ledger.add(self.delivery)
        for state in (State.READY, State.DISPATCHED, State.STARTED):
            if self.delivery.state is not state:
                self.delivery.move(state)

    def retry(self) -> bool:
        return self.retries.retry(self.delivery, LOST, 1)

    def sent(self) -> tuple[str, Properties]:
        key, header, body, _done = self.publisher.waiting[-1]
        assert body == BODY
        return key, decode_header(header)[0]


def test_first_the_state_then_the_attempt_then_the_settlement() -> None:
    world = World()
    assert world.retry()
    assert not world.publisher.waiting
    write, stored = world.store.waiting.pop()
    assert b'"RETRY"' in write.payload
    assert b"WorkerLostError" in write.payload
    stored(StoreOutcome.STORED)
    assert [(reason.exc, reason.when) for reason in world.hooks.reports] == [(LOST, 180)]
    assert not world.broker.acked
    done = world.publisher.waiting[-1][3]
    assert done is not None
    done(Published.CONFIRMED)
    assert [message.id for message in world.broker.acked] == ["1"]


@pytest.mark.parametrize("answer", [answer for answer in Published if answer is not Published.CONFIRMED])
def test_one_that_cannot_be_sent_goes_back_as_it_was_and_one_that_is_refused_has_failed(answer: Published) -> None:
    """It would be refused again, and run as often, without an attempt that counts."""
    world = World(stores=False)
    assert world.retry()
    done = world.publisher.waiting[-1][3]
    assert done is not None
    done(answer)
    back = answer is Published.FAILED
    assert [message.id for message in world.broker.acked] == ["1"] * (not back)
    assert [message.id for message in world.broker.queue] == ["1"] * back


def test_a_state_that_cannot_be_stored_keeps_nothing_back() -> None:
    world = World()
    world.retry()
    world.store.waiting.pop()[1](StoreOutcome.FAILED)
    assert len(world.publisher.waiting) == 1


def test_the_same_message_with_one_attempt_more() -> None:
    world = World(stores=False, retries=1, default_retry_delay=60, headers={"mine": "kept", "x-death": []})
    before = datetime.now(UTC)
    assert world.retry()
    key, properties = world.sent()
    assert (key, properties.priority) == (QUEUE, 7)
    assert properties.headers is not None
    assert properties.headers["retries"] == 2
    assert properties.headers["id"] == "1"
    assert properties.headers["mine"] == "kept"
    assert "x-death" not in properties.headers
    due = datetime.fromisoformat(properties.headers["eta"]) - before
    assert timedelta(seconds=60) <= due < timedelta(seconds=3600)


def test_without_a_delay_it_is_due_at_once() -> None:
    world = World(stores=False, default_retry_delay=0, headers={"eta": "2001-01-01T00:00:00+00:00"})
    assert world.retry()
    assert (world.sent()[1].headers or {})["eta"] is None


@pytest.mark.parametrize(
    "options",
    [{"retry_on_worker_lost": False}, {"retries": 3}, {"retries": 1, "max_retries": 1}, {"max_retries": 0}],
)
def test_none_is_sent_that_is_not_due(options: dict[str, Any]) -> None:
    world = World(**options)
    assert not world.retry()
    assert not world.publisher.waiting
    assert not world.store.waiting


def test_no_bound_is_no_bound() -> None:
    assert World(retries=1000, max_retries=None).retry()


def test_the_last_attempt_fails_although_its_message_would_be_requeued() -> None:
    world = World(retries=3, reject_on_worker_lost=True)
    verb, document = world.failure_documents.failure(world.delivery, Ending.WORKER_LOST, LOST)
    assert verb is Verb.ACK
    assert document is not None
