"""A worker that is asked to end while it starts ends at once, in order, and without warnings."""

from __future__ import annotations

import re

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.lifecycle.test_broker_refuses import broker_errors
from tests.adversity.torture.load import Producer
from tests.harness.fault_proxy import FaultProxy
from tests.harness.rabbitmq import vhost_of

#: The request itself, a child that had not started yet, and what the slow connection costs.
USUAL = re.compile("TERM: warm shutdown|died: retired|Remote control is not reachable yet")


@pytest.mark.parametrize(
    "point",
    [
        "consuming: connecting to",
        "Connected to",
        "Publishing to",
        "Prefetch window from",
        "Consuming from",
        READY,
    ],
)
def test_a_worker_ends_in_order_wherever_its_start_is(
    point: str, make_worker: MakeWorker, producer: Producer, fault_proxy: FaultProxy, vhost: str
) -> None:
    # Enough for the prefetch window to grow soon.
    producer.send((f"task-{n}", "early", ()) for n in range(500))
    # So slow that what the worker waits for at this point has not come when the signal does.
    fault_proxy.delay(0.1)
    broker = f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost_of(vhost)}"
    with make_worker("-c", "2", "-l", "debug", broker=broker) as worker:
        worker.wait_for_line(point)
        worker.terminate()
        assert worker.wait() == 0
        assert [each for each in broker_errors(worker) if not USUAL.search(each)] == []
        assert not re.search("consumer not found|already cancelling|does not answer", worker.output)
