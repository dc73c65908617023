"""Handles of groups: what they say of their members, how they wait, how they travel and are kept."""

from __future__ import annotations

import asyncio
import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from turbo.backends.reader import Meta, pending
from turbo.exceptions import ImproperlyConfigured, IncompleteStream, TimeoutError
from turbo.result import AsyncResult, EagerResult, GroupResult, ResultSet, result_from_tuple
from turbo.result.joining import denied_join_result


class Chords:
    """Keeps groups in memory."""

    def __init__(self) -> None:
        self.groups: dict[str, Any] = {}

    def save_group(self, group_id: str, tree: object) -> None:
        self.groups[group_id] = tree

    def restore_group(self, group_id: str) -> Any:
        return self.groups.get(group_id)

    def delete_group(self, group_id: str) -> None:
        self.groups.pop(group_id)


class Store:
    """Returns documents in the order of the calls of :meth:`end`."""

    def __init__(self, **documents: Meta) -> None:
        self.documents = documents
        self.watchers: dict[str, Callable[[Meta], object]] = {}
        self.forgotten: list[str] = []
        self.chords: Chords | None = Chords()
        self.groups = self.chords

    def get_task_meta(self, task_id: str) -> Meta:
        return copy.deepcopy(self.documents.get(task_id, pending()))

    def wait_for(self, task_id: str, *, timeout: float | None = None, **_: Any) -> Meta:
        if task_id not in self.documents:
            raise TimeoutError(f"{task_id} within {timeout} s")
        return self.get_task_meta(task_id)

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        self.watchers[task_id] = found
        if task_id in self.documents:
            found(self.get_task_meta(task_id))

        def cancel() -> None:
            self.watchers.pop(task_id)

        return cancel

    def end(self, task_id: str, meta: Meta) -> None:
        self.documents[task_id] = meta
        self.watchers[task_id](copy.deepcopy(meta))

    def forget(self, task_id: str) -> None:
        self.forgotten.append(task_id)

    def as_uri(self, include_password: bool = False) -> str:
        return "store://"


class Control:
    def __init__(self) -> None:
        self.revoked: list[Any] = []

    def revoke(self, ids: Any, **options: Any) -> None:
        self.revoked.append((ids, options["terminate"]))


class App:
    def __init__(self, store: Store) -> None:
        self.backend: Any = store
        self.control = Control()

    def GroupResult(self, id: str | None = None, results: Any = None, **options: Any) -> GroupResult:
        return GroupResult(id, results, app=self, **options)


def good(value: object) -> Meta:
    return {"status": "SUCCESS", "result": value, "traceback": None, "children": []}


BAD: Meta = {"status": "FAILURE", "traceback": "tb", "result": {"exc_type": "KeyError", "exc_message": ["bad"],
             "exc_module": "builtins"}}  # fmt: skip


def group_of(store: Store, *ids: str) -> GroupResult:
    app = App(store)
    return GroupResult("g", [AsyncResult(each, app=app) for each in ids], app=app)


@pytest.mark.row("CV4")
def test_what_is_said_of_all() -> None:
    store = Store(a=good(1), b=good(2))
    result = group_of(store, "a", "b")
    assert (result.ready(), result.successful(), result.failed(), result.waiting()) == (True, True, False, False)
    assert (result.completed_count(), result.get(), result.join(), list(result.results)) == (
        2,
        [1, 2],
        [1, 2],
        ["a", "b"],
    )
    more = group_of(store, "a", "b", "c")
    assert (more.ready(), more.successful(), more.waiting(), more.completed_count()) == (False, False, True, 2)
    store.documents["c"] = BAD
    assert (more.ready(), more.failed(), more.successful(), more.completed_count()) == (True, True, False, 2)
    with pytest.raises(KeyError):
        more.maybe_throw()
    assert more.children is more.results and more[0].id == "a" and len(more) == 3


def test_the_first_failure_ends_the_waiting() -> None:
    store = Store(b=BAD)
    result = group_of(store, "never", "b")
    with pytest.raises(KeyError):
        result.get(timeout=30)
    assert store.watchers == {}, "nobody is watched any more"
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01, propagate=False)


@pytest.mark.row("ST26")
def test_results_are_taken_as_they_come() -> None:
    store = Store()
    result = group_of(store, "a", "b", "a")
    seen: list[Any] = []
    order = iter([("b", good(2)), ("a", good(1))])

    def later() -> None:
        for task_id, meta in order:
            store.end(task_id, meta)
            return

    got = result.get(timeout=30, interval=0.001, on_interval=later, on_message=lambda meta: seen.append(meta["result"]))
    assert (got, seen) == ([1, 2, 1], [2, 1])
    named: dict[str, Any] = {}
    assert result.get(callback=named.__setitem__) is None
    assert named == {"a": 1, "b": 2}


def test_one_after_the_other() -> None:
    store = Store(a=good(1), b=BAD)
    result = group_of(store, "a", "b")
    with pytest.raises(KeyError):
        result.join()
    named: dict[str, Any] = {}
    assert result.join(propagate=False, callback=named.__setitem__) == []
    assert named["a"] == 1 and isinstance(named["b"], KeyError)
    with pytest.raises(TimeoutError):
        group_of(store, "a", "never").join(timeout=5)
    with pytest.raises(ImproperlyConfigured):
        result.join(on_message=print)


def test_results_that_are_here_already() -> None:
    here = [EagerResult("x", 1, "SUCCESS"), EagerResult("y", 2, "SUCCESS")]
    result = GroupResult("g", here, app=App(Store()))
    assert (result.supports_native_join, result.get()) == (False, [1, 2])
    assert (ResultSet([]).supports_native_join, ResultSet([]).get(), ResultSet(None).results) == (False, [], [])


def test_groups_in_a_group() -> None:
    store = Store(a=good(1), b=good(2), c=good(3))
    app = App(store)
    inner = GroupResult("i", [AsyncResult(each, app=app) for each in "ab"], app=app)
    outer = GroupResult("o", [inner, AsyncResult("c", app=app)], app=app)
    assert outer.get() == outer.join() == [[1, 2], 3]
    assert asyncio.run(outer.aget()) == [[1, 2], 3]
    outer.revoke(terminate=True)
    assert app.control.revoked == [(["a", "b", "c"], True)]
    outer.forget()
    assert store.forgotten == ["a", "b", "c"]


def test_on_asyncio() -> None:
    store = Store(a=good(1), b=BAD)
    assert asyncio.run(group_of(store, "a").aget()) == [1]
    named: dict[str, Any] = {}
    assert asyncio.run(group_of(store, "a").aget(callback=named.__setitem__)) == [] and named == {"a": 1}
    with pytest.raises(KeyError):
        asyncio.run(group_of(store, "never", "b").aget())
    with pytest.raises(TimeoutError):
        asyncio.run(group_of(store, "never").aget(timeout=0.01))


@pytest.mark.row("ST25")
def test_no_task_waits_for_a_group() -> None:
    result = group_of(Store(a=good(1)), "a")
    with denied_join_result():
        for wait in (result.get, result.join, result.join_native):
            with pytest.raises(RuntimeError, match="Never call"):
                wait()
        assert result.get(disable_sync_subtasks=False) == result.join(disable_sync_subtasks=False) == [1]


def test_members_come_and_go() -> None:
    app = App(Store())
    one, two = AsyncResult("1", app=app), AsyncResult("2", app=app)
    results = ResultSet([one])
    results.add(two)
    results.add(two)
    results.update([one, two])
    assert (list(results), results.app) == ([one, two], app)
    results.remove("1")
    with pytest.raises(KeyError):
        results.remove(one)
    results.discard(one)
    assert results == ResultSet([two]) and results != [two]
    assert repr(results) == "<ResultSet: [2]>"
    results.clear()
    assert len(results) == 0


@pytest.mark.row("CV4")
def test_groups_are_kept_and_travel() -> None:
    store = Store()
    result = group_of(store, "a", "b")
    result.parent = AsyncResult("p", app=result.app)
    result.save()
    again = GroupResult.restore("g", app=result.app)
    assert again == result and again.parent == result.parent
    assert GroupResult.restore("other", backend=store, app=result.app) is None
    result.delete(backend=store)
    assert store.chords is not None and store.chords.groups == {}
    assert result_from_tuple(result.as_tuple(), result.app) == result
    assert (result.as_list(), str(result), repr(result)) == (["g", "p"], "g", "<GroupResult: g [a, b]>")
    assert hash(result) == hash("g") and result == "g" and result != 5 and bool(result) and not GroupResult()
    copied = pickle.loads(pickle.dumps(result))
    assert (copied.id, copied.results, copied.parent) == (result.id, result.results, result.parent)
    store.groups = None
    with pytest.raises(NotImplementedError, match="The .store. result backend"):
        result.save()


@pytest.mark.row("CV23")
def test_who_sent_whom() -> None:
    members = (("g", None), [(("c", None), None), (("d", None), None)])
    store = Store(a=good(1), b=good(2), c=good(3), d=good(4))
    store.documents["a"]["children"] = [(("b", None), None), members]
    result = AsyncResult("a", app=App(store))
    graph = result.graph
    assert [str(node) for node in graph] == ["a", "b", "g", "c", "d"] and len(graph) == 5
    assert {str(node): [str(child) for child in sent] for node, sent in graph.items() if sent} == {
        "a": ["b", "g"], "g": ["c", "d"],
    }  # fmt: skip
    assert graph[result] == result.children and result in graph
    order = [str(node) for node in graph.topsort()]
    assert order.index("a") > order.index("g") > order.index("d")
    assert [str(node) for node in graph.edges()] == ["a", "g"]
    written = io.StringIO()
    graph.to_dot(written, label=lambda node: f'"{node}"')
    assert written.getvalue().splitlines()[1:2] + written.getvalue().splitlines()[-2:] == [
        '  "a" [label="\\"a\\""]', '  "g" -> "d"', "}",
    ]  # fmt: skip
    assert [(str(node), value) for node, value in result.collect()] == [
        ("a", 1), ("b", 2), ("g", [3, 4]), ("c", 3), ("d", 4),
    ]  # fmt: skip
    del store.documents["d"]
    with pytest.raises(IncompleteStream):
        AsyncResult("a", app=App(store)).build_graph()
    assert len(AsyncResult("a", app=App(store)).build_graph(intermediate=True)) == 3
