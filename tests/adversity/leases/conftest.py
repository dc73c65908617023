"""A broker with a consumer timeout of some seconds, and workers of the lease app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adversity.leases.tasks import LEASE
from tests.harness.oracle import Oracle
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
#: Seconds after which the broker takes a message back.
TIMEOUT = 8.0
MakeWorker = Callable[..., WorkerProcess]


@pytest.fixture
def impatient(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """The session's broker with a consumer timeout of some seconds, checked every second."""
    rabbitmq.ensure_running()
    rabbitmq.evaluate("application:set_env(rabbit, channel_tick_interval, 1000)")
    rabbitmq.evaluate(f"application:set_env(rabbit, consumer_timeout, {int(TIMEOUT * 1000)})")
    yield rabbitmq
    rabbitmq.ensure_running()
    rabbitmq.evaluate("application:set_env(rabbit, channel_tick_interval, 60000)")
    rabbitmq.evaluate("application:set_env(rabbit, consumer_timeout, 1800000)")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which the task ``gated`` waits."""
    return tmp_path / "gate"


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    """The type of the task queue."""
    return str(request.param)


@pytest.fixture
def make_worker(tmp_path: Path, vhost: str, oracle: Oracle, kind: str) -> MakeWorker:
    """Return a function that makes a worker, not started. Settings are given as ``setting=value``."""

    def make(*options: str, settings: tuple[str, ...] = (), **environment: str) -> WorkerProcess:
        surroundings = {"LEASE_BROKER": vhost, "LEASE_QUEUE_TYPE": kind, **oracle.env, **environment}
        given = any(one.startswith("worker.delivery_lease") for one in settings)
        lease = () if given else (f"worker.delivery_lease={LEASE}",)
        command = ("-A", "tests.adversity.leases.tasks", "-l", "debug", *options, "--", *lease, *settings)
        return WorkerProcess(*command, directory=tmp_path, env=surroundings)

    return make
