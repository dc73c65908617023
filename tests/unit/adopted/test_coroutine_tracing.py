"""Celery's tracer around a body that is a coroutine: what it calls, in which order, and how coroutines stay apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

import pytest
from celery import Celery, current_task, signals, states
from celery.app import trace
from celery.app.task import Task as BaseTask
from celery.backends import cache
from celery.exceptions import Ignore, Reject, Retry
from pydantic import BaseModel

from turbo.adopted import coroutine_tracing
from turbo.adopted.coroutine_tracing import TracedCoroutine, is_coroutine
from turbo.adopted.tracing import ENTERED, build_trace, calls_run
from turbo.child.soft_limited_coroutine import SoftLimitedCoroutine
from turbo.child.time_limits import SoftLimit
from turbo.exceptions import SoftTimeLimitExceeded


@pytest.fixture
def app() -> Iterator[Celery]:
    # All apps of this process share the results in memory, and a success is never replaced: others use these ids, too.
    cache._DUMMY_CLIENT_CACHE.clear()
    made = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
    trace.setup_worker_optimizations(made, "w@h")
    yield made
    trace.reset_worker_optimizations(made)


def limited(body: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    return SoftLimitedCoroutine(body, SoftTimeLimitExceeded)


def traced(app: Celery, task: Any, *args: Any, task_id: str = "1", ended: Any = None) -> Coroutine[Any, Any, Any]:
    """Trace one message; await what the tracer returns."""
    if task.__trace__ is None:
        build_trace(app, task, "w@h", SoftLimit(None))  # type: ignore[arg-type]
    request: dict[str, Any] = {"id": task_id, "delivery_info": {}, "is_eager": False, "args": args, "kwargs": {}}
    if calls_run(task):
        request[ENTERED] = 1

    async def run() -> Any:
        once = TracedCoroutine(task, limited, ended or (lambda: None))
        return await once.outcome(task_id, args, {}, request)

    return run()


def test_a_body_is_awaited_between_the_handlers_and_signals_of_celery(app: Celery) -> None:
    seen: list[Any] = []

    class Handlers(BaseTask):  # type: ignore[misc, unused-ignore]
        def before_start(self, *_: Any) -> None:
            seen.append("before_start")

        def on_success(self, result: Any, *_: Any) -> None:
            seen.append(["on_success", result])

        def after_return(self, status: str, *_: Any) -> None:
            seen.append(["after_return", status])

    @app.task(name="add", shared=False, base=Handlers, bind=True)
    async def add(self: Any, x: int, y: int) -> int:
        await asyncio.sleep(0)
        seen.append(["body", self.request.id, current_task.request.id])
        return x + y

    def prerun(**_: Any) -> None:
        seen.append("prerun")

    def postrun(retval: Any, **_: Any) -> None:
        seen.append(["postrun", retval])

    signals.task_prerun.connect(prerun)
    signals.task_postrun.connect(postrun)
    try:
        outcome = asyncio.run(traced(app, add, 1, 2, ended=lambda: seen.append("ended")))
    finally:
        signals.task_prerun.disconnect(prerun)
        signals.task_postrun.disconnect(postrun)
    assert (outcome.retval, outcome.info, outcome.retstr) == (3, None, "3")
    assert seen == [
        "prerun", "before_start", ["body", "1", "1"], "ended", ["on_success", 3], ["after_return", "SUCCESS"],
        ["postrun", 3],
    ]  # fmt: skip
    assert add.AsyncResult("1").result == 3


def test_each_of_several_at_once_has_its_own_request(app: Celery) -> None:
    together = 5
    here: list[str] = []

    @app.task(name="meet", shared=False, bind=True)
    async def meet(self: Any, met: asyncio.Event) -> list[str]:
        here.append(self.request.id)
        if len(here) == together:
            met.set()
        await met.wait()
        in_a_thread = await asyncio.to_thread(lambda: current_task.request.id)
        return [self.request.id, current_task.request.id, in_a_thread]

    async def all_of_them() -> list[Any]:
        met = asyncio.Event()
        ids = [str(number) for number in range(together)]
        return await asyncio.gather(*(asyncio.create_task(traced(app, meet, met, task_id=task_id)) for task_id in ids))

    meet.ignore_result = True
    found = [outcome.retval for outcome in asyncio.run(all_of_them())]
    assert found == [[str(number)] * 3 for number in range(together)]
    assert not current_task and meet.request.id is None


@pytest.mark.parametrize(
    ("raised", "state"),
    [(KeyError("k"), states.FAILURE), (Ignore(), states.IGNORED), (Reject("no"), states.REJECTED),
     (Retry("again"), states.RETRY)],
    ids=repr,
)  # fmt: skip
def test_what_a_body_raises_ends_as_in_a_function(app: Celery, raised: Exception, state: str) -> None:
    @app.task(name="bad", shared=False)
    async def bad() -> None:
        await asyncio.sleep(0)
        raise raised

    outcome = asyncio.run(traced(app, bad))
    assert outcome.info.state == state


def test_a_traceback_shows_celery_and_the_body_alone(app: Celery) -> None:
    @app.task(name="bad", shared=False)
    async def bad() -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    outcome = asyncio.run(traced(app, bad))
    files = [line.split('"')[1] for line in outcome.retval.traceback.splitlines() if line.startswith("  File ")]
    assert files == [trace.__file__, __file__]


def test_autoretry_looks_at_what_a_coroutine_raises(app: Celery) -> None:
    sent: list[Any] = []

    @app.task(
        name="again",
        shared=False,
        bind=True,
        autoretry_for=(KeyError,),
        retry_kwargs={"countdown": 3, "max_retries": 2},
    )
    async def again(self: Any) -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    again.retry = lambda exc, **options: sent.append((exc, options)) or Retry("later", exc)
    original = again._orig_run
    outcome = asyncio.run(traced(app, again))
    assert outcome.info.state == states.RETRY
    ((error, options),) = sent
    assert isinstance(error, KeyError) and options == {"countdown": 3, "max_retries": 2}
    assert again._orig_run is original


def test_the_parts_around_the_body_run_as_outside_of_a_loop(app: Celery) -> None:
    seen: list[bool] = []

    def on_a_loop() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    class Handlers(BaseTask):  # type: ignore[misc, unused-ignore]
        def before_start(self, *_: Any) -> None:
            seen.append(on_a_loop())

        def on_failure(self, *_: Any) -> None:
            seen.append(on_a_loop())

    @app.task(name="bad", shared=False, base=Handlers)
    async def bad() -> None:
        await asyncio.sleep(0)
        seen.append(on_a_loop())
        raise KeyError("k")

    async def run() -> bool:
        await traced(app, bad)
        return on_a_loop()

    assert asyncio.run(run())
    assert seen == [False, True, False]


def test_a_class_with_its_own_call_is_called(app: Celery) -> None:
    calls: list[str] = []

    class Counted(BaseTask):  # type: ignore[misc, unused-ignore]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(self.request.id)
            return super().__call__(*args, **kwargs)

    @app.task(name="add", shared=False, base=Counted)
    async def add(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert asyncio.run(traced(app, add, 1)).retval == 2
    assert calls == ["1"]


class Point(BaseModel):
    x: int


def test_models_come_and_go_as_celery_converts_them(app: Celery) -> None:
    @app.task(name="move", shared=False, bind=True, pydantic=True, autoretry_for=(KeyError,))
    async def move(self: Any, point: Point) -> Point:
        await asyncio.sleep(0)
        return Point(x=point.x + 1)

    assert asyncio.run(traced(app, move, {"x": 1})).retval == {"x": 2}


def test_which_tasks_are_coroutines(app: Celery) -> None:
    @app.task(name="one", shared=False, autoretry_for=(KeyError,))
    async def one() -> None:
        """Wrapped by Celery."""

    @app.task(name="two", shared=False)
    def two() -> None:
        """A function."""

    assert is_coroutine(app.tasks["one"]) and not is_coroutine(app.tasks["two"])
    assert coroutine_tracing.refused(app) == []
