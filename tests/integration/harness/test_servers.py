"""The harness itself: servers start, answer, die and come back, and leave nothing behind."""

from __future__ import annotations

import pika

from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ


def test_a_fresh_vhost_is_empty_and_quick(rabbitmq: RabbitMQ, vhost: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        for _ in range(3):
            channel.basic_publish("", "q", b"x")
        assert channel.basic_get("q")[0] is not None
        facts = rabbitmq.queue("q", vhost)
        assert facts is not None
        assert (facts.ready, facts.unacked, facts.durable) == (2, 1, True)
    assert rabbitmq.queue("q", "/") is None
    began = Stopwatch()
    rabbitmq.delete_vhost(rabbitmq.new_vhost())
    assert began.seconds < 1


def test_connections_are_closed_on_demand(rabbitmq: RabbitMQ, vhost: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    try:
        assert rabbitmq.connections("no such") == 0
        assert rabbitmq.close_all_connections() >= 1
        try:
            connection.process_data_events(time_limit=10)
        except pika.exceptions.ConnectionClosedByBroker:
            return
        raise AssertionError("the broker did not close the connection")
    finally:
        if connection.is_open:
            connection.close()
