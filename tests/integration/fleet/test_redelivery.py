"""A task acknowledged late outlives the workers that run it, whatever their make, and ends once at the last."""

from __future__ import annotations

import json

import pytest

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.fleet.conftest import fleet

_SEND = """
from fleet_app import survivor
survivor.apply_async((%d,), task_id=%r, queue="shared")
"""
_READ = """
import json
from fleet_app import app
print(json.dumps(app.AsyncResult(%r).get(timeout=60)))
"""


@pytest.mark.row("CN5", "CN29")
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_from_celery_to_turbo_and_back(
    queue_type: str, rabbitmq: RabbitMQ, redis_server: RedisServer, unique: str
) -> None:
    """Each worker is killed in the middle of the task, but for the last one."""
    makes = ("celery", "turbo", "celery")
    with fleet(rabbitmq, redis_server, {}, queue_type=queue_type) as made, made.store as store:

        def runs() -> int:
            count: int = store.llen(f"lives:{unique}")
            return count

        worker = made.start(makes[0], "w0", "-c", "1")
        made.client(_SEND % (len(makes), unique))
        for number, make in enumerate(makes[1:], start=1):
            wait_until("the task runs", lambda number=number: runs() == number, 60)
            successor = made.start(make, f"w{number}", "-c", "1")
            worker.kill()
            worker.close()
            worker = successor
        redelivered = json.loads(made.client(_READ % unique))
        assert redelivered[:2] == [False, True]
        # What turbo ran comes back as a copy, which is new to its queue. The broker marks it only where it first
        # went to the killed worker's consumer, which may be registered for a moment longer.
        assert len(redelivered) == len(makes)
        assert runs() == len(makes)
        assert rabbitmq.wait_queue("shared", made.broker, unacked=0).ready == 0
