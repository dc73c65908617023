"""Every public name of Celery's API is in turbo under the same path, or listed with its reason in the docs."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from typing import Any

import celery
import celery.app.control
import celery.canvas
import celery.exceptions
import celery.result
import celery.schedules
import celery.signals
import pytest
from celery.backends.redis import RedisBackend
from celery.contrib import abortable

import turbo
import turbo.contrib.abortable
import turbo.exceptions
import turbo.schedules
import turbo.signals
from tests.harness.surface import listed, missing_from_class, missing_from_module
from turbo.result import EagerResult

MODULES = (
    "celery",
    "celery.app.base",
    "celery.app.control",
    "celery.app.log",
    "celery.app.task",
    "celery.bootsteps",
    "celery.canvas",
    "celery.contrib.abortable",
    "celery.contrib.pytest",
    "celery.contrib.testing.app",
    "celery.contrib.testing.manager",
    "celery.contrib.testing.mocks",
    "celery.contrib.testing.tasks",
    "celery.contrib.testing.worker",
    "celery.exceptions",
    "celery.result",
    "celery.schedules",
    "celery.signals",
    "celery.states",
    "celery.utils.log",
    "celery.worker.control",
)

BACKEND = "celery.backends.redis.RedisBackend"
#: The methods of a backend that programs call; the others serve Celery's own parts.
CALLED = set(
    "as_uri cleanup client delete delete_group forget get get_children get_group_meta get_result get_state get_status "
    "get_task_meta get_traceback mark_as_done mark_as_failure mark_as_retry mark_as_revoked mark_as_started "
    "reload_task_result restore_group save_group set store_result wait_for_pending".split()
)
REDIS = "redis://127.0.0.1:1/0"
#: Celery's own Redis backend connects when a set of results is made.
theirs = celery.Celery("surface", backend="cache+memory://", set_as_current=False)
ours = turbo.Turbo("surface", backend=REDIS, set_as_current=False)


def _add(x: int, y: int) -> int:
    return x + y


def _objects(package: Any, app: Any, schedules: Any, signals: Any, abortable_module: Any, eager: Any) -> dict[str, Any]:
    """One object of every class that programs use, by the path of the class."""
    task = app.task(_add, name="surface.add", shared=False)
    app.finalize()
    call = task.s(1, 2)
    result = app.AsyncResult("1")
    return {
        "celery.app.base.Celery": app,
        "celery.app.control.Control": app.control,
        "celery.app.control.Inspect": app.control.inspect(),
        "celery.app.task.Context": package.app.task.Context(),
        "celery.app.task.Task": app.tasks["surface.add"],
        "celery.canvas.Signature": call,
        "celery.canvas.chain": package.chain(call, call, app=app),
        "celery.canvas.chord": package.chord([call], call, app=app),
        "celery.canvas.chunks": task.chunks([(1, 2)], 1),
        "celery.canvas.group": package.group([call], app=app),
        "celery.canvas.xmap": task.map([1]),
        "celery.canvas.xstarmap": task.starmap([(1, 2)]),
        "celery.contrib.abortable.AbortableAsyncResult": abortable_module.AbortableAsyncResult("1", app=app),
        "celery.events.state.State": app.events.State(),
        "celery.events.state.Task": app.events.State().Task("1"),
        "celery.events.state.Worker": app.events.State().Worker("w@h"),
        "celery.result.AsyncResult": result,
        "celery.result.EagerResult": eager("1", 1, "SUCCESS"),
        "celery.result.GroupResult": app.GroupResult("1", [result]),
        "celery.result.ResultSet": app.ResultSet([result]),
        "celery.schedules.crontab": schedules.crontab(),
        "celery.schedules.schedule": schedules.schedule(60),
        "celery.signals.task_prerun": signals.task_prerun,
    }


CELERYS = {
    **_objects(celery, theirs, celery.schedules, celery.signals, abortable, celery.result.EagerResult),
    BACKEND: RedisBackend(app=theirs, url=REDIS),
}
TURBOS = {
    **_objects(turbo, ours, turbo.schedules, turbo.signals, turbo.contrib.abortable, EagerResult),
    BACKEND: ours.backend,
}
EXCEPTIONS = [
    name
    for name, value in vars(celery.exceptions).items()
    if inspect.isclass(value) and value.__module__ == "celery.exceptions" and hasattr(turbo.exceptions, name)
]


def _names(*owners: str) -> set[str]:
    return {name for line in listed() if line.owner in owners for name in line.names}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_every_name_or_lists_it(module: str) -> None:
    assert missing_from_module(module) == _names(module)


@pytest.mark.parametrize("path", CELERYS)
def test_an_object_has_every_attribute_or_lists_it(path: str) -> None:
    missing = missing_from_class(CELERYS[path], TURBOS[path])
    if path == BACKEND:
        missing = {name for name in missing if name.partition("(")[0] in CALLED}
    bases = [f"{base.__module__}.{base.__qualname__}" for base in type(CELERYS[path]).__mro__]
    assert missing - _names(path, *bases) == set()
    assert _names(path) - missing == set()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_has_the_attributes_of_celerys(name: str) -> None:
    made = [getattr(importlib.import_module(f"{package}.exceptions"), name)() for package in ("celery", "turbo")]
    assert missing_from_class(*made) == set()


def test_each_name_is_listed_once_for_something_that_is_compared() -> None:
    names = Counter((line.owner, name) for line in listed() for name in line.names)
    assert [name for name, times in names.items() if times > 1] == []
    assert {owner for owner, _ in names} <= {*MODULES, *CELERYS}
