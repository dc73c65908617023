"""Fleets: workers of different kinds on the same queues, and the results that a Celery client gets."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.harness.celery_env import CURRENT, celery_producer, celery_python
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess

APPS = Path(__file__).parent
READY = r"ready\.$"
#: What differs from run to run in a stored document.
_MASKS = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r"[0-9a-f]{32}", "<run>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?", "<time>"),
    (r"\b1\d{9}\.\d+", "<clock>"),
    (r"(left|right)@[\w.-]+", "<worker>"),
    (r"x{100,}", "x..."),
    # the path through the delay queues, by which whatever waits reaches a quorum queue
    (r"\b([01]\.){28}", ""),
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A virtual host and a database that several workers share."""

    broker: str
    backend: str
    queue_type: str = "classic"
    workers: dict[str, WorkerProcess] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment variables that ``fleet_app`` reads."""
        return {
            "FLEET_BROKER": self.broker,
            "FLEET_BACKEND": self.backend,
            "FLEET_QUEUE_TYPE": self.queue_type,
            "PYTHONDONTWRITEBYTECODE": "1",
            "C_FORCE_ROOT": "1",
        }

    def worker(self, make: str, name: str, *options: str) -> WorkerProcess:
        """Return a worker of a kind (``turbo``, ``celery`` or ``celery 5.3``), not started."""
        python = celery_python("5.3") if make == "celery 5.3" else Path(sys.executable)
        common = ("-A", "fleet_app", "-n", f"{name}@%h", "-l", "info", *options)
        if make == "turbo":
            return WorkerProcess(*common, directory=APPS, env=self.env, command=TURBO)
        command = (str(python), "-W", "ignore", "-m", "celery", "-A", "fleet_app", "worker")
        env = {**self.env, "PYTHONPATH": str(APPS)}
        return WorkerProcess(*common[2:], "--without-gossip", directory=APPS, env=env, command=command)

    def start(self, make: str, name: str, *options: str) -> WorkerProcess:
        """Start a worker on the shared queue and the queue of its name; return it when it is ready."""
        self.workers[name] = worker = self.worker(make, name, "-Q", f"shared,{name}", *options).start()
        worker.wait_for_line(READY, 90)
        return worker

    def close(self) -> None:
        """End every worker."""
        for worker in self.workers.values():
            worker.close()

    @property
    def store(self) -> redis.Redis:
        """Open the database for a test, which must close it."""
        return redis.Redis.from_url(self.backend)

    def client(self, script: str, *arguments: str, version: str = CURRENT) -> str:
        """Run a Celery client; return what it printed."""
        env = {**self.env, "PYTHONPATH": os.pathsep.join([str(APPS), str(APPS.parents[2])])}
        return celery_producer(version, script, *arguments, env=env, timeout=200)

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Send every scenario of ``fleet_client``; return the outcomes."""
        told: dict[str, dict[str, Any]] = json.loads(self.client((APPS / "fleet_client.py").read_text()))
        return told


@contextmanager
def fleet(
    rabbitmq: RabbitMQ, redis_server: RedisServer, makes: dict[str, str], *options: str, queue_type: str = "classic"
) -> Iterator[Fleet]:
    """Make a fleet of these workers (name to kind), started in this order."""
    rabbitmq.ensure_running()
    with ExitStack() as stack:
        broker = rabbitmq.new_vhost()
        stack.callback(rabbitmq.delete_vhost, broker)
        made = Fleet(broker, redis_server.new_database(), queue_type)
        stack.callback(made.close)
        for name, make in makes.items():
            made.start(make, name, *options)
        yield made


def masked(documents: list[dict[str, Any]]) -> list[str]:
    """Return stored documents without values that differ between runs, sorted."""
    lines = []
    for document in documents:
        shown = {**document, "traceback": document.get("traceback") and "<traceback>"}
        text = json.dumps(shown, sort_keys=True)
        for pattern, replacement in _MASKS:
            text = re.sub(pattern, replacement, text)
        lines.append(text)
    return sorted(lines)
