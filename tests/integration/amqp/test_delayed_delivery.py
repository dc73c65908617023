"""Delayed delivery on quorum queues, as Celery's producers use it: declared alike, and never early."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from tests.harness.oracle import Oracle
from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

APP = """
import os
from tests.harness.oracle_record import record
from turbo import Turbo
from turbo.amqp.topology import Exchange, Queue

app = Turbo("delayed", broker=os.environ["DELAYED_BROKER"])
app.conf.task_queues = [
    Queue("slow", Exchange("works", "topic"), "slow.#", queue_arguments={"x-queue-type": "quorum"})
]

@app.task(bind=True, name="trace")
def trace(self):
    record("end", self.request.id)
"""


def _celery(url: str) -> Celery:
    app = Celery("producer", broker=url, set_as_current=False)
    queue = Queue("slow", Exchange("works", "topic"), "slow.#", queue_arguments={"x-queue-type": "quorum"})
    app.conf.task_queues = [queue]
    app.conf.task_default_queue = "slow"
    app.conf.task_default_exchange_type = "topic"
    return app


@pytest.mark.row("TM4", "CN21")
@pytest.mark.parametrize("first", ["celery", "turbo"])
def test_a_celery_producer_delays_in_the_broker(
    first: str, vhost: str, tmp_path: Path, oracle: Oracle, rabbitmq: RabbitMQ
) -> None:
    (tmp_path / "delayed.py").write_text(APP)
    app = _celery(vhost)
    if first == "celery":
        with Connection(vhost) as connection:
            declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
            app.conf.task_queues[0].bind(connection.channel()).declare()
            bind_queue_to_native_delayed_delivery_exchange(connection, app.conf.task_queues[0])
    env = {"DELAYED_BROKER": vhost, **oracle.env}
    with WorkerProcess("-A", "delayed", "-c", "1", "-l", "info", directory=tmp_path, env=env) as worker:
        worker.wait_for_line(r"ready\.$")
        with Connection(vhost) as connection:
            # Whatever differs by a byte is refused here.
            declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        began, watch = time.monotonic(), Stopwatch()
        delayed = app.send_task("trace", countdown=5, routing_key="slow.one", exchange="works", queue="slow")
        # At once: it is there for four seconds.
        rabbitmq.wait_queue("celery_delayed_2", vhost, ready=1)
        prompt = app.send_task("trace", routing_key="slow.two", exchange="works", queue="slow")
        oracle.wait_ids("end", [prompt.id])
        assert rabbitmq.wait_queue("slow", vhost, unacked=0).ready == 0, "the worker holds what the broker should"
        oracle.wait_ids("end", [delayed.id])
        ended = next(trace.mono_ns for trace in oracle.traces("end") if trace.id == delayed.id) / 1e9
        assert 4.9 <= ended - began < 9 + watch.stalled
        assert "delayed delivery could not" not in worker.output
        worker.terminate()
        assert worker.wait(60) == 0
