"""docs/testing.md: its examples, as the tests of a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, examples


def run_tests(directory: Path, **environment: str) -> str:
    """Write the page's examples to the files that they name, and run pytest there; return its output."""
    for example in examples("testing.md"):
        path = directory / example.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-ra", "--strict-markers"],
        cwd=directory, capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", "PYTEST_ADDOPTS": "", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.row("EC9")
@pytest.mark.timeout(300)
def test_the_examples_pass(tmp_path: Path) -> None:
    assert "4 passed" in run_tests(tmp_path)


@pytest.mark.timeout(300)
def test_workers_are_skipped_by_the_environment(tmp_path: Path) -> None:
    printed = run_tests(tmp_path, NO_WORKER="1")
    assert "1 passed, 3 skipped" in printed
    assert "the environment has NO_WORKER" in printed


_LOGGING = """
import logging

import pytest

import turbo


@pytest.fixture(scope="session")
def celery_enable_logging():
    return True


def test_it(celery_session_app, celery_session_worker):
    @celery_session_app.task(name="shop.greet")
    def greet():
        logging.getLogger("shop").info("good morning")
        return 1

    celery_session_worker.reload()
    assert greet.delay().get(timeout=60) == 1


class Own(turbo.Task):
    name = "shop.own"

    def run(self):
        return "own"


@pytest.fixture(scope="session")
def celery_class_tasks():
    return [Own]


def test_workers_do_not_take_each_others_messages(celery_session_app, celery_session_worker, celery_app, celery_worker):
    @celery_app.task(name="shop.mine")
    def mine():
        return "mine"

    celery_worker.reload()
    assert [mine.delay().get(timeout=60) for _ in range(20)] == ["mine"] * 20
    assert [app.send_task("shop.own").get(timeout=60) for app in (celery_app, celery_session_app)] == ["own"] * 2


@pytest.mark.celery(task_always_eager=True)
def test_eager(celery_app):
    @celery_app.task
    def two():
        return 2

    assert two.delay().get() == 2
"""


@pytest.mark.timeout(300)
def test_session_workers_and_the_log(tmp_path: Path) -> None:
    for example in examples("testing.md"):
        if example.startswith("# conftest.py"):
            (tmp_path / "conftest.py").write_text(example.replace('"shop.tasks"', ""))
    (tmp_path / "test_log.py").write_text(_LOGGING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s"],
        cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "good morning" in done.stderr
    assert "Task shop.greet" in done.stderr
