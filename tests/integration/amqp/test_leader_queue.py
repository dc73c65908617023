"""Election by a queue, against both brokers: who leads, what the next leader gets, how a leader learns of its end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pika
import pytest

from tests.harness.embedded import BrokerUnderTest
from tests.harness.processes import wait_until
from turbo.amqp.client.leader_queue import LeaderQueue
from turbo.amqp.url import parse_broker_urls
from turbo.exceptions import ImproperlyConfigured, OperationalError

Candidate = Callable[[], LeaderQueue]


@pytest.fixture(params=["classic", "quorum"])
def candidate(request: pytest.FixtureRequest, any_broker: BrokerUnderTest, unique: str) -> Iterator[Candidate]:
    made: list[LeaderQueue] = []

    def new() -> LeaderQueue:
        queue = LeaderQueue(parse_broker_urls(any_broker.url), None, unique, request.param)
        made.append(queue)
        queue.connect()
        return queue

    yield new
    for queue in made:
        queue.close()


def lead(queue: LeaderQueue) -> bytes:
    """Wait until it leads; what it was left."""
    for _ in range(60):
        queue.wait(0.5)
        if queue.leads:
            return queue.value
    raise AssertionError("it never leads")


def test_the_first_leads_and_the_others_wait(candidate: Candidate) -> None:
    first, second = candidate(), candidate()
    assert lead(first) == b""
    second.wait(1)
    assert not second.leads
    with pytest.raises(OperationalError, match="does not lead"):
        second.store(b"mine")


def test_the_next_gets_the_last_value(candidate: Candidate) -> None:
    first = candidate()
    lead(first)
    for number in range(30):
        first.store(b"%d" % number)
    second, third = candidate(), candidate()
    first.close()
    assert lead(second) == b"29"
    second.store(b"30")
    second.close()
    assert lead(third) == b"30"


def test_each_next_gets_the_last_value_however_many_wait(candidate: Candidate) -> None:
    """Those who wait have left values of their own, which the leader has not looked at when it stops."""
    leader = candidate()
    for number in range(15):
        lead(leader)
        leader.store(b"%d" % number)
        following, another = candidate(), candidate()
        leader.close()
        assert lead(following) == b"%d" % number
        another.close()
        leader = following


def test_a_leader_that_was_given_up_can_store_nothing(candidate: Candidate) -> None:
    """Its connection is cut; the next one has the value that was confirmed."""
    first, second = candidate(), candidate()
    lead(first)
    first.store(b"confirmed")
    first._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
    assert lead(second) == b"confirmed"
    with pytest.raises(OperationalError):
        first.store(b"too late")
    first.close()
    first.connect()
    second.store(b"later")
    second.close()
    assert lead(first) == b"later"


def test_leaders_that_die_without_storing_do_not_use_up_the_delivery_limit(
    candidate: Candidate, any_broker: BrokerUnderTest
) -> None:
    """Beyond its limit, 20 by default since RabbitMQ 4.0, a quorum queue would drop the value."""
    first = candidate()
    lead(first)
    first.store(b"kept")
    first.close()
    for _ in range(6):
        leader = candidate()
        assert lead(leader) == b"kept"
        leader._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        leader.close()
    any_broker.wait(first.queue, ready=1, unacked=0)
    with pika.BlockingConnection(pika.URLParameters(any_broker.url)) as connection:
        # A single active consumer is the only way to look into such a quorum queue.
        _, properties, body = next(connection.channel().consume(first.queue, inactivity_timeout=30))
    assert body == b"kept"
    assert properties.headers.get("x-delivery-count", 0) <= 2


def test_a_deleted_queue_ends_the_lead(candidate: Candidate, any_broker: BrokerUnderTest) -> None:
    first = candidate()
    lead(first)
    with pika.BlockingConnection(pika.URLParameters(any_broker.url)) as connection:
        connection.channel().queue_delete(first.queue)
    with pytest.raises(OperationalError):
        for _ in range(20):
            first.wait(0.5)
    first.close()
    first.connect()
    assert lead(first) == b""


def test_the_queue_stays_short(candidate: Candidate, any_broker: BrokerUnderTest) -> None:
    first = candidate()
    lead(first)
    for _ in range(5):
        candidate()
        first.store(b"x")

    def is_short() -> bool:
        first.wait(0.2)  # it takes out what the others have left
        facts = any_broker.counts(first.queue)
        return facts is not None and (facts.ready, facts.unacked) == (0, 1)

    wait_until("one value is left", is_short, 60)


def test_a_queue_with_other_properties_is_an_error(any_broker: BrokerUnderTest, unique: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(any_broker.url)) as connection:
        connection.channel().queue_declare(unique, durable=False, exclusive=False, auto_delete=True)
        queue = LeaderQueue(parse_broker_urls(any_broker.url), None, unique, "classic")
        with pytest.raises(ImproperlyConfigured, match=f"the queue {unique} cannot be used"):
            queue.connect()
        queue.close()


def test_no_broker_is_an_error_that_passes() -> None:
    queue = LeaderQueue(parse_broker_urls("amqp://127.0.0.1:1//"), None, "any", "classic")
    with pytest.raises(OperationalError):
        queue.connect()
    assert not queue.connected
    queue.close()
