"""A broker that refuses what the worker publishes: a start is treated as by one that refuses its consumers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.lifecycle.test_broker_refuses import broker_errors
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Oracle
from tests.harness.processes import free_port
from tests.harness.rabbitmq import RabbitMQ, vhost_of

WRITE = "CELERY_BROKER_WRITE_URL"


@pytest.mark.row("CN15")
@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda url: url.replace("guest:guest", "guest:wrong"), "check the user and the password"),
        (lambda url: url + "-missing", "create the virtual host"),
    ],
    ids=["wrong password", "missing virtual host"],
)
def test_a_start_that_may_not_publish_ends_with_69(
    change: Callable[[str], str],
    hint: str,
    make_worker: MakeWorker,
    producer: Producer,
    oracle: Oracle,
    rabbitmq: RabbitMQ,
    vhost: str,
) -> None:
    producer.send([("waits", "early", ())])
    with make_worker("-c", "1", env={WRITE: change(vhost)}) as worker:
        assert worker.wait() == 69
        # The outage is said once, and again at rising intervals where its few tries take that long.
        *outage, last = broker_errors(worker)
        assert outage and all("consumer: " in line and hint in line for line in outage)
        assert outage[0].startswith("consumer: Cannot connect to ")
        assert "the broker refuses this worker" in last and "gives up" in last and hint in last
        assert "guest:wrong" not in worker.output
        assert not re.search(READY, worker.output)
    assert not oracle.traces(), "nothing runs whose follow-ups nobody takes"
    rabbitmq.wait_queue(QUEUE, vhost, ready=1, unacked=0)


@pytest.mark.row("CN15")
def test_a_start_waits_to_publish_when_set_so(make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str) -> None:
    name = f"{vhost_of(vhost)}-later"
    waits = ("--", "broker.connection_retry_on_startup=true")
    with make_worker("-c", "1", *waits, env={WRITE: rabbitmq.vhost_url(name)}) as worker:
        worker.wait_for_line("create the virtual host")
        rabbitmq.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
        try:
            rabbitmq.evaluate(
                f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, '
                '<<".*">>, <<"tests">>)'
            )
            worker.wait_for_line(READY)
            worker.terminate()
            assert worker.wait() == 0
        finally:
            rabbitmq.delete_vhost(name)


def test_nothing_listens_for_what_is_published(make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str) -> None:
    nowhere = f"amqp://127.0.0.1:{free_port()}"
    with make_worker("-c", "1", env={WRITE: nowhere}) as worker:
        worker.wait_for_line("Cannot connect to .*refused.*hint: nothing listens there.*")
        assert len(broker_errors(worker)) == 1, "the next line comes ten seconds later"
        assert not re.search(READY, worker.output)
        worker.terminate()
        assert worker.wait() == 0
    with make_worker("-c", "1", "--", "broker.connection_retry=false", env={WRITE: nowhere}) as worker:
        assert worker.wait() == 1
        assert "no broker could be reached at start" in worker.output
        assert not re.search(READY, worker.output)
