"""The worker that runs the guide's examples, and its clients."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pika
import pytest

from tests.guide import examples
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import current

READY = r"ready\.$"


class Guide:
    """The examples as imported by this process, the worker that runs them, and their servers."""

    def __init__(self, directory: Path, vhost: str, worker: WorkerProcess) -> None:
        self.directory = directory
        self.worker = worker
        self._vhost = vhost

    def module(self, number: int) -> ModuleType:
        """Return the module of this block of the guide."""
        return importlib.import_module(f"guide.e{number:02}")

    @property
    def app(self) -> Any:
        """Return the app of all examples."""
        return importlib.import_module("guide.celery").app

    def line(self, text: str) -> str:
        """Wait until the worker logs a line that matches ``text``."""
        return self.worker.wait_for_line(text).string

    def state(self, result: Any, wanted: str) -> Any:
        """Wait until a task has this state; return its stored result."""
        wait_until(f"{wanted} of {result.id}", lambda: bool(result.state == wanted), 60)
        return result.info

    def take(self, queue: str) -> tuple[Any, bytes]:
        """Wait for a message in ``queue``; return its properties and body."""
        connection = pika.BlockingConnection(pika.URLParameters(self._vhost))
        try:
            channel = connection.channel()
            channel.queue_declare(queue, durable=True)
            found: list[tuple[Any, bytes]] = []

            def there() -> bool:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is not None:
                    found.append((properties, body))
                return bool(found)

            wait_until(f"a message in {queue}", there, 60)
            return found[0]
        finally:
            connection.close()


def _forget() -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] in examples.TOP]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def guide(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    """One worker with all examples. This process imports the same modules, and its state is restored at the end."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    directory = tmp_path_factory.mktemp("guide")
    examples.write(directory, vhost, redis_server.new_database())
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    connection.channel().queue_declare("dead", durable=True)
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current, "_finalizers", [])
        patch.setattr(current, "_default_app", None)
        patch.setattr(current._apps, "app", None)
        patch.setattr(sys, "path", [str(directory), *sys.path])
        held = {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] in examples.TOP}
        _forget()
        options = ("-A", "guide.celery:app", "-c", "2", "-l", "info")
        with WorkerProcess(*options, directory=directory) as worker:
            worker.wait_for_line(READY)
            place = Guide(directory, vhost, worker)
            yield place
            for name in ("guide.celery", "guide.e09", "guide.e49"):
                importlib.import_module(name).app.close()
        _forget()
        sys.modules.update(held)
    rabbitmq.delete_vhost(vhost)
