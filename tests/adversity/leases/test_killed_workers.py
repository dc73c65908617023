"""A task that kills its whole worker is given up in the end; what waited behind it is not charged for that."""

from __future__ import annotations

import contextlib

import pika
import pytest

from tests.adversity.leases.conftest import READY, MakeWorker
from tests.adversity.leases.tasks import DEAD, QUEUE
from tests.adversity.leases.test_leases import queues_of, send
from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo.policy.poison import DELIVERIES

MOST = 3


def ends(worker: WorkerProcess, broker: RabbitMQ, url: str) -> bool:
    """Wait until the worker is killed, or the task dead-lettered; whether it was killed."""

    def over() -> bool:
        dead = broker.queue(DEAD, url)
        return worker.process.poll() is not None or (dead is not None and dead.ready > 0)

    wait_until("the worker is killed, or the task given up", over, 90)
    return worker.process.poll() is not None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_task_that_kills_its_worker_is_given_up_and_the_others_run(
    make_worker: MakeWorker, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, concurrency: int
) -> None:
    killed, ids = 0, []
    while True:
        with make_worker("-c", str(concurrency), settings=(f"task.max_deliveries={MOST}",)) as worker:
            if not ids:
                worker.wait_for_line(READY)
                with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost))) as connection:
                    connection.channel().queue_declare(DEAD, durable=True)
                ids = send(vhost, [("deadly", ()), *[("long", (0.3,))] * 6])
            if ends(worker, rabbitmq, vhost):
                killed += 1
                assert killed <= MOST + 1, "it is started for ever"
                continue
            oracle.wait_ids("end", ids[1:])
            rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
            worker.terminate()
            assert worker.wait() == 0
            break
    deadly, others = ids[0], ids[1:]
    # The first start is that of any message; each further one was written down before it.
    assert oracle.ids("start").count(deadly) == killed == MOST + 1
    (failure,) = [trace.event for trace in oracle.traces() if trace.id == deadly and trace.event.startswith("failed")]
    assert failure.startswith(f"failed WorkerLostError Given up after {MOST} deliveries")
    assert "worker that ran it was lost" in failure
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost))) as connection:
        _method, properties, _body = connection.channel().basic_get(DEAD, auto_ack=True)
    assert properties.headers["id"] == deadly and properties.headers[DELIVERIES] == MOST
    if concurrency == 1:
        # None of them has ever run beside it.
        oracle.check_started_once(others)
    assert not any(queues_of(rabbitmq, vhost).values())
