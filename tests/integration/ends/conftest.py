"""A worker of either kind of app, for ends that are decided outside the normal end of a task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import celery
import pika
import pytest

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess


@dataclass
class Place:
    """A virtual host, a database and a record file."""

    lib: str
    broker: str
    backend: str
    directory: Path
    client: celery.Celery
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {
            "ENDS_LIB": self.lib, "ENDS_BROKER": self.broker, "ENDS_BACKEND": self.backend, "C_FORCE_ROOT": "1",
            "ENDS_RECORD": str(self.directory / "record"), "ENDS_SETTINGS": json.dumps(dict(self.settings)),
        }  # fmt: skip

    def worker(self, *options: str) -> WorkerProcess:
        """Return a worker, not started."""
        command = ("-A", "tests.integration.ends.ends_app", "-c", "2", "-l", "info", *options)
        return WorkerProcess(*command, directory=self.directory, env=self.env)

    def lines(self, what: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """Return the recorded lines, of one task if given."""
        path = self.directory / "record"
        text = path.read_text() if path.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [details for each, identifier, details in found if each == what and task_id in (None, identifier)]

    def wait(self, what: str, task_id: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until an event was recorded this many times; return its lines."""
        wait_until(f"{count} {what} of {task_id}", lambda: len(self.lines(what, task_id)) >= count, 60)
        return self.lines(what, task_id)

    def channel(self) -> pika.BlockingConnection:
        """Open a connection for the test."""
        return pika.BlockingConnection(pika.URLParameters(self.broker))


@pytest.fixture(scope="module", params=["turbo", "celery"])
def place(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A place for each kind of app."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost, backend = rabbitmq.new_vhost(), redis_server.new_database()
    with ExitStack() as stack:
        client = stack.enter_context(celery.Celery("client", broker=vhost, backend=backend, set_as_current=False))
        client.conf.task_default_queue = "ends"
        yield Place(request.param, vhost, backend, tmp_path_factory.mktemp("ends"), client)
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)
