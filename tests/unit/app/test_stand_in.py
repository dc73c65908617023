"""A task in the place of its function, and ids in the place of texts."""

from __future__ import annotations

import enum
import functools
import inspect
import typing
import uuid
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app
from turbo import GroupResult, current, shared_task
from turbo.app.base import Turbo
from turbo.app.task import Task
from turbo.app.tasks.context import Context
from turbo.control.task_commands import _ids
from turbo.result.async_result import AsyncResult
from turbo.result.eager import EagerResult


def add(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


def bound(self: Any, x: int) -> str:
    """Is bound."""
    return str(x)


class TestFunction:
    @pytest.mark.parametrize("make", ["own", "shared"])
    def test_a_task_is_asked_as_its_function_is(self, app: Turbo, make: str) -> None:
        app.set_current()
        task: Any = app.task(add) if make == "own" else shared_task(add)
        assert (task.__name__, task.__qualname__, task.__module__, task.__doc__) == (
            "add", "add", __name__, "Adds."
        )  # fmt: skip
        assert task.__annotations__ == add.__annotations__
        assert typing.get_type_hints(task) == {"x": int, "y": int, "return": int}
        assert inspect.signature(task) == inspect.signature(add)
        assert inspect.unwrap(task) is add
        assert inspect.getsource(inspect.unwrap(task)) == inspect.getsource(add)

        @functools.wraps(task)
        def around(*args: Any) -> None: ...

        assert (around.__name__, around.__qualname__, around.__doc__) == ("add", "add", "Adds.")
        assert inspect.signature(around) == inspect.signature(add)
        assert functools.partial(task, 1)(3) == 4

    def test_a_bound_one_has_no_self(self, app: Turbo) -> None:
        task: Any = app.task(bind=True)(bound)
        assert str(inspect.signature(task)) == "(x: 'int') -> 'str'"
        assert typing.get_type_hints(task)["x"] is int
        assert functools.wraps(task)(lambda *_: None).__name__ == "bound"
        assert app.task(bind=True)(bound) is task

    def test_one_with_autoretry_and_one_from_a_class(self, app: Turbo) -> None:
        task: Any = app.task(name="again", autoretry_for=(KeyError,))(add)
        assert (task.__name__, inspect.signature(task)) == ("add", inspect.signature(add))

        class Written(Task):
            name = "written"

            def run(self) -> None: ...

        registered: Any = app.register_task(Written)
        assert registered.__name__ == "Written"

    def test_a_callable_without_a_name_is_refused_and_reaches_no_other_app(self, app: Turbo) -> None:
        for decorator in (app.task, app.task(name="named"), shared_task, shared_task(name="named")):
            with pytest.raises(TypeError, match=r"functools\.partial.* has no __name__"):
                decorator(functools.partial(add, 1))
        assert add.__name__ not in make_app().tasks
        assert [name for name in make_app().tasks if not name.startswith("celery.")] == []
        named = functools.update_wrapper(functools.partial(add, 1), add)
        assert app.task(name="named")(named)(4) == 5


class Word(str):
    """A text of a class of its own."""

    def __str__(self) -> str:
        return "not its characters"


class Kind(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    ONE = "one"


IDS = [
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (Word("word"), "word"),
    (Kind.ONE, "one"),
    (b"bytes", "bytes"),
    (7, "7"),
]


class TestIds:
    @pytest.mark.parametrize(("given", "text"), IDS)
    @pytest.mark.row("CA19")
    def test_they_become_text(self, app: Turbo, sent: Recorder, given: Any, text: str) -> None:
        task: Any = app.task(name="t")(lambda *_: None)

        def shown(result: Any) -> None:
            assert type(result.id) is str
            assert result.id == text

        shown(app.AsyncResult(given))
        shown(AsyncResult(given, app=app))
        shown(EagerResult(given, 5, "SUCCESS"))
        shown(app.GroupResult(given, []))
        shown(GroupResult(given, [], app=app))
        shown(task.apply(task_id=given))
        shown(task.s().set(task_id=given).freeze())
        for result in (
            task.apply_async(task_id=given),
            task.s().set(task_id=given).apply_async(),
            app.send_task("elsewhere", task_id=given),
        ):
            shown(result)
            assert (sent.last.headers["id"], sent.last.properties.correlation_id) == (text, text)
        task.apply_async(group_id=given, root_id=given, parent_id=given)
        assert [sent.last.headers[name] for name in ("group", "root_id", "parent_id")] == [text] * 3

    def test_in_states_and_in_revokes(self, app: Turbo, monkeypatch: pytest.MonkeyPatch) -> None:
        given, text = IDS[0]
        stored: list[str] = []
        monkeypatch.setattr(current, "get_state_store", lambda: lambda task_id, *_: stored.append(task_id))
        task: Any = app.task(name="t")(lambda *_: None)
        task.update_state(given, "HALF")
        assert stored == [text]
        asked: list[Any] = []
        monkeypatch.setattr(type(app.control), "broadcast", lambda _self, *args, **_: asked.append(args[1]["task_id"]))
        app.control.revoke(given)
        app.control.terminate([given, "b"])
        app.AsyncResult(given).revoke()
        assert asked == [text, [text, "b"], text]
        monkeypatch.setattr(type(app.control), "broadcast", lambda _self, *args, **_: asked.append(args[1]["ids"]))
        app.control.inspect().query_task(given, "b")
        app.control.inspect().query_task([given])
        assert asked[3:] == [[text, "b"], [text]]
        assert _ids([given, "b"]) == {text, "b"}
        assert Context(id=text).id == text
