from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.unit.app.recording import make_app
from turbo import current
from turbo.app.base import Turbo
from turbo.app.task import Task
from turbo.app.tasks.context import Context
from turbo.exceptions import AlreadyRegistered, NotRegistered
from turbo.log_format import get_task_logger
from turbo.policy.task_options import TaskOptions


class Counting(Task):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    @property
    def resource(self) -> object:
        return self.__dict__.setdefault("_resource", object())


class Wrapping(Task):
    calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((self.request.id, args))
        return super().__call__(*args, **kwargs)


class ClassTask(Task):
    """A task in the old style."""

    def run(self, x: int) -> int:
        return x * 2


@pytest.mark.row("TD1", "TD18")
def test_options_become_attributes(app: Turbo) -> None:
    @app.task(name="n", time_limit=5, throws=(KeyError,), favourite="blue", queue="q")
    def fun() -> None:
        """Doc."""

    assert (fun.name, fun.time_limit, fun.throws, fun.__doc__) == ("n", 5, (KeyError,), "Doc.")
    assert fun.favourite == "blue" and fun.queue == "q"  # type: ignore[attr-defined]
    assert (fun.max_retries, fun.default_retry_delay, fun.resultrepr_maxsize) == (3, 180, 1024)


@pytest.mark.row("TD1", "TD11")
def test_a_bare_decorator_and_automatic_names(app: Turbo) -> None:
    @app.task
    def fun() -> int:
        return 1

    assert fun.name == f"{__name__}.fun" and fun() == 1
    assert app.gen_task_name("f", "__main__") == "proj.f"
    assert make_app().gen_task_name("f", "some.module") == "some.module.f"


def test_the_decorator_wants_a_function(app: Turbo) -> None:
    with pytest.raises(TypeError, match="callable"):
        app.task(5)  # type: ignore[call-overload]


@pytest.mark.row("TD13")
def test_names_can_be_made_otherwise() -> None:
    class Mine(Turbo):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"mine:{name}"

    assert Mine("m", set_as_current=False).task(ClassTask.run).name == "mine:run"


@pytest.mark.row("TD4", "CA4")
def test_bind_passes_the_task(app: Turbo) -> None:
    @app.task(bind=True, name="b")
    def fun(self: Task, x: int) -> Any:
        return self is app.tasks["b"], self.request.called_directly, self.request.args, x

    assert fun(3) == (True, True, (3,), 3)
    assert current.top() is None


@pytest.mark.row("TD5", "TD6", "TD9", "TD10")
def test_bases(app: Turbo) -> None:
    Counting.made = 0
    one = app.task(base=Counting, name="one")(lambda: None)
    two = app.task(base=f"{__name__}:Counting", name="two")(lambda: None)
    assert isinstance(one, Counting) and isinstance(two, Counting)
    assert one is not two
    assert app.tasks["one"] is one and one.resource is one.resource and one.resource is not two.resource
    own = make_app(task_cls=Counting)
    made = own.task(name="three")(lambda: None)
    assert isinstance(made, Counting) and issubclass(own.Task, Counting) and own.Task is own.Task
    assert make_app(task_cls=f"{__name__}:Counting").Task.__name__ == "Counting"


@pytest.mark.row("TD7", "CA37")
def test_classes_are_registered(app: Turbo) -> None:
    task = app.register_task(ClassTask)
    assert task.name == f"{__name__}.ClassTask" and task.app is app and task(4) == 8
    assert app.register_task(ClassTask()) is app.tasks[task.name]
    other = ClassTask()
    other.name = "named"
    assert app.register_task(other, max_retries=9).max_retries == 9
    with pytest.raises(AlreadyRegistered, match="named"):
        app.register_task(Counting(), name="named")


@pytest.mark.row("EX6")
def test_a_wrapped_call_runs_the_body_once_with_the_workers_request(app: Turbo) -> None:
    @app.task(base=Wrapping, bind=True, name="w")
    def fun(self: Task, x: int) -> Any:
        return self.request.id, self.request.called_directly

    Wrapping.calls = []
    request = Context(id="ID", called_directly=False)
    token = current.push(fun, request)
    try:
        assert fun(1) == ("ID", False)
        assert fun(2) == (None, True), "a task that calls itself is called as a function"
    finally:
        current.pop(token)
    assert Wrapping.calls == [("ID", (1,)), ("ID", (2,))]


class TestConfiguration:
    @pytest.mark.row("TD19")
    def test_open_options_are_settings(self, app: Turbo) -> None:
        fun = app.task(name="f")(lambda: None)
        app.conf.update(task_acks_late=True, task_time_limit=8, task_serializer="yaml", task_ignore_result=True)
        assert (fun.acks_late, fun.time_limit, fun.serializer, fun.ignore_result) == (True, 8, "yaml", True)
        app.finalize()
        app.conf.task_acks_late = False
        assert fun.acks_late is True, "settled when the app was finalized"

    @pytest.mark.row("TD19")
    def test_the_tasks_own_option_wins(self, app: Turbo) -> None:
        app.conf.update(task_acks_late=True, task_time_limit=8)
        fun = app.task(name="f", acks_late=False, time_limit=None)(lambda: None)
        assert fun.acks_late is False
        assert app.tasks["f"].time_limit == 8

    @pytest.mark.row("CF8")
    @pytest.mark.parametrize(
        ("settings", "options", "failure", "timeout"),
        [
            ({}, {}, True, True),
            ({"task_acks_on_failure_or_timeout": False}, {}, False, False),
            ({"task_acks_on_failure": False}, {}, False, True),
            ({}, {"acks_on_failure_or_timeout": False, "acks_on_timeout": True}, False, True),
            ({"task_acks_on_timeout": False}, {"acks_on_failure_or_timeout": False}, False, False),
        ],
    )
    def test_acks_on_failure_and_timeout(self, settings: Any, options: Any, failure: bool, timeout: bool) -> None:
        app = make_app(**settings)
        app.task(name="f", **options)(lambda: None)
        made = app.task_options()["f"]
        assert (made.acks_on_failure, made.acks_on_timeout) == (failure, timeout)

    def test_task_options(self) -> None:
        app = make_app(task_reject_on_worker_lost=True, task_soft_time_limit=3.5)
        app.task(name="f", acks_late=True, store_errors_even_if_ignored=True)(lambda: None)
        assert app.task_options()["f"] == TaskOptions(
            "f", acks_late=True, reject_on_worker_lost=True, store_errors_even_if_ignored=True, soft_time_limit=3.5
        )  # fmt: skip

    @pytest.mark.row("TD17")
    def test_annotations(self) -> None:
        class Annotation:
            def annotate(self, task: Task) -> Any:
                return {"rate_limit": "1/s"} if task.name == "f" else None

        app = make_app(
            task_annotations=[
                {"f": {"time_limit": 4}, "*": {"max_retries": 8, "@run": lambda run: lambda *a: ("wrapped", run(*a))}},
                Annotation(),
            ]
        )
        app.task(name="f")(lambda: 1)
        task = app.tasks["f"]
        assert (task.time_limit, task.max_retries, task.rate_limit, task()) == (4, 8, "1/s", ("wrapped", 1))


class TestRegistry:
    @pytest.mark.row("TD14")
    def test_tasks_by_name(self, app: Turbo) -> None:
        fun = app.task(name="f")(lambda: None)
        assert app.tasks["f"] is fun and "f" in app.tasks
        with pytest.raises(NotRegistered, match="'g'"):
            _ = app.tasks["g"]
        app.tasks.unregister(fun)
        assert "f" not in app.tasks
        with pytest.raises(NotRegistered):
            app.tasks.unregister("f")

    def test_the_first_function_keeps_a_name(self, app: Turbo) -> None:
        first = app.task(name="f")(lambda: 1)
        assert app.task(name="f")(lambda: 2) is first

    def test_tasks_of_one_app_join_the_next(self, app: Turbo) -> None:
        app.task(name="everywhere")(lambda: 1)
        app.task(name="only here", shared=False)(lambda: 1)
        other = make_app()
        assert "everywhere" in other.tasks and "only here" not in other.tasks
        assert other.tasks["everywhere"].app is other

    def test_an_app_that_may_not_finalize_itself(self) -> None:
        app = make_app(autofinalize=False)
        with pytest.raises(RuntimeError, match="not finalized"):
            _ = app.tasks
        app.finalize()
        assert "celery.map" in app.tasks

    @pytest.mark.row("TD22")
    def test_tasks_travel_by_name(self) -> None:
        app = Turbo("pickling")
        fun = app.task(name="travel")(lambda: None)
        assert pickle.loads(pickle.dumps(fun)) is fun

    @pytest.mark.row("TD15", "TD16", "CF3")
    def test_modules_are_imported_when_a_worker_asks(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for package in ("app_a", "app_b"):
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").touch()
        (tmp_path / "app_a" / "tasks.py").touch()
        (tmp_path / "app_included.py").touch()
        (tmp_path / "app_broken.py").write_text("import a_module_that_is_not_there")
        monkeypatch.syspath_prepend(str(tmp_path))
        app = make_app(include=["app_included"])
        app.autodiscover_tasks(lambda: ["app_a", "app_b", "app_a.Config"])
        assert [m.__name__ for m in app.import_modules()] == ["app_included", "app_a.tasks", "app_a.tasks"]
        with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
            make_app(imports="app_broken").import_modules()


@pytest.mark.row("TD23")
def test_a_tasks_own_logger_is_a_logger_of_tasks(app: Turbo) -> None:
    logger = app.task(name="mine.f")(lambda: None).get_logger(loglevel="INFO")
    assert logger is get_task_logger("mine.f")
    assert logger.parent is not None and logger.parent.name == "celery.task"


def test_push_request_for_tests_of_bound_tasks(app: Turbo) -> None:
    fun = app.task(name="f", bind=True)(lambda self: self.request.id)
    fun.push_request(id="pushed", retries=2)
    assert fun.request.id == "pushed" and fun.request.retries == 2
    fun.pop_request()
    assert fun.request.id is None and fun.request is fun.request


def test_update_state_goes_to_the_workers_store_or_the_backend(app: Turbo) -> None:
    fun = app.task(name="f")(lambda: None)
    with pytest.raises(ValueError, match="task_id"):
        fun.update_state(state="PROGRESS")
    stored: list[Any] = []
    current.set_state_store(lambda *given: stored.append(given))
    try:
        fun.push_request(id="ID")
        fun.update_state(state="PROGRESS", meta={"n": 1})
        assert stored == [("ID", "PROGRESS", {"n": 1}, fun.request)]
        fun.pop_request()
    finally:
        current.set_state_store(None)

    class Store:
        def store_result(self, *args: Any, **kwargs: Any) -> None:
            stored.append(args)

    fun.backend = Store()
    fun.update_state("other", "S", 5)
    assert stored[-1] == ("other", 5, "S")
