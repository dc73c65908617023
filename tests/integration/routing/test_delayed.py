"""Tasks that turbo's client sends with an ETA to a quorum queue wait in the broker, as those of Celery's client do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pika
import pytest
from kombu import Connection
from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

from tests.harness.rabbitmq import RabbitMQ
from turbo import Exchange, Queue, Turbo


@pytest.fixture
def client(vhost: str) -> Iterator[Turbo]:
    with Turbo("client", broker=vhost, set_as_current=False) as made:
        made.conf.task_queues = [
            Queue("slow", Exchange("works", "topic"), "slow.#", queue_arguments={"x-queue-type": "quorum"})
        ]
        yield made


@pytest.mark.row("TM4")
@pytest.mark.parametrize("pipelined", [False, True])
def test_it_waits_in_the_broker_before_any_worker_has_run(
    client: Turbo, vhost: str, rabbitmq: RabbitMQ, pipelined: bool
) -> None:
    began = time.monotonic()
    if pipelined:
        with client.pipeline():
            client.send_task("t", queue="slow", routing_key="slow.now")
            client.send_task("t", queue="slow", routing_key="slow.later", countdown=1)
    else:
        client.send_task("t", queue="slow", routing_key="slow.now")
        client.send_task("t", queue="slow", routing_key="slow.later", countdown=1)
    with Connection(vhost) as connection:
        # Whatever differs by a byte is refused here.
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        channel = connection.channel()
        for wanted in ("slow.now", "slow.later"):
            for method, properties, _body in channel.consume("slow", auto_ack=True, inactivity_timeout=30):
                assert method is not None, f"{wanted} has not come"
                assert method.routing_key.endswith(wanted)
                assert (properties.headers["eta"] is not None) is (wanted == "slow.later")
                break
        assert time.monotonic() - began >= 0.9
        channel.cancel()
    # Once declared, nothing is declared again: the next one needs one message.
    client.send_task("t", queue="slow", routing_key="slow.much_later", countdown=600)
    assert rabbitmq.wait_queue("celery_delayed_9", vhost, ready=1).ready == 1


@pytest.mark.row("TM4")
def test_another_connection_makes_sure_again(client: Turbo, vhost: str) -> None:
    client.send_task("t", queue="slow", routing_key="slow.x", countdown=600)
    client.close()
    client.send_task("t", queue="slow", routing_key="slow.x", countdown=600)
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        found = connection.channel().queue_declare("celery_delayed_9", passive=True)
        assert found.method.queue == "celery_delayed_9"
