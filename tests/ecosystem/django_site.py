"""A Django project with its own PostgreSQL database, broker and store: its processes and what it recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Site:
    """The project's directory, database and client."""

    #: The project's package and its client's program; the package's module ``settings`` is Django's.
    project: ClassVar[str]
    program: ClassVar[str]

    place: Place
    postgres: Postgres
    database: str

    @property
    def env(self) -> dict[str, str]:
        return {
            **self.place.client_env,
            **self.postgres.environment(self.database),
            "DJANGO_SETTINGS_MODULE": f"{self.project}.settings",
            "RECORD": str(self.place.record("turbo")),
        }

    def run(self, *command: str | Path, **env: str) -> str:
        """Run a Python program of the project; return its standard output."""
        done = subprocess.run(
            [sys.executable, *command], cwd=self.place.directory, env={**self.env, **env},
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self, *what: str, **env: str) -> Any:
        """Run the client's program; return what it printed."""
        return json.loads(self.run(HERE / self.program, *what, **env).splitlines()[-1])

    def worker(self, *options: str, **env: str) -> WorkerProcess:
        """Return a worker with one child, not started."""
        return self.place.worker("-c", "1", *options, app=self.project, env={**self.env, **env})

    @contextmanager
    def running_worker(self, *options: str, **env: str) -> Iterator[WorkerProcess]:
        """Run a worker during the block; it is ready at the start and is shut down at the end."""
        with self.worker(*options, **env) as running:
            running.wait_for_line(READY, timeout=60)
            yield running
            running.terminate()
            assert running.wait() == 0

    def recorded(self, what: str) -> list[list[Any]]:
        path = self.place.record("turbo")
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [details for event, *details in found if event == what]

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.query(self.database, statement, *values)

    def is_connected(self, pid: int) -> bool:
        """Return whether this server process still serves a connection."""
        return bool(self.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))

    def wait_closed(self, *pids: int) -> None:
        """Wait until none of these server processes serves a connection."""
        for pid in pids:
            wait_until("the connection is closed", lambda pid=pid: not self.is_connected(pid), 60)  # type: ignore[misc]

    @classmethod
    @contextmanager
    def made(
        cls,
        rabbitmq: RabbitMQ,
        redis_server: RedisServer,
        postgres: Postgres,
        source: Path,
        directory: Path,
        *sync: str,
    ) -> Iterator[Site]:
        """Yield a copy of the project ``source`` with its tables, made by ``migrate`` with the options ``sync``."""
        rabbitmq.ensure_running()
        redis_server.ensure_running()
        vhost = rabbitmq.new_vhost()
        shutil.copytree(source, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        made = cls(Place(rabbitmq, vhost, redis_server.new_database(), directory), postgres, postgres.new_database())
        made.run("-m", "django", "migrate", "-v", "0", *sync)
        yield made
        made.place.close()
        rabbitmq.ensure_running()
        rabbitmq.delete_vhost(vhost)

    def check_connections(self, first: list[int], second: list[int], third: list[int]) -> None:
        """Check the connections of three tasks, each given as (child, server process).

        One was open before the fork, and a task between the second and the third lost its own.
        """
        ((master, before),) = self.recorded("before")
        child = first[0]
        assert self.recorded("inherited") == [[child, True]], "the fork has brought the master's connection along"
        assert len({before, first[1], second[1], third[1]}) == 4, "a connection for each task"
        assert self.is_connected(before), "dropping it in the child did not end it for the master"
        ((lost_in, lost),) = self.recorded("loses")
        assert {lost_in, second[0], third[0]} == {child} != {master}, "one child ran them all, also after the loss"
        assert self.recorded("cache closed").count([child]) >= 3
        self.wait_closed(first[1], second[1], lost, third[1])
