"""Running tasks in the caller: what ``apply`` and ``task_always_eager`` do round the body."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app
from turbo import current, signals, states
from turbo.app.base import Turbo
from turbo.app.task import Task
from turbo.exceptions import AlwaysEagerIgnored, EncodeError, Ignore, Reject, Retry, TaskRevokedError
from turbo.result.eager import EagerResult


@pytest.fixture
def eager_app() -> Turbo:
    return make_app(task_always_eager=True)


class Heard(list[str]):
    """What a task's handlers and the receivers of its signals were called for, in order."""

    def __init__(self, app: Turbo, body: Any) -> None:
        heard = self

        class Telling(Task):
            def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
                heard.append("before_start")

            def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
                heard.append(f"on_success {retval}")

            def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
                heard.append("on_retry")

            def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
                heard.append(f"on_failure {exc!r}")

            def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
                heard.append(f"after_return {status}")

        self.task: Task = app.task(name="telling", bind=True, base=Telling, max_retries=2)(body)
        self._receivers = [
            (signal, lambda signal, **_: heard.append(signal.name))
            for signal in (
                signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_failure,
                signals.task_retry,
            )
        ]  # fmt: skip

    def __enter__(self) -> Heard:
        for signal, receiver in self._receivers:
            signal.connect(receiver, weak=False)
        return self

    def __exit__(self, *_: object) -> None:
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)


@pytest.mark.row("CA5", "EX15")
def test_the_request_and_the_result(app: Turbo, sent: Recorder) -> None:
    seen: dict[str, Any] = {}

    def body(self: Any, x: int, y: int = 0) -> int:
        seen.update(vars(self.request), current=current.current_task())
        return x + y

    task = app.task(name="seen", bind=True, time_limit=9)(body)
    result = task.apply((1,), {"y": 2}, task_id="mine", headers={"h": 1}, priority=3, routing_key="k")
    assert isinstance(result, EagerResult) and repr(result) == "<EagerResult: mine>"
    assert (result.get(), result.state, result.id, result.name, result.traceback) == (
        3,
        "SUCCESS",
        "mine",
        "seen",
        None,
    )
    assert result.ready() and result.successful()
    assert seen["is_eager"] and seen["called_directly"] is False and seen["current"] is task
    assert (seen["id"], seen["root_id"], seen["parent_id"], seen["retries"]) == ("mine", "mine", None, 0)
    assert seen["delivery_info"] == {"is_eager": True, "exchange": None, "routing_key": "k", "priority": 3}
    assert (seen["timelimit"], seen["headers"]) == ([9, None], {"h": 1})
    assert sent.sent == [] and current.current_task() is None


@pytest.mark.row("CA5")
def test_success_is_heard_in_a_workers_order(app: Turbo) -> None:
    with Heard(app, lambda self: 1) as heard:
        heard.task.apply()
    assert heard == [
        "task_prerun", "before_start", "on_success 1", "task_success", "after_return SUCCESS", "task_postrun",
    ]  # fmt: skip


@pytest.mark.row("CA5")
def test_failure_is_a_result_or_thrown(app: Turbo) -> None:
    with Heard(app, lambda self: 1 // 0) as heard:
        result = heard.task.apply()
        assert heard[2:] == [
            "on_failure ZeroDivisionError('integer division or modulo by zero')", "task_failure",
            "after_return FAILURE", "task_postrun",
        ]  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            heard.task.apply(throw=True)
    assert result.state == states.FAILURE and isinstance(result.result, ZeroDivisionError)
    assert isinstance(result.get(propagate=False), ZeroDivisionError)
    assert result.traceback is not None and "ZeroDivisionError" in result.traceback
    with pytest.raises(ZeroDivisionError):
        result.get()
    app.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        heard.task.apply()
    assert heard.task.apply(throw=False).failed()


@pytest.mark.row("CA5", "RT1")
def test_retries_follow_at_once_and_are_counted(app: Turbo, sent: Recorder) -> None:
    attempts: list[int] = []

    def body(self: Any) -> str:
        attempts.append(self.request.retries)
        if self.request.retries < 2:
            raise self.retry(countdown=60)
        return f"done in {self.request.id}"

    with Heard(app, body) as heard:
        result = heard.task.apply(task_id="mine")
    assert (attempts, result.get(), result.id) == ([0, 1, 2], "done in mine", "mine")
    assert heard.count("task_retry") == heard.count("on_retry") == 2
    assert sent.sent == []
    never = app.task(name="never", bind=True, max_retries=1)(lambda self: self.retry())
    assert isinstance(never.apply().result, never.MaxRetriesExceededError)
    with pytest.raises(Retry):
        never.apply(throw=True)


@pytest.mark.parametrize(("raised", "state"), [(Ignore(), "IGNORED"), (Reject("no"), "REJECTED")])
def test_what_a_body_may_decide(app: Turbo, raised: Exception, state: str) -> None:
    def body(self: Any) -> None:
        raise raised

    with Heard(app, body) as heard:
        result = heard.task.apply()
    assert (result.state, result.result, result.get()) == (state, raised, None)
    assert heard == ["task_prerun", "before_start", "task_postrun"]


@pytest.mark.row("CA5")
def test_what_follows(app: Turbo, sent: Recorder) -> None:
    told: list[Any] = []
    app.task(name="after")(lambda x, y: None)
    old = app.task(name="old")(lambda task_id: None)
    new = app.task(name="new")(lambda request, exc, trace: told.append((request.id, exc, trace)))
    main = app.task(name="main")(lambda x: 1 // x)
    main.apply((1,), link=app.signature("after", (7,)), task_id="a")
    message = sent.last
    assert (message.headers["task"], message.headers["parent_id"], message.headers["root_id"]) == ("after", "a", "a")
    assert message.body.startswith(b"[[1,7]") or message.body.startswith(b"[[1, 7]")
    main.apply((0,), link_error=[old.s(), new.s(), app.signature("unknown")], task_id="b")
    assert [each.headers["task"] for each in sent.sent[1:]] == ["old", "unknown"]
    ((task_id, error, trace),) = told
    assert task_id == "b" and isinstance(error, ZeroDivisionError) and "ZeroDivisionError" in trace


@pytest.mark.row("CA31")
def test_always_eager_runs_instead_of_sending(eager_app: Turbo, sent: Recorder) -> None:
    seen: list[Any] = []
    after = eager_app.task(name="after")(lambda value: seen.append(("after", value)))
    task = eager_app.task(name="t")(lambda x, y: seen.append((x, y)) or len(seen))
    result = task.apply_async(((1, 2),), {"y": datetime(2030, 1, 1)}, task_id="mine", link=after.s(), countdown=5)
    assert isinstance(result, EagerResult) and (result.id, result.get()) == ("mine", 1)
    assert seen == [([1, 2], datetime(2030, 1, 1)), ("after", 1)], "arguments went through JSON"
    assert sent.sent == []
    with pytest.raises(TypeError):
        task.delay()
    with pytest.raises(EncodeError):
        task.delay(object(), y=1)
    assert task.apply_async((object(),), {"y": 1}, serializer="pickle").get() == 3


@pytest.mark.row("CA31")
def test_always_eager_and_a_name_alone(eager_app: Turbo, sent: Recorder) -> None:
    with pytest.warns(AlwaysEagerIgnored, match="send_task"):
        eager_app.send_task("t")
    assert sent.last.headers["task"] == "t"


@pytest.mark.row("CA31")
def test_nobody_waits_inside_of_an_eager_call(eager_app: Turbo) -> None:
    inner = eager_app.task(name="inner")(lambda: 1)
    outer = eager_app.task(name="outer")(lambda: inner.delay().get())
    assert isinstance(outer.delay().result, RuntimeError)
    allowed = eager_app.task(name="allowed")(lambda: inner.delay().get(disable_sync_subtasks=False))
    assert allowed.delay().get() == 1


def test_calls_inside_have_a_parent(eager_app: Turbo) -> None:
    ids: list[Any] = []
    inner = eager_app.task(name="inner", bind=True)(
        lambda self: ids.append((self.request.parent_id, self.request.root_id))
    )
    outer = eager_app.task(name="outer", bind=True)(lambda self: inner.delay() and None)
    outer.apply_async(task_id="above")
    assert ids == [("above", "above")]


class Store:
    """Stands for the app's result store."""

    def __init__(self) -> None:
        self.stored: list[Any] = []

    def store_result(self, task_id: str, result: Any, state: str, trace: Any = None, request: Any = None) -> None:
        self.stored.append((task_id, state))


@pytest.fixture
def store() -> Iterator[Store]:
    yield Store()


@pytest.mark.row("CF10")
def test_results_are_stored_when_asked_for(store: Store) -> None:
    app = make_app(task_always_eager=True, task_store_eager_result=True)
    task = app.task(name="t", backend=store)(lambda x: 1 // x)
    task.apply_async((1,), task_id="a")
    task.apply_async((0,), task_id="b")
    task.apply_async((1,), task_id="c", ignore_result=True)
    assert store.stored == [("a", "SUCCESS"), ("b", "FAILURE")]
    app.conf.task_store_eager_result = False
    task.apply_async((1,), task_id="d")
    assert len(store.stored) == 2


def test_coroutines_run_to_their_end_wherever_they_are_called(app: Turbo) -> None:
    async def body(self: Any, x: int) -> int:
        await asyncio.sleep(0)
        assert self.request.is_eager
        return x

    task = app.task(name="co", bind=True)(body)

    async def within_a_loop() -> int:
        return task.apply((2,)).get()

    assert task.apply((1,)).get() == 1
    assert asyncio.run(within_a_loop()) == 2


def test_a_class_that_wraps_the_call(app: Turbo) -> None:
    class Wrapped(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ("wrapped", super().__call__(*args, **kwargs))

    task = app.task(name="w", base=Wrapped)(lambda x: x)
    assert task.apply((1,)).get() == ("wrapped", 1)


def test_an_eager_result_is_over(app: Turbo) -> None:
    result = app.task(name="t")(lambda: 1).apply()
    assert pickle.loads(pickle.dumps(result)).get() == 1
    result.forget()
    assert asyncio.run(result.aget()) == 1
    result.revoke()
    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError):
        result.get()
