"""Workers of a turbo and a Celery app, controlled by Celery's client and command line."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness import site
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
#: Seconds that a client waits for replies; no test checks how long they took.
PATIENCE = 20.0
NODE = "one@here"


class Post(site.Site):
    """A broker, a store, an app of one kind, and its workers."""

    patience = 60.0

    def __init__(self, kind: str, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        super().__init__(kind, rabbitmq, vhost, redis_db, directory)
        self.client.conf.broker_connection_retry_on_startup = True
        self.environment = {
            "KIND": kind,
            "CONTROLLED_BROKER": vhost,
            "CONTROLLED_BACKEND": redis_db,
            "C_FORCE_ROOT": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def worker(self, *options: str, name: str = NODE, env: dict[str, str] | None = None) -> WorkerProcess:
        """Return a worker with these options, not started."""
        return WorkerProcess(
            *("-A", "tests.integration.control.controlled", "-n", name, "-l", "info", *options),
            directory=self.directory,
            env={**self.environment, **(env or {})},
        )

    def fifo(self) -> Path:
        """Make a FIFO; a task waits until something is written to it."""
        place = self.directory / f"fifo-{uuid.uuid4().hex[:8]}"
        os.mkfifo(place)
        return place

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send a task; return its id."""
        sent: str = self.client.send_task(f"controlled.{task}", args, **options).id
        return sent

    def ask(self, method: str, *nodes: str, **arguments: Any) -> Any:
        """Send a command to one node; return its reply."""
        destination = list(nodes or [NODE])
        replies = self.client.control.broadcast(
            method, arguments=arguments, destination=destination, reply=True, timeout=PATIENCE
        )
        found = {node: reply for each in replies for node, reply in each.items()}
        return found if nodes else found[NODE]

    def wait_active(self, identifier: str) -> dict[str, Any]:
        """Wait until a task runs; return its entry in ``inspect active``."""
        rows: list[dict[str, Any]] = []

        def runs() -> bool:
            rows[:] = [row for row in self.ask("active") if row["id"] == identifier]
            return bool(rows)

        wait_until(f"{identifier} runs", runs, 60)
        return rows[0]

    def pids(self) -> list[int]:
        """Return the pids of the children."""
        found: list[int] = self.ask("stats")["pool"]["processes"]
        return found

    def left(self) -> int:
        """Return the number of unsettled messages of the task queue."""
        facts = self.rabbitmq.queue("celery", self.vhost)
        return 0 if facts is None else facts.ready + facts.unacked

    def celery(self, *commands: Sequence[str]) -> list[str]:
        """Run several Celery commands at the same time, all of which must succeed; return their output."""
        env = {**os.environ, **self.environment, "KIND": "celery"}
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.integration.control.controlled", *arguments],
                cwd=Path(__file__).parents[3],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for arguments in commands
        ]
        said = []
        try:
            for run in runs:
                out, err = run.communicate(timeout=90)
                assert run.returncode == 0, out + err
                said.append(out)
        finally:
            for run in runs:
                run.kill()
                run.communicate()
        return said


@pytest.fixture(scope="module")
def make_post(
    rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Post]]:
    """Return a function that makes posts for a kind of app: ``turbo`` or ``celery``."""
    with site.making(Post, rabbitmq, redis_server, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module", params=["turbo", "celery"])
def post(request: pytest.FixtureRequest, make_post: Callable[[str], Post]) -> Iterator[Post]:
    """One worker with two children, shared by all tests of a module; each test leaves it idle."""
    found = make_post(request.param)
    with found.worker("-c", "2") as worker:
        worker.wait_for_line(READY, 60)
        yield found
