"""A late task whose follow-up message does not fit into the publisher is not run again before there is room."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import NO_LEASES, Broker, Message, Publisher, Store, header_of, no_events, no_hooks
from turbo.amqp.publish.publisher import Published
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Verb
from turbo.policy.task_options import TaskOptions
from turbo.ring.frames import PublishRequest

FOLLOWUP = PublishRequest("", "q", b"header", b"followup", False)


class Dispatcher:
    """Hands out while nothing pauses it."""

    def __init__(self) -> None:
        self.pauses: set[str] = set()

    def pause(self, reason: str) -> None:
        self.pauses.add(reason)

    def resume(self, reason: str) -> None:
        self.pauses.remove(reason)


def test_it_waits_in_the_worker_until_the_broker_has_taken_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    broker, ledger = Broker(), Ledger()
    publisher, dispatcher, store, link = Publisher(), Dispatcher(), Store(), broker
    parts: list[Any] = [
        publisher,
        DocumentStore(store, dispatcher),  # type: ignore[arg-type]
        ledger,
        dispatcher,
        no_hooks(FailureDocuments({"t": TaskOptions("t", acks_late=True)}, stores=True)),
        link,
        NO_LEASES,
        no_events(),
    ]
    settlement = Settlement(*parts)
    ledger.begin_epoch(broker.open())
    broker.queue.append(Message("id", "t", header_of("id", "t")))
    for round_ in range(1, 9):
        ((tag, deliver, header, body),) = broker.deliver(1)
        assert not dispatcher.pauses, "it may be started"
        delivery = Delivery(1, "q", tag, deliver, header, body)
        ledger.add(delivery)
        delivery.move(State.DISPATCHED)
        delivery.move(State.STARTED)
        publisher.congested = True
        for _ in range(100):
            settlement.publish(delivery, FOLLOWUP)
        assert dispatcher.pauses == {"publishing"}
        settlement.finish(delivery, Verb.ACK, None)
        waiting, publisher.waiting = publisher.waiting, []
        for *_, done in waiting:
            assert done is not None
            done(Published.FAILED)
        assert [message.id for message in broker.queue] == ["id"], "it is back in its queue"
        assert dispatcher.pauses == {"publishing"}, "and is not started"
        publisher.congested = False
        publisher.on_relief()
        assert caplog.text.count("was not taken by the broker") == round_, "a line for each run, not for each message"
    assert caplog.text.count("starting no task until") == 4, "1, 2, 4 and 8"
