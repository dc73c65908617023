"""``turbo.contrib.testing``: a worker that is a fork of the tests' process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery
import psutil
import pytest

from tests.harness.processes import wait_until
from turbo import Turbo, current_app
from turbo.contrib.testing.app import TestApp, set_trap, setup_default_app
from turbo.contrib.testing.tasks import ping
from turbo.contrib.testing.worker import start_worker, test_worker_started, test_worker_stopped
from turbo.embedded_broker.launch import run_in_subprocess


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The URL of an embedded broker, without the virtual host."""
    with run_in_subprocess() as process:
        yield process.url.removesuffix("/")


@contextmanager
def app_at(url: str) -> Iterator[Turbo]:
    """An app that is closed, and no longer current, after the block."""
    app = TestApp("contrib", broker=url)
    with setup_default_app(app):
        yield app


@pytest.mark.row("EC9")
def test_it_has_the_tasks_of_the_test(broker: str) -> None:
    price = 3
    with app_at(broker + "tasks") as app:

        @app.task
        def total(count: int) -> tuple[int, int]:
            return price * count, os.getppid()

        with start_worker(app) as worker:
            worker.ensure_started()
            value, spawner = total.delay(2).get(timeout=60)
            assert value == 6
            assert worker.pid in (spawner, psutil.Process(spawner).ppid())

            @app.task
            def later() -> str:
                return "reloaded"

            first = worker.pid
            worker.reload()
            assert later.delay().get(timeout=60) == "reloaded"
            assert worker.pid != first
        assert worker.pid is None
        with pytest.raises(RuntimeError, match="does not run"):
            worker.ensure_started()


def test_shared_tasks_and_signals(broker: str) -> None:
    seen: list[Any] = []

    def note(sender: Any, worker: Any, **_: Any) -> None:
        seen.append((sender, worker))

    test_worker_started.connect(note)
    test_worker_stopped.connect(note)
    with app_at(broker + "shared") as app, start_worker(app, queues=["celery", "other"], concurrency=2) as worker:
        assert current_app._get_current_object() is app  # type: ignore[attr-defined]
        assert ping.apply_async(queue="other").get(timeout=60) == "pong"
    assert seen == [(app, worker), (app, worker)]


def test_a_celery_app(broker: str) -> None:
    app = celery.Celery("theirs", broker=broker + "celery", backend="rpc://", set_as_current=False)

    @app.task(shared=False)
    def double(x: int) -> int:
        return 2 * x

    with start_worker(app):
        assert double.delay(4).get(timeout=60) == 8
    # Celery closes neither by itself; a socket that is still open fails whichever test runs when it is collected.
    app.backend.result_consumer.stop()
    app.pool.force_close_all()
    app.close()


def test_a_worker_that_cannot_start_says_why(broker: str) -> None:
    with (
        app_at(broker + "wrong") as app,
        pytest.raises(RuntimeError, match=r"(?s)the worker test.* ended.*No such option"),
        start_worker(app, no_such_option=1),
    ):
        pass


def test_a_task_that_outlasts_the_timeout(broker: str, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with app_at(broker + "long") as app:

        @app.task
        def long() -> None:
            started.touch()
            time.sleep(600)

        with pytest.raises(RuntimeError, match=r"did not end within 0.2 s and was killed"):
            with start_worker(app, shutdown_timeout=0.2) as worker:
                long.delay()
                wait_until("the task runs", started.exists, 60)
                pid = worker.pid
        assert not psutil.pid_exists(pid or 0)


_TESTS = """
import os, sys, time
from turbo.contrib.testing.app import TestApp
from turbo.contrib.testing.worker import start_worker
with start_worker(TestApp(broker=sys.argv[1])) as worker:
    print(worker.pid, flush=True)
    time.sleep(600)
"""


def test_it_ends_with_killed_tests(broker: str) -> None:
    tests = subprocess.Popen([sys.executable, "-c", _TESTS, broker + "killed"], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    worker = psutil.Process(int(tests.stdout.readline()))
    processes = [worker, *worker.children(recursive=True)]
    tests.send_signal(signal.SIGKILL)
    tests.wait(60)
    tests.stdout.close()
    psutil.wait_procs(processes, timeout=30)
    assert [each for each in processes if each.is_running()] == []


def test_the_trap() -> None:
    before = current_app._get_current_object()  # type: ignore[attr-defined]
    with set_trap(None), pytest.raises(RuntimeError, match="depends on current_app"):
        _ = current_app.tasks
    assert current_app._get_current_object() is before  # type: ignore[attr-defined]


def test_tasks_of_one_test_are_not_in_the_next() -> None:
    with app_at("amqp://127.0.0.1:1//") as first:

        @first.task(name="contrib.of_one_test")
        def of_one_test() -> None: ...

    with app_at("amqp://127.0.0.1:1//") as second:
        assert "contrib.of_one_test" not in second.tasks
