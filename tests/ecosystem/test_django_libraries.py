"""django-celery-results and django-celery-beat in an unmodified Django project on PostgreSQL, and its connections.

One worker runs for the tests of the database backend and of beat; what a client of the project's own reads is what
its workers, turbo's children and its master, have stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.ecosystem.django_site import HERE, Site
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess

pytestmark = pytest.mark.timeout(600)  # three servers, a database with its tables and a worker are set up once


class Libraries(Site):
    """The project that has both libraries."""

    project = "site_proj"
    program = "site_client.py"


@pytest.fixture(scope="module")
def site(
    rabbitmq: RabbitMQ, redis_server: RedisServer, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    with Libraries.made(rabbitmq, redis_server, postgres, HERE / "site", directory) as made:
        yield made


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[WorkerProcess]:
    with site.running_worker() as running:
        yield running


@pytest.mark.row("DJ5", "DJ6")
def test_connections_are_the_tasks_own(site: Site, worker: WorkerProcess) -> None:
    site.check_connections(*site.client("connections", "lose"))


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
    """First ``celery beat``, then ``turbo beat``, which goes on with the last run in the database."""
    site.client("schedule")
    ticks = "SELECT status, result FROM django_celery_results_taskresult WHERE periodic_task_name = 'each second'"

    def ticked() -> int:
        return site.query(ticks).count(("SUCCESS", '"ticked"'))

    for program, scheduler in (("celery", "django_celery_beat.schedulers:DatabaseScheduler"), ("turbo", "django")):
        before = ticked()
        with WorkerProcess(
            *("-A", "site_proj", "beat", "-l", "info", "--scheduler", scheduler),
            directory=site.place.directory,
            env=site.env,
            command=(sys.executable, "-m", program),
        ) as beat:
            wait_until("two ticks are done", lambda: ticked() >= before + 2, 90)  # noqa: B023
            beat.terminate()
            assert beat.wait() == 0


@pytest.mark.row("DJ5", "DJ9")
def test_results_in_the_cache_and_connections_used_again(site: Site) -> None:
    results = {"SITE_RESULTS": "django-cache", "SITE_REUSE": "100"}
    with site.running_worker("-Q", "cached", **results):
        assert site.client("results", SITE_QUEUE="cached", **results) == {
            "add": ["SUCCESS", "3", False],
            "fail": ["FAILURE", "ValueError('as it must')", True],
            "hang": ["FAILURE", "TimeLimitExceeded(1)", False],
            "expired": ["REVOKED", "TaskRevokedError('expired')", False],
            "committed": ["SUCCESS", "11", False],
        }
        first, second = site.client("connections", SITE_QUEUE="cached", **results)
        assert first == second, "CELERY_DB_REUSE_MAX leaves the connection open"
