"""The tracer around a body: what it calls, what a traceback shows, and how a class's own ``__call__`` fares."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from celery.app import trace
from celery.app.task import Task as BaseTask
from celery.backends import cache

from turbo.adopted.tracing import ENTERED, build_trace, calls_run
from turbo.child.time_limits import SoftLimit


class Page:
    """The only word that the handler reads."""

    detached = False

    def begin_body(self, seq: int) -> None:
        """Nobody reads it."""

    def soft_named(self) -> int:
        return 7


@pytest.fixture
def app() -> Iterator[Celery]:
    # All apps of this process share the results in memory, and a success is never replaced: others use these ids, too.
    cache._DUMMY_CLIENT_CACHE.clear()
    made = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
    trace.setup_worker_optimizations(made, "w@h")
    yield made
    trace.reset_worker_optimizations(made)


@pytest.fixture
def soft() -> SoftLimit:
    limit = SoftLimit(Page())  # type: ignore[arg-type]
    limit.running = 7
    return limit


def traced(app: Celery, task: Any, soft: SoftLimit, *args: Any, **request: Any) -> Any:
    """Trace one message; what the tracer returns."""
    build_trace(app, task, "w@h", soft)
    if calls_run(task):
        request[ENTERED] = 1
    request = {"id": "1", "delivery_info": {}, "is_eager": False, **request}
    return task.__trace__("1", args, {}, request)


def files_of(info: Any) -> list[str]:
    """The files that a stored traceback names, outermost first."""
    return [line.split('"')[1] for line in info.traceback.splitlines() if line.startswith("  File ")]


class Counted(Task):  # type: ignore[misc, unused-ignore]
    """A base class with a ``__call__`` that goes on to Celery's."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return "counted", super().__call__(*args, **kwargs)


class TestTraceback:
    def test_an_ordinary_body_comes_right_after_the_tracer(self, app: Celery, soft: SoftLimit) -> None:
        @app.task(shared=False)
        def divide() -> float:
            return 1 / 0

        outcome, info, _, _ = traced(app, divide, soft)

        assert info.state == "FAILURE"
        assert files_of(outcome) == [trace.__file__, __file__]

    def test_wrong_arguments_show_the_tracer_alone(self, app: Celery, soft: SoftLimit) -> None:
        @app.task(shared=False)
        def nothing() -> None:
            """Take nothing."""

        outcome, _, _, _ = traced(app, nothing, soft, 1)

        assert files_of(outcome) == [trace.__file__]
        assert "takes 0 positional arguments" in outcome.traceback

    def test_an_own_call_shows_as_in_celery(self, app: Celery, soft: SoftLimit) -> None:
        @app.task(shared=False, base=Counted)
        def divide() -> float:
            return 1 / 0

        outcome, _, _, _ = traced(app, divide, soft)

        # the tracer, the class's own call, the worker's, the body
        assert files_of(outcome) == [trace.__file__, __file__, trace.__file__, __file__]

    def test_what_an_error_was_raised_from_keeps_its_own(self, app: Celery, soft: SoftLimit) -> None:
        @app.task(shared=False)
        def convert() -> None:
            try:
                int("x")
            except ValueError as error:
                raise KeyError("y") from error

        outcome, _, _, _ = traced(app, convert, soft)

        assert files_of(outcome) == [__file__, trace.__file__, __file__]


class TestCall:
    def test_a_call_of_its_own_that_calls_super_runs_in_the_message_s_request(
        self, app: Celery, soft: SoftLimit
    ) -> None:
        seen = []

        @app.task(shared=False, base=Counted, bind=True)
        def look(self: Any) -> int:
            seen.append((self.request.id, self.request.called_directly, len(self.request_stack)))
            return 1

        outcome, info, _, _ = traced(app, look, soft)

        assert (outcome, info) == (("counted", 1), None)
        assert seen == [("1", False, 1)]
        assert len(look.request_stack) == 0

    @pytest.mark.parametrize("base", [Task, Counted])
    def test_a_body_that_calls_its_task_gets_a_request_of_its_own_as_in_celery(
        self, app: Celery, soft: SoftLimit, base: Any
    ) -> None:
        seen: list[tuple[int, tuple[Any, ...]]] = []

        @app.task(shared=False, bind=True, base=base)
        def nest(self: Any, depth: int) -> None:
            seen.append((len(self.request_stack), self.request.args))
            if depth:
                self(depth - 1)

        celerys = trace.build_tracer(nest.name, nest, app.loader, "w@h", app=app)
        celerys("1", (2,), {}, {"id": "1", "delivery_info": {}, "is_eager": False})
        expected, seen[:] = list(seen), []
        traced(app, nest, soft, 2)

        assert seen == expected == [(1, (2,)), (2, (1,)), (3, (0,))]

    def test_the_worker_s_replacement_is_seen_through_and_left_in_place(self, app: Celery, soft: SoftLimit) -> None:
        @app.task(shared=False)
        def add() -> int:
            return 1

        replacement = BaseTask.__call__
        assert trace.task_has_custom(add, "__call__"), "Celery's tracer alone would go through it"
        assert calls_run(add)
        build_trace(app, add, "w@h", soft)

        assert BaseTask.__call__ is replacement
        assert replacement.__module__ == trace.__name__
        assert "run" not in vars(add)

    def test_a_library_s_call_around_it_is_called(
        self, app: Celery, soft: SoftLimit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        inner = BaseTask.__call__

        @functools.wraps(inner)
        def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(self.name)
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(BaseTask, "__call__", measured)

        @app.task(shared=False, name="proj.add")
        def add() -> int:
            return 1

        assert traced(app, add, soft)[0] == 1
        assert calls == ["proj.add"]


class TestSoftLimit:
    @pytest.mark.parametrize("base", [Task, Counted])
    def test_the_body_is_armed_and_the_tracer_is_not(self, app: Celery, soft: SoftLimit, base: Any) -> None:
        armed = []

        @app.task(shared=False, base=base)
        def look() -> None:
            armed.append(soft.armed)

        traced(app, look, soft)

        assert armed == [True]
        assert not soft.armed
