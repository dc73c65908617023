"""Workers of three kinds, each with a broker of its own and a monitor: Celery's, turbo's of a Celery app, turbo's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import site
from tests.harness.monitor import Monitor
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess

READY = r"ready\.$"
NODE = "one@here"


class Site(site.Site):
    """A broker, a store, a client, and workers of one kind: ``celery``, ``adopted`` or ``native``."""

    def __init__(self, kind: str, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        super().__init__(kind, rabbitmq, vhost, redis_db, directory)
        self.env = {
            "KIND": "turbo" if kind == "native" else "celery",
            "EVENTED_BROKER": vhost,
            "EVENTED_BACKEND": redis_db,
            "C_FORCE_ROOT": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def worker(self, *options: str, name: str = NODE, env: dict[str, str] | None = None) -> WorkerProcess:
        """A worker with these options, not started."""
        command = (sys.executable, "-m", "celery") if self.kind == "celery" else TURBO[:-1]
        quiet = ("--without-gossip", "--without-mingle") if self.kind == "celery" else ()
        return WorkerProcess(
            *("-A", "tests.integration.events.evented", "worker", "-n", name, "-l", "info", *quiet, *options),
            directory=self.directory,
            env={**self.env, **(env or {})},
            command=command,
        )

    @contextlib.contextmanager
    def watched(self, *options: str, env: dict[str, str] | None = None) -> Iterator[tuple[Monitor, WorkerProcess]]:
        """A monitor and a ready worker with these options."""
        with Monitor(self.client) as monitor, self.worker(*options, env=env) as worker:
            worker.wait_for_line(READY, 60)
            yield monitor, worker

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send a task; its id."""
        sent: str = self.client.send_task(f"evented.{task}", args, **options).id
        return sent

    def ask(self, method: str, **arguments: Any) -> Any:
        """Ask the worker; its reply."""
        replies = self.client.control.broadcast(
            method, arguments=arguments, destination=[NODE], reply=True, timeout=60.0
        )  # fmt: skip
        return replies[0][NODE]


@pytest.fixture(scope="module")
def make_site(
    rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Site]]:
    """Makes sites of a kind."""
    with site.making(Site, rabbitmq, redis_server, tmp_path_factory) as make:
        yield make
