"""turbo's own API in a Django project on PostgreSQL: its set-up, its connections, and Django's own tasks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ecosystem.django_site import HERE, Site
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY

pytestmark = pytest.mark.timeout(600)  # three servers, a database with its tables and a worker are set up once


class Native(Site):
    """The project that has turbo's own app."""

    project = "native_proj"
    program = "native_client.py"


@pytest.fixture(scope="module")
def site(
    rabbitmq: RabbitMQ, redis_server: RedisServer, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("native")
    with Native.made(rabbitmq, redis_server, postgres, HERE / "native", directory, "--run-syncdb") as made:
        yield made


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[WorkerProcess]:
    with site.running_worker(SITE_COMPLAINS="1") as running:
        yield running


@pytest.mark.row("DJ1", "DJ2", "DJ3", "DJ4", "DJ10")
def test_the_project_is_set_up_for_the_worker(site: Site, worker: WorkerProcess) -> None:
    worker.wait_for_line(r"this project is not in order")
    worker.wait_for_line(r"limits +hard 44 s")
    worker.wait_for_line(r"things\.tasks\.whose$")
    worker.wait_for_line(r"turbo\.django\.run$")
    assert not re.search(r"^ *(tasks +)?demo\.", worker.output, re.MULTILINE), (
        "tasks of turbo's demonstration are its own"
    )
    assert site.client("zones") == ["Europe/Oslo", "Europe/Oslo"]


@pytest.mark.row("DJ5", "DJ6", "PL23")
def test_connections_are_the_tasks_own(site: Site, worker: WorkerProcess) -> None:
    first, second = site.client("connections")
    (third,) = site.client("lost")
    site.check_connections(first, second, third)


@pytest.mark.row("DJ5")
def test_a_pool_is_the_tasks_own(site: Site, worker: WorkerProcess) -> None:
    ((_, before),) = site.recorded("before, pooled")
    (child, first), (again, second) = site.client("pooled")
    assert child == again
    assert len({before, first, second}) == 3
    site.wait_closed(first, second)
    assert site.is_connected(before), "dropping the pool in the child did not end the master's"


@pytest.mark.row("DJ5")
def test_a_coroutines_connection_is_closed_in_the_thread_that_has_it(site: Site, worker: WorkerProcess) -> None:
    (child, first), (again, second) = site.client("coroutines")
    assert child == again
    assert first != second
    site.wait_closed(first, second)


@pytest.mark.row("DJ5")
def test_a_transaction_that_a_task_left_open_is_rolled_back(site: Site, worker: WorkerProcess) -> None:
    pid, names, (_, other) = site.client("abandoned")
    assert (pid != other, names) == (True, ["kept"])
    site.wait_closed(pid)


def test_a_receiver_in_the_master_has_a_connection_as_a_task_has(site: Site, worker: WorkerProcess) -> None:
    known = len(site.recorded("heard"))
    site.client("deaths")
    ((master, _),) = site.recorded("before")
    wait_until("both deaths are heard of", lambda: len(site.recorded("heard")) == known + 2, 60)
    (first_in, first), (second_in, second) = site.recorded("heard")[known:]
    assert master == first_in == second_in
    assert first != second
    site.wait_closed(first, second)


@pytest.mark.row("DJ7", "DJ8")
def test_tasks_are_sent_when_the_transaction_is_committed(site: Site, worker: WorkerProcess) -> None:
    assert site.client("on_commit") == [[None, None], False, True]


@pytest.mark.row("DJ7", "DJ8")
def test_the_guides_views(site: Site, worker: WorkerProcess) -> None:
    """The first is the one that the guide warns of: its task may be faster than the commit."""
    (first, _), (second, on_commit), (third, by_hand) = site.client("guide")
    assert {first, second, third} == {"/articles/"}
    wait_until("all three tasks have run", lambda: len(site.recorded("expands")) == 3, 60)
    found = {pk: there for _, pk, there in site.recorded("expands")}
    assert (found[on_commit], found[by_hand]) == (True, True)


@pytest.mark.row("DJ1", "DJ5")
def test_a_connection_lives_as_long_as_its_setting_says(site: Site) -> None:
    own = {"SITE_QUEUE": "aged", "SITE_MAX_AGE": "600", "RECORD": str(site.place.record("aged"))}
    unchecked = {"CELERY_SKIP_CHECKS": "1", "SITE_COMPLAINS": "1"}
    with site.worker("-Q", "aged", **own, **unchecked) as running:
        running.wait_for_line(READY, timeout=60)
        first, second = site.client("connections", **own)
        assert first == second
        assert site.is_connected(first[1])
        site.query("SELECT pg_terminate_backend(%s)", first[1])
        site.wait_closed(first[1])
        third, fourth = site.client("connections", **own)
        assert third == fourth, "that the kept one has ended is no task's trouble"
        assert "this project is not in order" not in running.output
        running.terminate()
        assert running.wait() == 0


# -- Django's own tasks ----------------------------------------------------------------------------------------


@pytest.mark.row("CA18")
def test_djangos_tasks(site: Site, worker: WorkerProcess) -> None:
    done = site.client("enqueued")
    assert done.pop("sent") == ["READY", False, 0]
    context = done["context"]["value"]
    assert context[:2] + context[3:] == ["n", 1, "RUNNING", 50, "default"]
    values = {name: found["value"] for name, found in done.items() if found["status"] == "SUCCESSFUL"}
    assert values.pop("from a task")
    assert values == {"add": 3, "context": context, "coroutine": 0.1, "awaited": 7}
    assert all(found["in order"] for found in done.values())
    assert {len(found["workers"]) for found in done.values()} == {1}
    assert done["add"]["called"] == [[1], {"y": 2}, "default", "add"]
    failed = {name: found["errors"] for name, found in done.items() if found["status"] == "FAILED"}
    assert {name: [kind for kind, _ in errors] for name, errors in failed.items()} == {
        "fail": ["LookupError"], "not json": ["TypeError"], "killed": ["WorkerLostError"],
    }  # fmt: skip
    assert "in fail" in failed["fail"][0][1]
    told = [details[1:] for details in site.recorded("task_finished")]
    assert ["TurboBackend", "wait", "SUCCESSFUL", True] in told
    assert ["TurboBackend", "fail", "FAILED", True] in told
    assert ["TurboBackend", "kill", "RUNNING", False] in [details[1:] for details in site.recorded("task_started")]
    worker.wait_for_line(r"things\.jobs\.add\[\S+\] received")
    worker.wait_for_line(r"things\.jobs\.add\[\S+\] succeeded")


def test_one_of_djangos_tasks_at_its_time(site: Site, worker: WorkerProcess) -> None:
    assert site.client("deferred") == [["READY", True, 0], "SUCCESSFUL", True]


def test_the_page_says_what_the_projects_have() -> None:
    page = (HERE.parents[1] / "docs" / "django.md").read_text()
    app, tasks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    blog = HERE.parents[1] / "examples" / "django_blog" / "mysite" / "tasks_app.py"
    assert blog.read_text().endswith(app)
    found: dict[str, Any] = {}
    exec(tasks, found)
    settings = (HERE / "native" / "native_proj" / "settings.py").read_text()
    assert found["TASKS"]["default"] == ast.literal_eval(re.search(r'"default": (.*),\n    "silent"', settings)[1])  # type: ignore[index]


def test_what_the_backend_refuses(site: Site, worker: WorkerProcess) -> None:
    refused = site.client("refusals")
    assert re.fullmatch("InvalidTask(Error)?", refused.pop("queue"))
    assert refused == {
        "unknown": "TaskResultDoesNotExist", "of another": "TaskResultMismatch", "arguments": "TypeError",
        "unreadable": "NotImplementedError",
    }  # fmt: skip
    wait_until("the one whose result nobody reads is run", lambda: bool(site.recorded("silently")), 60)


def test_queues_and_priorities_of_djangos_tasks(site: Site) -> None:
    site.client("queued")
    with site.place.client.connection_for_read() as connection:
        channel = connection.default_channel
        messages = [channel.basic_get("express", no_ack=True) for _ in range(3)]
    assert [message.properties["priority"] for message in messages] == [10, 5, 0]
