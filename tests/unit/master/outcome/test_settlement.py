"""A task's own next attempt and the state of the attempt before it: which leaves first, whatever the store does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.master.fakes import NO_LEASES, Broker, Message, Publisher, Store, header_of, no_events, no_hooks, stored
from turbo.amqp.publish.publisher import Published
from turbo.backends.store import StoreOutcome
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb
from turbo.policy.task_options import TaskOptions
from turbo.ring.frames import Asked, PublishRequest, StoreRequest, pack_publish, unpack_publish

NEXT = PublishRequest("", "q", b"header", b"next", True, True)
OTHER = PublishRequest("", "q", b"header", b"other", False)


class World:
    """A started delivery and what its settlement needs."""

    def __init__(self) -> None:
        self.broker, self.publisher, self.store = Broker(), Publisher(), Store()
        publisher: Any = self.publisher
        store: Any = self.store
        broker: Any = self.broker
        nobody: Any = None
        ledger = self.ledger = Ledger()
        failure_documents = FailureDocuments({"t": TaskOptions("t", acks_late=True)}, stores=True)
        self.hooks: Any = no_hooks(failure_documents)
        self.settlement = Settlement(
            publisher, DocumentStore(store, nobody), ledger, nobody, self.hooks, broker, NO_LEASES, no_events()
        )
        ledger.begin_epoch(self.broker.open())
        self.broker.queue.append(Message("id", "t", header_of("id", "t")))
        ((tag, deliver, header, body),) = self.broker.deliver(1)
        self.delivery = Delivery(1, "q", tag, deliver, header, body)
        ledger.add(self.delivery)
        self.delivery.move(State.DISPATCHED)
        self.delivery.move(State.STARTED)

    def sent(self) -> list[bytes]:
        return [body for _key, _header, body, _done in self.publisher.waiting]

    def answer(self, outcome: StoreOutcome) -> None:
        self.store.waiting.pop(0)[1](outcome)

    def confirm_all(self, how: Published = Published.CONFIRMED) -> None:
        waiting, self.publisher.waiting = self.publisher.waiting, []
        for _key, _header, _body, done in waiting:
            assert done is not None
            done(how)


def state() -> StoreRequest:
    return stored("id")


@pytest.mark.parametrize("request_", [NEXT, OTHER])
def test_the_order_is_kept_in_the_ring(request_: PublishRequest) -> None:
    assert unpack_publish(b"".join(pack_publish(request_))) == request_


def test_with_its_next_attempt_on_its_way_it_is_known_what_becomes_of_a_task_whose_child_dies() -> None:
    world = World()
    world.settlement.publish(world.delivery, OTHER)
    assert world.delivery.facts.stored_verb is None
    world.settlement.state(world.delivery, state())
    world.settlement.publish(world.delivery, NEXT)
    kept = world.delivery.facts.stored_verb
    assert kept is Verb.ACK
    assert world.delivery.facts.retried, "monitors are told that it was retried"
    world.settlement.finish(world.delivery, kept, None)
    world.confirm_all()
    assert world.broker.acked == [], "its next attempt has not left yet"
    world.answer(StoreOutcome.STORED)
    world.confirm_all()
    assert [message.id for message in world.broker.acked] == ["id"]


@pytest.mark.parametrize("outcome", [StoreOutcome.STORED, StoreOutcome.KEPT, StoreOutcome.FAILED])
def test_the_next_attempt_leaves_when_the_store_has_answered(outcome: StoreOutcome) -> None:
    world = World()
    settlement, delivery = world.settlement, world.delivery
    settlement.state(delivery, state())
    settlement.state(delivery, state())
    settlement.publish(delivery, OTHER)
    settlement.publish(delivery, NEXT)
    settlement.finish(delivery, Verb.ACK, None)
    assert world.sent() == [b"other"]
    world.confirm_all()
    assert delivery.state is State.FINISHING, "its next attempt has not left, and must not be forgotten"
    world.answer(StoreOutcome.STORED)
    assert world.sent() == []
    world.answer(outcome)
    assert world.sent() == [b"next"]
    assert world.broker.acked == []
    world.confirm_all()
    assert [message.id for message in world.broker.acked] == ["id"]


def test_without_a_state_that_waits_it_leaves_at_once() -> None:
    world = World()
    world.settlement.publish(world.delivery, NEXT)
    assert world.sent() == [b"next"]


def test_a_worker_that_ends_sends_what_waits_for_a_store_that_is_away() -> None:
    world = World()
    world.settlement.state(world.delivery, state())
    world.settlement.publish(world.delivery, NEXT)
    world.settlement.send_all_waiting()
    assert world.sent() == [b"next"]
    world.answer(StoreOutcome.FAILED)
    assert world.sent() == [b"next"], "and not twice"


def test_what_a_task_leaves_behind_is_sent_and_stored_although_nothing_waits_for_it() -> None:
    """As from a thread of a task that has ended."""
    world = World()
    world.settlement.publish(None, OTHER)
    assert world.sent() == [b"other"]
    world.settlement.state(None, state())
    assert len(world.store.waiting) == 1
    world.settlement.finish(world.delivery, Verb.ACK, None)
    assert [message.id for message in world.broker.acked] == ["id"], "its own settlement does not wait"


@pytest.mark.parametrize("request_", [NEXT, OTHER])
def test_what_a_task_sends_is_sent_again_while_a_queue_refuses_it(request_: PublishRequest) -> None:
    world = World()
    world.settlement.publish(world.delivery, request_)
    world.settlement.publish(None, request_)
    assert world.publisher.patient == [request_.body] * 2


@pytest.mark.parametrize("early", [True, False])
def test_a_run_of_a_lost_connection_is_settled_by_nobody(early: bool) -> None:
    world = World()
    ended: list[tuple[Delivery, Verb | None]] = []
    world.settlement.on_void_ended.add(lambda delivery, verb: ended.append((delivery, verb)))
    world.ledger.void_epoch()
    world.broker.close()
    if early:
        world.settlement.ack_early(world.delivery)
        world.settlement.ack_early(world.delivery)
    assert world.settlement.keep_or_void(world.delivery) is early, "only this worker has what was acknowledged"
    if early:
        world.settlement.finish(world.delivery, Verb.ACK, None)
    assert ended == [(world.delivery, Verb.ACK if early else None)]
    assert world.delivery.state is State.VOID
    assert (world.broker.acked, world.ledger.running_void) == ([], 0)


@pytest.mark.parametrize(("outcome", "runs_again"), [(StoreOutcome.FAILED, True), (StoreOutcome.REFUSED, False)])
def test_a_task_whose_result_is_not_stored_runs_again_where_that_may_help(
    outcome: StoreOutcome, runs_again: bool
) -> None:
    world = World()
    world.settlement.finish(world.delivery, Verb.ACK, state())
    world.publisher.refusal = "message size 9 is larger than configured max size 8"
    world.answer(outcome)
    if not runs_again:
        payload = world.store.waiting[0][0].payload
        assert b"OperationalError" in payload and b"its result cannot be stored: message size 9 is larger" in payload
        world.answer(outcome)
    assert [message.id for message in world.broker.queue] == ["id"] * runs_again
    assert [message.id for message in world.broker.acked] == ["id"] * (not runs_again)


class TestWhatTheBrokerDoesNotTake:
    """A task of which something was refused has failed; one of which something could not be sent runs again."""

    def test_it_runs_again(self) -> None:
        world = World()
        world.settlement.publish(world.delivery, OTHER)
        world.settlement.finish(world.delivery, Verb.ACK, state())
        world.confirm_all(Published.FAILED)
        assert (world.store.waiting, world.broker.acked) == ([], [])
        assert [message.id for message in world.broker.queue] == ["id"]

    @pytest.mark.parametrize("how", [Published.NACKED, Published.REFUSED])
    @pytest.mark.parametrize("request_", [NEXT, OTHER])
    def test_it_fails_where_that_would_never_end(self, request_: PublishRequest, how: Published) -> None:
        """Run again, it would send again what was taken, and be refused again."""
        world = World()
        world.settlement.publish(world.delivery, request_)
        world.settlement.finish(world.delivery, Verb.ACK, state())
        world.confirm_all(how)
        self.has_failed(world, how.name.lower())

    def test_the_brokers_reason_is_in_its_text(self) -> None:
        world = World()
        world.publisher.refusal = "406 message size 9 is larger than configured max size 8"
        world.settlement.publish(world.delivery, OTHER)
        world.settlement.finish(world.delivery, Verb.ACK, state())
        world.confirm_all(Published.REFUSED)
        self.has_failed(world, "406 message size 9 is larger than configured max size 8")

    @pytest.mark.parametrize("asks", [True, False])
    def test_one_that_has_failed_by_itself_stays_as_it_is(self, asks: bool) -> None:
        """Handlers and callbacks have got its failure, or are about to get it."""
        world = World()
        told: list[object] = []
        world.hooks.lost = lambda *failed: told.append(failed)
        failure = replace(state(), guard=True)
        world.settlement.publish(world.delivery, OTHER)
        if asks:
            asked = Asked(1, Verb.ACK, failure)
            world.settlement.outcome(world.delivery, asked, told.append)
        else:
            world.settlement.finish(world.delivery, Verb.ACK, failure)
        world.confirm_all(Published.NACKED)
        assert world.store.waiting[0][0].payload == failure.payload
        world.answer(StoreOutcome.STORED)
        if asks:
            assert told == [True]
            world.settlement.finish(world.delivery, Verb.ACK, None)
        assert [message.id for message in world.broker.acked] == ["id"]
        assert told == [True] * asks
        assert [message.id for message in world.broker.acked] == ["id"]

    @pytest.mark.parametrize("how", [Published.NACKED, Published.FAILED, Published.REFUSED])
    def test_it_fails_where_its_message_was_acknowledged(self, how: Published) -> None:
        world = World()
        world.settlement.ack_early(world.delivery)
        world.settlement.publish(world.delivery, OTHER)
        world.settlement.finish(world.delivery, Verb.ACK, state())
        world.confirm_all(how)
        self.has_failed(world, how.name.lower())

    def has_failed(self, world: World, why: str) -> None:
        write, stored = world.store.waiting.pop()
        document = json.loads(write.payload)
        assert (document["task_id"], document["status"]) == ("id", "FAILURE")
        assert document["result"]["exc_type"] == "OperationalError"
        assert document["result"]["exc_message"] == [
            f"A message that a task sent to exchange '' with routing key 'q' was not taken by the broker: {why}"
        ]
        stored(StoreOutcome.STORED)
        assert world.delivery.state is State.SETTLED


class TestAnOutcomeThatItsTaskWaitsFor:
    """Stored when everything is confirmed, answered when it is stored, settled by the DONE record that comes later."""

    @pytest.fixture
    def world(self) -> World:
        return World()

    def ask(self, world: World, verb: Verb | None = Verb.ACK) -> list[bool]:
        answers: list[bool] = []
        world.settlement.outcome(world.delivery, Asked(0, verb, state()), answers.append)
        return answers

    def test_it_waits_for_what_the_task_has_sent(self, world: World) -> None:
        world.settlement.publish(world.delivery, OTHER)
        answers = self.ask(world)
        assert world.store.waiting == []
        world.confirm_all()
        world.answer(StoreOutcome.STORED)
        assert answers == [True]
        assert world.broker.acked == []
        world.settlement.finish(world.delivery, Verb.ACK, None)
        assert [message.id for message in world.broker.acked] == ["id"]

    def test_a_state_on_the_way_does_not(self, world: World) -> None:
        answers = self.ask(world, None)
        world.settlement.publish(world.delivery, OTHER)
        world.answer(StoreOutcome.STORED)
        assert (answers, world.sent(), world.delivery.facts.stored_verb) == ([True], [b"other"], None)

    def test_the_next_attempt_waits_for_one(self, world: World) -> None:
        answers = self.ask(world, None)
        world.settlement.publish(world.delivery, NEXT)
        assert world.sent() == []
        world.answer(StoreOutcome.STORED)
        assert (answers, world.sent()) == ([True], [b"next"])

    def test_what_was_not_sent_makes_no_outcome(self, world: World) -> None:
        world.settlement.publish(world.delivery, OTHER)
        answers = self.ask(world)
        waiting, world.publisher.waiting = world.publisher.waiting, []
        waiting[0][3](Published.NACKED)  # type: ignore[misc]
        assert (answers, world.store.waiting) == ([False], [])
        world.settlement.finish(world.delivery, Verb.ACK, None)
        assert world.broker.acked == []

    def test_nor_does_one_that_cannot_be_stored(self, world: World) -> None:
        answers = self.ask(world)
        world.answer(StoreOutcome.FAILED)
        assert (answers, world.delivery.facts.stored_verb) == ([False], None)
        world.settlement.finish(world.delivery, Verb.ACK, None)
        assert world.broker.acked == []

    def test_one_that_the_store_never_takes_does_not_run_again(self, world: World) -> None:
        answers = self.ask(world)
        world.answer(StoreOutcome.REFUSED)
        assert answers == [False]
        world.settlement.finish(world.delivery, Verb.ACK, None)
        world.answer(StoreOutcome.REFUSED)
        assert ([m.id for m in world.broker.acked], list(world.broker.queue)) == (["id"], [])

    def test_once_it_is_stored_the_verb_is_known(self, world: World) -> None:
        self.ask(world, Verb.REJECT)
        world.answer(StoreOutcome.STORED)
        assert world.delivery.facts.stored_verb is Verb.REJECT

    @pytest.mark.parametrize(("published", "sent"), [(Published.CONFIRMED, True), (Published.NACKED, False)])
    def test_without_a_document_it_is_answered_when_all_is_sent(
        self, world: World, published: Published, sent: bool
    ) -> None:
        world.settlement.publish(world.delivery, OTHER)
        answers: list[bool] = []
        world.settlement.outcome(world.delivery, Asked(0, Verb.REJECT, None), answers.append)
        assert answers == []
        waiting, world.publisher.waiting = world.publisher.waiting, []
        waiting[0][3](published)  # type: ignore[misc]
        assert (answers, world.store.waiting) == ([sent], [])
        assert world.delivery.facts.stored_verb is (Verb.REJECT if sent else None)

    def test_a_child_that_died_meanwhile_is_not_answered(self, world: World) -> None:
        world.settlement.publish(world.delivery, OTHER)
        answers = self.ask(world)
        world.settlement.finish(world.delivery, Verb.ACK, state())
        world.confirm_all()
        world.answer(StoreOutcome.STORED)
        assert (answers, world.store.waiting) == ([], [])
        assert [message.id for message in world.broker.acked] == ["id"]

    def test_a_verb_that_does_not_exist_is_refused(self, world: World) -> None:
        with pytest.raises(ValueError, match="77"):
            world.settlement.outcome(world.delivery, Asked(0, 77, state()), lambda _: None)
