"""Workers of three kinds, each with a broker of its own and a monitor: Celery's, turbo's of a Celery app, turbo's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.harness.monitor import Monitor
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess

READY = r"ready\.$"
NODE = "one@here"


class Site:
    """A broker, a store, a client, and workers of one kind: ``celery``, ``adopted`` or ``native``."""

    def __init__(self, kind: str, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        self.kind = kind
        self.rabbitmq = rabbitmq
        self.vhost = vhost
        self.directory = directory
        self.client = Celery("client", broker=vhost, backend=redis_db, set_as_current=False)
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
            method, arguments=arguments, destination=[NODE], reply=True, timeout=20.0
        )  # fmt: skip
        return replies[0][NODE]

    def wait_state(self, identifier: str, state: str) -> None:
        """Wait until the stored state is this one."""
        wait_until(f"{identifier} is {state}", lambda: self.client.AsyncResult(identifier).state == state, 60)

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()


@pytest.fixture(scope="module")
def make_site(
    rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Site]]:
    """Makes sites of a kind."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    made: list[Site] = []

    def make(kind: str) -> Site:
        vhost = rabbitmq.new_vhost()
        made.append(Site(kind, rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp("events")))
        return made[-1]

    yield make
    for site in made:
        site.close()
        rabbitmq.ensure_running()
        rabbitmq.delete_vhost(site.vhost)
