"""``then`` of results: who is called when a task, or all of several, have ended."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from turbo import current
from turbo.backends.reader import Meta, pending
from turbo.result import AsyncResult, EagerResult, GroupResult, ResultSet


class Store:
    """Tells watchers of the documents that :meth:`end` is given."""

    def __init__(self) -> None:
        self.documents: dict[str, Meta] = {}
        self.watchers: dict[str, list[Callable[[Meta], object]]] = {}

    def get_task_meta(self, task_id: str) -> Meta:
        return copy.deepcopy(self.documents.get(task_id, pending()))

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        self.watchers.setdefault(task_id, []).append(found)
        return lambda: None

    def end(self, task_id: str, status: str = "SUCCESS", result: object = None) -> None:
        self.documents[task_id] = {"status": status, "result": result, "traceback": None, "children": []}
        for found in self.watchers.pop(task_id, []):
            found(self.get_task_meta(task_id))


class App:
    def __init__(self) -> None:
        self.backend = Store()
        self.control: Any = None


def results(*ids: str) -> tuple[Store, list[AsyncResult]]:
    app = App()
    return app.backend, [AsyncResult(each, app=app) for each in ids]


def test_it_is_called_with_the_result_once() -> None:
    store, (result,) = results("a")
    called: list[Any] = []
    result.then(called.append)
    assert not result.on_ready.ready
    store.end("a", result=5)
    assert called == [result] and result.get() == 5
    result.then(called.append)
    assert called == [result, result]


def test_a_failed_task_calls_it_too() -> None:
    store, (result,) = results("a")
    states: list[str] = []
    result.then(lambda ended: states.append(ended.state), on_error=pytest.fail)
    store.end("a", "FAILURE", {"exc_type": "KeyError", "exc_message": ["bad"], "exc_module": "builtins"})
    assert states == ["FAILURE"]
    with pytest.raises(KeyError):
        result.get()


def test_it_is_called_when_the_program_reads_the_end_first() -> None:
    store, (result,) = results("a")
    called: list[Any] = []
    result.then(called.append)
    assert result.state == "PENDING"
    store.documents["a"] = {"status": "SUCCESS", "result": 1, "traceback": None, "children": []}
    assert result.state == "SUCCESS" and called == [result]
    store.end("a")
    assert called == [result]


def test_what_it_raises_goes_to_on_error_or_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    store, (result, other) = results("a", "b")
    errors: list[Any] = []

    def fail(_: object) -> None:
        raise KeyError("no such key")

    result.then(fail, on_error=errors.append)
    other.then(fail)
    with caplog.at_level(logging.ERROR, "turbo.result"):
        store.end("a")
        assert [type(error) for error in errors] == [KeyError] and not caplog.records
        store.end("b")
    assert [record.getMessage() for record in caplog.records] == ["A callback of the result of task b raised"]
    with pytest.raises(KeyError):
        other.then(fail)


def test_throw_fails_those_that_wait() -> None:
    _, (result,) = results("a")
    errors: list[Any] = []
    result.then(pytest.fail, on_error=errors.append)
    with pytest.raises(ValueError, match="given up"):
        result.throw(ValueError("given up"))
    assert [repr(error) for error in errors] == ["ValueError('given up')"]


def test_a_group_calls_when_the_last_has_ended() -> None:
    store, (a, b, c) = results("a", "b", "c")
    group = GroupResult("g", [a, GroupResult("inner", [b, c])])
    called: list[Any] = []
    group.then(called.append)
    for ended in ("c", "a"):
        store.end(ended)
        assert called == []
    store.end("b", "FAILURE", ValueError("bad"))
    assert called == [group]
    group.then(called.append)
    assert called == [group, group]


def test_a_set_waits_for_those_that_are_added_later() -> None:
    store, (a, b, c) = results("a", "b", "c")
    many = ResultSet([a])
    called: list[Any] = []
    many.then(called.append)
    many.add(b)
    store.end("a")
    assert called == []
    store.end("b")
    assert called == [many]
    many.add(GroupResult("g", [c]))
    many.then(called.append)
    assert called == [many]
    store.end("c")
    assert called == [many, many]


def test_an_empty_set_has_ended() -> None:
    called: list[Any] = []
    ResultSet([]).then(called.append)
    assert len(called) == 1


def test_tasks_that_keep_no_result() -> None:
    store, (a, b) = results("a", "b")
    a.ignored = True
    called: list[Any] = []
    a.then(called.append)
    assert (called, store.watchers) == ([], {})
    group = GroupResult("g", [a, b])
    group.then(called.append)
    store.end("b")
    assert called == [group]


def test_an_eager_result_has_ended() -> None:
    called: list[Any] = []
    result = EagerResult("a", 3, "SUCCESS")
    result.then(lambda ended: ended.get()).then(called.append)
    GroupResult("g", [result]).then(called.append)
    assert called[0] == 3 and called[1].results == [result]


def test_callbacks_do_not_travel_with_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    app: Any = App()
    monkeypatch.setattr(current, "current_app", lambda: app)
    single, many = AsyncResult("b"), ResultSet([AsyncResult("c")])
    single.then(pytest.fail)
    many.then(pytest.fail)
    assert pickle.loads(pickle.dumps(single)) == single
    assert pickle.loads(pickle.dumps(many)) == many
