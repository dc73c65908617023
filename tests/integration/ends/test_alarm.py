"""What late tasks send while the broker is in alarm is never lost, also when their connections are."""

from __future__ import annotations

import json

import pytest

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.integration.ends.conftest import Place

PARENTS = 30
READY = r"ready\.$"
#: Connections that the broker does not read from, because they have published during the alarm.
_BLOCKED = (
    "length([1 || P <- rabbit_networking:connections(), "
    "[{state, blocked}] <- [catch rabbit_networking:connection_info(P, [state])]])"
)


@pytest.mark.row("P25")
def test_follow_ups_under_an_alarm(place: Place, rabbitmq: RabbitMQ) -> None:
    with place.channel() as connection:
        channel = connection.channel()
        channel.queue_declare("sink", durable=True)
        channel.queue_bind("sink", "amq.direct")
    for number in range(PARENTS):
        place.client.send_task("parent", (number,))
    rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
    # Remote control is one, and beside it the master sends for its children, or each child of a Celery app does.
    publishers = 2 if place.lib == "turbo" else 3
    with place.worker() as worker:
        try:
            wait_until("what tasks send is blocked", lambda: int(rabbitmq.evaluate(_BLOCKED)) >= publishers, 60)
            # What the broker has not read from these connections is gone with them.
            rabbitmq.close_all_connections(place.broker)
        finally:
            rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
        worker.wait_for_line(READY, 60)
        wait_until("all parents are settled", lambda: _settled(rabbitmq, place), 60)
    with place.channel() as connection:
        found = set()
        channel = connection.channel()
        while (got := channel.basic_get("sink", auto_ack=True))[0] is not None:
            found.add(json.loads(got[2])[0][0])
    assert found == set(range(PARENTS))


def _settled(rabbitmq: RabbitMQ, place: Place) -> bool:
    facts = rabbitmq.queue("ends", place.broker)
    return facts is not None and facts.ready == 0 and facts.unacked == 0
