from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.app.recording import make_app
from turbo import current
from turbo.app.base import Turbo
from turbo.app.shared import current_app, current_task, shared_task
from turbo.app.task import Task


def request(direct: bool) -> Any:
    return SimpleNamespace(called_directly=direct)


@pytest.mark.row("EX7")
def test_the_stack() -> None:
    outer, inner = request(False), request(True)
    assert current.top() is None and current.current_task() is None and not current_task
    a = current.push("A", outer)
    b = current.push("B", inner)
    assert current.current_task() == "B" and current_task == "B"
    assert current.request_of("A") is outer and current.request_of("B") is inner
    frame = current.worker_frame()
    assert frame is not None and frame.task == "A"
    current.pop(b)
    assert current.current_task() == "A" and current.request_of("B") is None
    current.pop(a)
    assert current.top() is None


def test_drop_ends_only_the_tasks_own_frame() -> None:
    current.push("A", request(True))
    with pytest.raises(RuntimeError, match="'B'"):
        current.drop("B")
    current.drop("A")
    assert current.top() is None


@pytest.mark.row("EX35")
def test_threads_and_contexts_have_stacks_of_their_own() -> None:
    token = current.push("A", request(False))
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(current.top()))
    thread.start()
    thread.join()
    assert seen == [None]
    copy_context().run(lambda: current.push("B", request(False)))
    assert current.current_task() == "A"
    current.pop(token)


def test_the_last_app_made_is_current_in_every_thread() -> None:
    Turbo("first")
    last = Turbo("last")
    Turbo("aside", set_as_current=False)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(current.current_app()))
    thread.start()
    thread.join()
    assert current.current_app() is last and seen == [last]
    assert current_app.main == "last" and isinstance(current_app, Turbo)


def test_without_an_app_there_is_a_default_one() -> None:
    app = current.current_app()
    assert app.main == "default" and current.current_app() is app


@pytest.mark.row("TD2")
class TestSharedTask:
    def test_belongs_to_the_current_app(self) -> None:
        @shared_task(name="shared.add")
        def add(x: int, y: int) -> int:
            """Adds."""
            return x + y

        one = Turbo("one")
        assert add.app is one and add(1, 2) == 3 and add.__doc__ == "Adds."
        two = Turbo("two")
        assert add.app is two and one.tasks["shared.add"] is not two.tasks["shared.add"]
        assert add == two.tasks["shared.add"] and repr(add) == repr(two.tasks["shared.add"])

    def test_joins_apps_that_are_finalized_already(self) -> None:
        app = Turbo("early")
        app.finalize()

        @shared_task
        def late() -> None: ...

        assert app.registered(late.name) is not None
        assert late.name == f"{__name__}.late"

    def test_bound_with_options(self) -> None:
        Turbo("x")

        @shared_task(bind=True, max_retries=7)
        def body(self: Any) -> Any:
            return self.max_retries

        assert body() == 7


def test_a_fork_forgets_what_belongs_to_its_parent() -> None:
    current.set_publisher(SimpleNamespace(publish=None))
    current.set_state_store(lambda *_: None)
    assert current.in_worker_child()
    current._forget_after_fork()
    assert current.get_publisher() is None and current.get_state_store() is None


def test_who_asks_for_the_tasks_while_they_are_being_settled_waits_for_all_of_them() -> None:
    settling, may_settle = threading.Event(), threading.Event()

    def join(app: Turbo) -> None:
        settling.set()
        may_settle.wait(30)
        app.task(name="shared", shared=False)(lambda: None)

    current.connect_on_app_finalize(join)
    app = make_app()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(lambda: "shared" in app.tasks)
        assert settling.wait(30)
        second = threads.submit(lambda: "shared" in app.tasks)
        with pytest.raises(FutureTimeoutError):
            second.result(0.05)
        may_settle.set()
        assert (first.result(30), second.result(30)) == (True, True)


def test_options_read_while_a_task_is_being_bound_are_not_kept() -> None:
    class Slow(Task):
        """Another thread binds it while its options are read."""

        @property
        def expires(self) -> None:
            self.bind(app)

    app = make_app(task_annotations={"t": {"queue": "annotated"}})
    task = app.task(name="t", base=Slow)(lambda: None)
    assert task.send_options()["queue"] is None
    assert task.send_options()["queue"] == "annotated"
    assert task.send_options() is task.send_options()


def test_options_of_a_task_that_is_not_bound_follow_the_settings() -> None:
    app = make_app(task_serializer="json")
    task = app.task(name="t")(lambda: None)
    assert task.send_options()["serializer"] == "json"
    app.conf.task_serializer = "yaml"
    assert task.send_options()["serializer"] == "yaml"
