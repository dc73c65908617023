"""The texts of errors that programs match: each provoked in Celery and in turbo, and compared.

Of a text with several lines the first ones count; turbo says more after them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import celery
import kombu.serialization
import pytest

import turbo
from tests.integration.canvas.both_sides import Side
from turbo.protocol import content

Provoke = Callable[[Side], Any]


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    yield Side(celery, "cache+memory://"), Side(turbo, "redis://nowhere")


def _module(side: Side, name: str) -> Any:
    return importlib.import_module(f"{side.module.__name__}.{name}")


def _limits(side: Side) -> Any:
    return side.app.task(name="limits", shared=False, time_limit=1, soft_time_limit=2)(print_nothing).delay()


def print_nothing() -> None:
    """A body."""


def _in_request(side: Side, call: Callable[[Any], Any], **request: Any) -> Any:
    side.add.push_request(**{"id": "i", "called_directly": False, "is_eager": False, "args": (1,), "kwargs": {},
                             "retries": 3, "delivery_info": {}, **request})  # fmt: skip
    try:
        with side.published():
            return call(side.add)
    finally:
        side.add.pop_request()


def _app(side: Side, **settings: Any) -> Any:
    return side.module.Celery("other", broker="memory://" if side.module is celery else "amqp://nowhere",
                              set_as_current=False, **settings)  # fmt: skip


def _unfinalized(side: Side) -> Any:
    return _app(side, autofinalize=False).tasks


def _nameless(side: Side) -> Any:
    made = type("Nameless", (side.module.Task,), {"run": print_nothing})
    return side.app.tasks.register(made())


def _missing_queue(side: Side) -> Any:
    app = _app(side)
    app.conf.task_create_missing_queues = False
    return app.send_task("t", queue="nowhere")


def _inside_a_task(side: Side) -> Any:
    with _module(side, "result").denied_join_result():
        return side.app.AsyncResult("i").get()


def _unended(side: Side) -> Any:
    result = side.app.AsyncResult("i")
    result.ready = lambda: False
    return list(result.iterdeps())


def _chord(side: Side, backend: str | None) -> Any:
    app = _app(side, **({} if backend is None else {"backend": backend}))
    add = app.task(name="add", shared=False)(print_nothing)
    return side.chord([add.s()], add.s()).delay()


def _disallowed(side: Side) -> Any:
    if side.module is celery:
        return kombu.serialization.loads(b"x", "application/x-python-serialize", "binary", accept=["json"])
    return content.decode(b"x", "application/x-python-serialize", "binary", frozenset({content.JSON}))


def _empty_chain(side: Side) -> Any:
    if side.module is celery:
        made = side.module.canvas._chain()
        made.tasks = []
        return made
    return side.chain(app=side.app)


CASES: dict[str, Provoke] = {
    "link of a group": lambda side: side.group(side.add.s(1)).apply_async(link=side.note.s()),
    "link_error of a group": lambda side: side.group(side.add.s(1)).apply_async(link_error=side.note.s()),
    "an id that is none": lambda side: side.app.AsyncResult(None),
    "a task without a body": lambda side: side.module.Task().run(),
    "limits the wrong way round": _limits,
    "args": lambda side: side.app.send_task("t", args=5),
    "kwargs": lambda side: side.app.send_task("t", kwargs=[1]),
    "too few arguments": lambda side: side.add.delay(),
    "too many arguments": lambda side: side.add.delay(1, 2, 3),
    "an unknown argument": lambda side: side.add.delay(1, z=3),
    "replaced by a part of a chord": lambda side: side.add.replace(side.add.s(1).set(chord=side.note.s())),
    "replaced by an empty chain": lambda side: side.add.replace(_empty_chain(side)),
    "replaced": lambda side: _in_request(side, lambda task: task.replace(side.note.s())),
    "no chord to add to": lambda side: side.add.add_to_chord(side.add.s(1)),
    "a task of what is no function": lambda side: side.app.task(5),
    "not finalized": _unfinalized,
    "no such variable": lambda side: side.app.config_from_envvar("NO_SUCH_VARIABLE"),
    "a task without a name": _nameless,
    "an unknown task": lambda side: side.app.tasks["nope"],
    "an unknown task taken out": lambda side: side.app.tasks.unregister("nope"),
    "a missing queue": _missing_queue,
    "the task of chains": lambda side: side.app.tasks["celery.chain"](),
    "no member": lambda side: _module(side, "result").ResultSet([]).remove("nope"),
    "joined with on_message": lambda side: _module(side, "result").ResultSet([]).join(on_message=print),
    "children that are not known": _unended,
    "no result backend": lambda side: _app(side).AsyncResult("i").get(),
    "a chord without a backend": lambda side: _chord(side, None),
    "a chord with rpc": lambda side: _chord(side, "rpc://"),
    "waiting in a task": _inside_a_task,
    "no retries left": lambda side: _in_request(side, lambda task: task.retry()),
    "retried": lambda side: _in_request(side, lambda task: task.retry(countdown=5), retries=0),
    "retried for a reason": lambda side: _in_request(
        side, lambda task: task.retry(exc=KeyError("why"), countdown=5), retries=0
    ),
    "rejected": lambda side: _raise(_module(side, "exceptions").Reject("why", requeue=True)),
    "an attribute of a request": lambda side: side.add.request.nope,
    "a setting": lambda side: side.app.conf.nope,
    "a setting as an item": lambda side: side.app.conf["nope"],
    "a destination": lambda side: side.app.control.ping(destination="one@here"),
    "a countdown out of range": lambda side: side.app.send_task("t", countdown=-1e12),
    "what JSON lacks": lambda side: side.note.delay(object()),
    "an unknown serializer": lambda side: side.note.apply_async(serializer="nope"),
    "a body that is not accepted": _disallowed,
}  # fmt: skip

#: Where turbo's class is another one, by its name there.
OTHER_CLASS = {"an unknown serializer": "EncodeError", "an unknown task taken out": "NotRegistered"}


def _raise(error: BaseException) -> Any:
    raise error


def provoked(side: Side, provoke: Provoke) -> tuple[str, str]:
    with pytest.raises(Exception) as raised:
        provoke(side)
    return type(raised.value).__name__, str(raised.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_they_are_celerys(sides: tuple[Side, Side], name: str) -> None:
    theirs, ours = (provoked(side, CASES[name]) for side in sides)
    assert ours[0] == OTHER_CLASS.get(name, theirs[0])
    text = theirs[1].split("\n\n")[0] if name == "no such variable" else theirs[1].split("\n")[0]
    assert ours[1] == text or (ours[1].startswith((f"{text}\n", f"{text}: ")) and text)
