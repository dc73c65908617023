"""django-celery-results and django-celery-beat in an unmodified Django project on PostgreSQL, and its connections.

One worker runs for the tests of the database backend and of beat; what a client of the project's own reads is what
its workers, turbo's children and its master, have stored.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(240)  # three servers, a database with its tables and a worker are set up once


@dataclass(frozen=True, slots=True)
class Site:
    """The project's directory, its database and its worker."""

    place: Place
    postgres: Postgres
    database: str

    @property
    def env(self) -> dict[str, str]:
        return {
            **self.place.client_env,
            **self.postgres.environment(self.database),
            "DJANGO_SETTINGS_MODULE": "site_proj.settings",
            "RECORD": str(self.place.record("turbo")),
        }

    def run(self, *command: str | Path, **env: str) -> str:
        """Run a Python program of the project; its standard output."""
        done = subprocess.run(
            [sys.executable, *command], cwd=self.place.directory, env={**self.env, **env},
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self, *what: str, **env: str) -> Any:
        return json.loads(self.run(HERE / "site_client.py", *what, **env).splitlines()[-1])

    def recorded(self, what: str) -> list[list[Any]]:
        path = self.place.record("turbo")
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [details for event, *details in found if event == what]

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.query(self.database, statement, *values)

    def is_connected(self, pid: int) -> bool:
        """Whether this process of the server's still serves a connection."""
        return bool(self.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))


@pytest.fixture(scope="module")
def site(
    rabbitmq: RabbitMQ, redis_server: RedisServer, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    directory = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "site", directory, dirs_exist_ok=True)
    made = Site(Place(rabbitmq, vhost, redis_server.new_database(), directory), postgres, postgres.new_database())
    made.run("-m", "django", "migrate", "-v", "0")
    yield made
    made.place.close()
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[WorkerProcess]:
    with site.place.worker("-c", "1", app="site_proj", env=site.env) as running:
        running.wait_for_line(READY, timeout=60)
        yield running
        running.terminate()
        assert running.wait() == 0


@pytest.mark.row("DJ5", "DJ6")
def test_connections_are_the_tasks_own(site: Site, worker: WorkerProcess) -> None:
    ((master, before),) = site.recorded("before")
    first, second, third = site.client("connections", "lose")
    child = first[0]
    assert site.recorded("inherited") == [[child, True]], "the fork has brought the master's connection along"
    assert len({before, first[1], second[1], third[1]}) == 4, "a connection for each task"
    assert site.is_connected(before), "dropping it in the child did not end it for the master"
    ((lost_in, lost),) = site.recorded("loses")
    assert {master, lost_in, second[0], third[0]} == {master, child}, "one child ran them all, also after the loss"
    assert site.recorded("cache closed").count([child]) >= 3
    for pid in (first[1], second[1], lost, third[1]):
        wait_until("the task's connection is closed", lambda pid=pid: not site.is_connected(pid), 20)  # type: ignore[misc]


@pytest.mark.row("DJ8", "DJ9", "EC8")
def test_results_in_the_database(site: Site, worker: WorkerProcess) -> None:
    assert site.client("results", "chord") == {
        "add": ["SUCCESS", "3", False],
        "fail": ["FAILURE", "ValueError('as it must')", True],
        "hang": ["FAILURE", "TimeLimitExceeded(1)", False],
        "expired": ["REVOKED", "TaskRevokedError('expired')", False],
        "committed": ["SUCCESS", "11", False],
        "chord": ["SUCCESS", "10", False],
    }
    rows = site.query("SELECT task_name, status, task_args, worker FROM django_celery_results_taskresult")
    assert ("things.tasks.add", "SUCCESS", '"(1, 2)"') in {row[:3] for row in rows}
    assert ("things.tasks.hang", "FAILURE", '"()"') in {row[:3] for row in rows}, "stored by the master"
    assert {row[3].split("@")[0] for row in rows if row[1] == "SUCCESS"} == {"celery"}


@pytest.mark.row("EC1", "EC8")
def test_beat_with_its_schedule_in_the_database(site: Site, worker: WorkerProcess) -> None:
    site.client("schedule")
    beat = WorkerProcess(
        *("-A", "site_proj", "beat", "-l", "info", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler"),
        directory=site.place.directory,
        env=site.env,
        command=(sys.executable, "-m", "celery"),
    )
    ticks = "SELECT status, result FROM django_celery_results_taskresult WHERE periodic_task_name = 'each second'"
    with beat:
        wait_until("two ticks are done", lambda: site.query(ticks).count(("SUCCESS", '"ticked"')) >= 2, 40)


@pytest.mark.row("DJ5", "DJ9")
def test_results_in_the_cache_and_connections_used_again(site: Site) -> None:
    results = {"SITE_RESULTS": "django-cache", "SITE_REUSE": "100"}
    with site.place.worker("-c", "1", "-Q", "cached", app="site_proj", env={**site.env, **results}) as running:
        running.wait_for_line(READY, timeout=60)
        assert site.client("results", SITE_QUEUE="cached", **results) == {
            "add": ["SUCCESS", "3", False],
            "fail": ["FAILURE", "ValueError('as it must')", True],
            "hang": ["FAILURE", "TimeLimitExceeded(1)", False],
            "expired": ["REVOKED", "TaskRevokedError('expired')", False],
            "committed": ["SUCCESS", "11", False],
        }
        first, second = site.client("connections", SITE_QUEUE="cached", **results)
        assert first == second, "CELERY_DB_REUSE_MAX leaves the connection open"
        running.terminate()
        assert running.wait() == 0
