"""A Celery app in a directory: writes it, runs it with either worker, and reads what it recorded."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import TURBO, WorkerProcess

READY = r"ready\.$"
_ROOT = Path(__file__).resolve().parents[3]

#: Every app of these tests begins with it: the app, and a recorder that adds one line to a file at a time.
HEAD = """
import json
import os
from billiard.process import current_process
from celery import Celery, signals

def record(what, **details):
    line = json.dumps([current_process()._name, what, details], default=str) + "\\n"
    out = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line.encode())
    os.close(out)

app = Celery("proj", broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_BACKEND"])
app.conf.broker_connection_retry_on_startup = True
"""


class Place:
    """The directory of the app, its broker and its store."""

    def __init__(self, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        self.rabbitmq = rabbitmq
        self.vhost = vhost
        self.directory = directory
        self.client = Celery("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._env = {"PROJ_BROKER": vhost, "PROJ_BACKEND": redis_db, "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore"}

    def write(self, text: str, name: str = "proj.py", head: str = HEAD) -> None:
        """Write the app's module."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + textwrap.dedent(text))

    def worker(
        self,
        *options: str,
        by: str = "turbo",
        app: str = "proj",
        env: dict[str, str] | None = None,
        python: str = sys.executable,
    ) -> WorkerProcess:
        """Return ``turbo worker`` or ``celery worker`` for the app, not started; each records to its own file."""
        quiet = ("--without-gossip", "--without-mingle") if by == "celery" else ()
        return WorkerProcess(
            *("-A", app, "worker", "-l", "info", *quiet, *options),
            directory=self.directory,
            env={**self._env, "RECORD": str(self.record(by)), **(env or {})},
            command=(python, "-m", by),
        )

    @property
    def client_env(self) -> dict[str, str]:
        """Return the environment of a program that imports the app as a client."""
        paths = os.pathsep.join([str(self.directory), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**self._env, "PYTHONPATH": paths}

    def command(self, *arguments: str) -> WorkerProcess:
        """Return another turbo command for the app, not started."""
        return WorkerProcess("-A", "proj", *arguments, directory=self.directory, env=self._env, command=TURBO[:-1])

    def record(self, by: str) -> Path:
        """Return the file to which the app records under this worker."""
        return self.directory / f"record-{by}"

    def recorded(self, by: str = "turbo") -> list[tuple[str, str, dict[str, Any]]]:
        """Return what the app recorded: process, event, details."""
        path = self.record(by)
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def wait_recorded(
        self, what: str, by: str = "turbo", *, where: Callable[[dict[str, Any]], bool] | None = None
    ) -> None:
        """Wait until the app has recorded this event."""

        def seen() -> bool:
            return any(event == what and (where is None or where(details)) for _, event, details in self.recorded(by))

        wait_until(f"{what} was recorded", seen, 60)

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()
