"""A pytest plugin with Celery's fixtures: an app and a real worker.

The worker runs beside an embedded broker.

A program's tests choose it by ``pytest_plugins = ("turbo.contrib.pytest",)`` in the conftest.py beside its pytest
configuration. Every app has a virtual host of its own in one broker process, so no test gets another's messages.
"""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from turbo.app.new_id import uuid
from turbo.contrib.testing.app import TestApp, setup_default_app
from turbo.contrib.testing.worker import start_worker
from turbo.embedded_broker.launch import run_in_subprocess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from turbo.app.base import Turbo
    from turbo.contrib.testing.worker import TestWorkController

#: Set in the environment, it skips every test with a worker.
NO_WORKER: Final = os.environ.get("NO_WORKER")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark ``celery``, whose arguments are settings of one test's app."""
    config.addinivalue_line("markers", "celery(**overrides): override celery configuration for a test case")


# -- what a program overrides ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether the use of the current app raises RuntimeError."""
    return False


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether workers log at INFO; otherwise they log errors only."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules to import before an app is made, such as those with shared tasks."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The value of the worker's option ``--pool``."""
    return "prefork"


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the apps; with a ``broker_url``, no embedded broker is started."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of the apps' constructor."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Arguments of ``start_worker``, such as ``{"queues": ["mail"]}``."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Tasks, written as classes, to register in the apps of workers."""
    return []


# -- what tests use ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def turbo_broker() -> Iterator[str]:
    """The URL of an embedded broker that lives as long as the tests.

    Append the name of a virtual host to it.
    """
    with run_in_subprocess() as broker:
        yield broker.url.removesuffix("/")


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_includes: Sequence[str],
    use_celery_app_trap: bool,
) -> Iterator[Turbo]:
    """One app for all tests."""
    with _app(request, celery_config, celery_parameters, celery_includes, use_celery_app_trap) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Turbo,
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
) -> Iterator[TestWorkController]:
    """One worker for all tests, with the tasks that the app has at its start.

    The app is ``celery_session_app``.
    """
    options = _worker_options(celery_worker_pool, celery_enable_logging, celery_worker_parameters)
    with _worker(celery_session_app, celery_class_tasks, options) as worker:
        yield worker


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_includes: Sequence[str],
    use_celery_app_trap: bool,
) -> Iterator[Turbo]:
    """An app for one test."""
    with _app(request, celery_config, celery_parameters, celery_includes, use_celery_app_trap) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Turbo,
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
) -> Iterator[TestWorkController]:
    """A worker for one test. Call its ``reload`` after the test has defined a task."""
    options = _worker_options(celery_worker_pool, celery_enable_logging, celery_worker_parameters)
    with _worker(celery_app, celery_class_tasks, options) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Turbo) -> None:
    """Make ``celery_app`` the current app."""
    celery_app.set_current()


@contextmanager
def _app(
    request: pytest.FixtureRequest,
    config: Mapping[str, Any],
    parameters: Mapping[str, Any],
    includes: Sequence[str],
    use_trap: bool,
) -> Iterator[Turbo]:
    mark = request.node.get_closest_marker("celery")
    settings = {**config, **(mark.kwargs if mark else {})}
    if "broker_url" not in settings and "broker" not in parameters:
        settings["broker_url"] = f"{request.getfixturevalue('turbo_broker')}{uuid()}"
    for module in includes:
        # Before the tasks of a test are set apart: these modules' tasks belong to later apps too.
        importlib.import_module(module)
    app = TestApp(config=settings, **parameters)
    with setup_default_app(app, use_trap=use_trap):
        yield app


def _worker_options(pool: str, enable_logging: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"pool": pool, **({"loglevel": "info"} if enable_logging else {}), **given}


@contextmanager
def _worker(app: Turbo, class_tasks: Sequence[Any], options: dict[str, Any]) -> Iterator[TestWorkController]:
    if NO_WORKER:
        pytest.skip("the environment has NO_WORKER")
    for task in class_tasks:
        app.register_task(task)
    with start_worker(app, **options) as worker:
        yield worker
