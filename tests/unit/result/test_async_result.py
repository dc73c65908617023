"""AsyncResult over a reader in memory."""

from __future__ import annotations

import builtins
import copy
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

from turbo import current
from turbo.backends.open_reader import DisabledReader
from turbo.backends.reader import Meta, pending
from turbo.exceptions import TaskError, TimeoutError
from turbo.result.async_result import AsyncResult, result_from_tuple
from turbo.result.group_result import GroupResult, ResultSet
from turbo.result.joining import allow_join_result, denied_join_result
from turbo.result.result_tree import ResultBase


class MemoryReader:
    """Gives the documents it was given; a wait takes the next of ``coming``."""

    def __init__(self, **documents: Meta) -> None:
        self.documents = documents
        self.coming: list[tuple[str, Meta]] = []
        self.forgotten: list[str] = []
        self.asked = 0

    def get_task_meta(self, task_id: str) -> Meta:
        self.asked += 1
        return copy.deepcopy(self.documents.get(task_id, pending()))

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        while True:
            meta = self.get_task_meta(task_id)
            if meta["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
                return meta
            if on_interval is not None:
                on_interval()
            if not self.coming:
                raise TimeoutError("The operation timed out.")
            name, document = self.coming.pop(0)
            self.documents[name] = document
            if on_message is not None:
                on_message(document)

    def forget(self, task_id: str) -> None:
        self.forgotten.append(task_id)
        self.documents.pop(task_id, None)


class App:
    """The part of an app that results need."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.control: Any = None

    def GroupResult(self, id: str | None = None, results: Any = None, **options: Any) -> GroupResult:
        return GroupResult(id, results, app=self, **options)


def success(value: object, **more: Any) -> Meta:
    return {"status": "SUCCESS", "result": value, "traceback": None, "children": [], **more}


def failure(kind: str = "ValueError", args: tuple[object, ...] = ("bad",), module: str = "builtins") -> Meta:
    return {
        "status": "FAILURE", "traceback": "tb",
        "result": {"exc_type": kind, "exc_message": list(args), "exc_module": module},
    }  # fmt: skip


def result_of(reader: MemoryReader, task_id: str = "t", **options: Any) -> AsyncResult:
    return AsyncResult(task_id, app=App(reader), **options)


@pytest.mark.row("ST3", "ST7")
def test_a_final_document_is_read_once() -> None:
    reader = MemoryReader(t=success(5))
    result = result_of(reader)
    assert (result.state, result.result, result.info, result.status) == ("SUCCESS", 5, 5, "SUCCESS")
    assert result.get() == 5
    assert reader.asked == 1


@pytest.mark.row("ST1")
def test_an_unknown_task_is_pending() -> None:
    result = result_of(MemoryReader())
    assert result.state == "PENDING"
    assert result.result is None
    assert not result.ready()
    assert not result.failed()
    assert not result.exists()


@pytest.mark.row("ST26")
def test_get_passes_messages_and_times_out() -> None:
    reader = MemoryReader()
    reader.coming = [("t", {"status": "STARTED", "result": {"pid": 1}})]
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        result_of(reader).get(timeout=1, on_message=lambda meta: seen.append(meta["status"]))
    assert seen == ["STARTED"]
    assert issubclass(TimeoutError, AsyncResult.TimeoutError)


@pytest.mark.row("ST4")
def test_a_failure_propagates_unless_propagate_is_false() -> None:
    result = result_of(MemoryReader(t=failure()))
    with pytest.raises(ValueError, match="bad"):
        result.get()
    value = result.get(propagate=False)
    assert isinstance(value, ValueError)
    assert result.traceback == "tb"


@pytest.mark.row("ST6")
def test_a_revoked_task_raises_turbos_class() -> None:
    meta = failure("TaskRevokedError", ("revoked",), "celery.exceptions") | {"status": "REVOKED"}
    with pytest.raises(Exception, match="revoked") as caught:
        result_of(MemoryReader(t=meta)).get()
    assert type(caught.value).__name__ == "TaskRevokedError"


@pytest.mark.parametrize("document", [None, "text", 3, [1, 2], [["exc_type", "KeyError"], ["exc_message", ["k"]]]])
def test_a_failure_without_an_exception_document_is_an_error_still(document: object) -> None:
    with pytest.raises(Exception):  # noqa: B017
        result_of(MemoryReader(t={"status": "FAILURE", "result": document})).get()


@pytest.mark.parametrize(
    ("kind", "module"),
    [("system", "os"), ("eval", "builtins"), ("Popen", "subprocess"), ("path.join", "os"),
     ("nope", "not.loaded"), ("int", "builtins"), ("a.b.c", "sys")],
)  # fmt: skip
def test_what_a_document_names_is_never_run(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trap(*args: object, **kwargs: object) -> object:
        raise SystemExit("the trap was run")

    monkeypatch.setattr(builtins, "eval", trap)
    monkeypatch.setattr(sys.modules["os"], "system", trap)
    with pytest.raises(Exception):  # noqa: B017
        result_of(MemoryReader(t=failure(kind, ("true",), module))).get()
    assert "not.loaded" not in sys.modules


@pytest.mark.row("ST14")
def test_an_ignored_result_is_not_waited_for() -> None:
    reader = MemoryReader()
    result = result_of(reader)
    result.ignored = True
    assert result.get() is None
    assert reader.asked == 0


def test_a_failed_parent_is_raised() -> None:
    reader = MemoryReader(p=failure())
    parent = result_of(reader, "p")
    with pytest.raises(ValueError, match="bad"):
        result_of(reader, "c", parent=parent).get()
    with pytest.raises(TimeoutError):
        result_of(reader, "c", parent=parent).get(follow_parents=False)


def test_callback_gets_id_and_value() -> None:
    got = []
    result_of(MemoryReader(t=success(1))).get(callback=lambda task_id, value: got.append((task_id, value)))
    assert got == [("t", 1)]


@pytest.mark.row("ST25")
def test_waiting_inside_a_task_is_refused() -> None:
    class Request:
        called_directly = False

    result = result_of(MemoryReader(t=success(1)))
    token = current.push(object(), Request())
    try:
        with pytest.raises(RuntimeError):
            result.get()
        assert result.get(disable_sync_subtasks=False) == 1
        with allow_join_result():
            assert result.get() == 1
    finally:
        current.pop(token)
    assert result.get() == 1
    with denied_join_result(), pytest.raises(RuntimeError):
        result.get()


@pytest.mark.row("ST23")
def test_children_become_results() -> None:
    members = [[["m1", None], None], [["m2", None], None]]
    meta = success(1, children=[[["c", None], None], [["g", None], members]])
    result = result_of(MemoryReader(t=meta))
    assert result.children is not None
    child, group = result.children
    assert child == "c"
    assert isinstance(group, GroupResult) and group.results == ["m1", "m2"]
    assert group.as_tuple() == (("g", None), [(("m1", None), None), (("m2", None), None)])


def test_tuple_form() -> None:
    app = App(MemoryReader())
    result = AsyncResult("c", app=app, parent=AsyncResult("p", app=app))
    assert result.as_tuple() == (("c", (("p", None), None)), None)
    again = result_from_tuple(result.as_tuple(), app)
    assert again == result
    assert again.parent == result.parent
    assert result.as_list() == ["c", "p"]
    with pytest.raises(ValueError, match="not a result"):
        result_from_tuple("abc")


@pytest.mark.row("ST24")
def test_forget_reaches_the_parents() -> None:
    reader = MemoryReader(t=success(1), p=success(2))
    result = result_of(reader, parent=result_of(reader, "p"))
    assert result.get() == 1
    result.forget()
    assert reader.forgotten == ["p", "t"]
    assert result.state == "PENDING"


def test_identity_text_and_pickle() -> None:
    result = result_of(MemoryReader())
    assert result == "t"
    assert result == AsyncResult("t")
    assert result != AsyncResult("u")
    assert {result: 1}[AsyncResult("t")] == 1
    assert (str(result), repr(result), result.task_id) == ("t", "<AsyncResult: t>", "t")
    assert pickle.loads(pickle.dumps(result)) == result
    with pytest.raises(ValueError, match="valid id"):
        AsyncResult(None)  # type: ignore[arg-type]


def test_date_done_is_a_datetime() -> None:
    result = result_of(MemoryReader(t=success(1, date_done="2026-01-02T03:04:05.678901+00:00")))
    assert result.date_done is not None
    assert result.date_done.isoformat() == "2026-01-02T03:04:05.678901+00:00"


def test_an_app_without_results_says_so() -> None:
    with pytest.raises(NotImplementedError, match="result_backend"):
        AsyncResult("t", backend=DisabledReader()).get()


def test_revoke_goes_through_control() -> None:
    calls: list[tuple[Any, ...]] = []

    class Control:
        def revoke(self, task_id: str, **options: Any) -> None:
            calls.append((task_id, options["terminate"], options["reply"]))

    app = App(MemoryReader())
    app.control = Control()
    AsyncResult("t", app=app).revoke(terminate=True, wait=True)
    assert calls == [("t", True, True)]


def test_revoke_by_stamps_goes_through_control() -> None:
    calls: list[tuple[Any, ...]] = []

    class Control:
        def revoke_by_stamped_headers(self, headers: dict[str, Any], **options: Any) -> None:
            calls.append((headers, options["terminate"], options["signal"], options["reply"]))

    app = App(MemoryReader())
    app.control = Control()
    AsyncResult("t", app=app).revoke_by_stamped_headers({"order": "7"}, terminate=True)
    assert calls == [({"order": "7"}, True, "SIGTERM", False)]


def test_the_leaf_is_the_last_descendant() -> None:
    documents = {"t": success(1, children=[[["c", None], None]]), "c": success(2)}
    app = App(MemoryReader(**documents))
    app.GroupResult = GroupResult
    assert AsyncResult("t", app=app).get_leaf() == 2


def test_every_handle_is_a_result() -> None:
    app = App(MemoryReader())
    handles = [AsyncResult("t", app=app), ResultSet([], app=app), GroupResult("g", [], app=app)]
    assert all(isinstance(handle, ResultBase) and handle.parent is None for handle in handles)


def test_a_failure_with_no_exception_carries_what_there_is() -> None:
    with pytest.raises(TaskError):
        result_of(MemoryReader(t={"status": "FAILURE", "result": "text"})).get()
