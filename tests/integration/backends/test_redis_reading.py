"""AsyncResult over Redis, reading what Celery's own backend has stored."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis

from tests.harness.processes import wait_until
from tests.harness.redis_server import RedisServer
from turbo import Turbo
from turbo.backends.reader_settings import ReaderSettings
from turbo.backends.redis import client as redis_client
from turbo.backends.redis.client import RedisReader
from turbo.exceptions import DecodeError, OperationalError, TimeoutError
from turbo.result.async_result import AsyncResult
from turbo.result.group_result import ResultSet

# Celery's own backend calls what redis-py 8 has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class App:
    """The part of an app that results need."""

    def __init__(self, backend: RedisReader) -> None:
        self.backend = backend
        self.control: Any = None


@pytest.fixture
def theirs(redis_url: str) -> Iterator[celery.Celery]:
    app = celery.Celery(broker="memory://", backend=redis_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def ours(redis_url: str) -> Iterator[App]:
    reader = RedisReader(redis_url, ReaderSettings())
    yield App(reader)
    reader.close()


def new_id() -> str:
    return str(uuid.uuid4())


def wait_for_subscriber(redis_url: str, task_id: str) -> None:
    """Wait until a client is subscribed to the task's end."""
    key = f"celery-task-meta-{task_id}"
    with redis.Redis.from_url(redis_url) as server:
        wait_until(f"somebody waits for {task_id}", lambda: bool(server.pubsub_numsub(key)[0][1]), 60)


@pytest.mark.row("ST1", "ST3", "ST19")
def test_reads_a_success(ours: App, theirs: celery.Celery) -> None:
    result = AsyncResult(new_id(), app=ours)
    assert result.state == "PENDING"
    assert not result.ready()
    assert not result.exists()
    theirs.backend.store_result(result.id, {"a": [1, 2.5, None]}, "SUCCESS")
    assert result.get(timeout=60) == {"a": [1, 2.5, None]}
    assert result.successful()
    assert result.ready()
    assert result.date_done is not None
    assert result.date_done.utcoffset() is not None
    assert not result.children


@pytest.mark.row("ST4")
def test_a_failure_is_raised_or_returned(ours: App, theirs: celery.Celery) -> None:
    result = AsyncResult(new_id(), app=ours)
    theirs.backend.store_result(result.id, ValueError("no", 3), "FAILURE", traceback="Traceback …")
    with pytest.raises(ValueError, match="no") as caught:
        result.get(timeout=60)
    assert caught.value.args == ("no", 3)
    assert isinstance(result.get(propagate=False), ValueError)
    assert result.failed()
    assert result.traceback == "Traceback …"


@pytest.mark.row("ST5", "ST10")
def test_states_on_the_way_do_not_end_the_wait(ours: App, theirs: celery.Celery) -> None:
    result = AsyncResult(new_id(), app=ours)
    theirs.backend.store_result(result.id, {"done": 10}, "PROGRESS")
    assert result.info == {"done": 10}
    theirs.backend.store_result(result.id, KeyError("later"), "RETRY")
    assert isinstance(result.info, KeyError)
    seen = []
    with pytest.raises(TimeoutError):
        result.get(timeout=0.2, on_message=seen.append)
    assert not result.ready()


@pytest.mark.row("ST26")
def test_a_waiting_get_is_woken_by_the_publication(
    redis_url: str, ours: App, theirs: celery.Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "_LOOK_AGAIN", 3600.0)  # nothing else can tell it
    result = AsyncResult(new_id(), app=ours)
    messages: list[dict[str, Any]] = []
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(result.get(timeout=60, on_message=messages.append)))
    waiter.start()
    wait_for_subscriber(redis_url, result.id)
    theirs.backend.store_result(result.id, {"pid": 1}, "STARTED")
    theirs.backend.store_result(result.id, "done", "SUCCESS")
    waiter.join(60)
    assert got == ["done"]
    assert [message["status"] for message in messages][-1] == "SUCCESS"


def test_many_threads_wait_at_once(ours: App, theirs: celery.Celery) -> None:
    results = [AsyncResult(new_id(), app=ours) for _ in range(20)]
    got: dict[str, object] = {}

    def wait(result: AsyncResult) -> None:
        got[result.id] = result.get(timeout=60)

    threads = [threading.Thread(target=wait, args=(result,)) for result in results]
    for thread in threads:
        thread.start()
    for number, result in enumerate(results):
        theirs.backend.store_result(result.id, number, "SUCCESS")
    for thread in threads:
        thread.join(60)
    assert got == {result.id: number for number, result in enumerate(results)}


def test_get_survives_a_restart_of_redis(
    redis_server: RedisServer, redis_url: str, ours: App, theirs: celery.Celery
) -> None:
    result = AsyncResult(new_id(), app=ours)
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(result.get(timeout=60)))
    waiter.start()
    wait_for_subscriber(redis_url, result.id)
    redis_server.restart()
    theirs.backend.store_result(result.id, "after", "SUCCESS")
    waiter.join(60)
    assert got == ["after"]


def test_what_cannot_be_read_holds_up_nobody(redis_url: str, ours: App, theirs: celery.Celery) -> None:
    broken, fine, late = new_id(), new_id(), new_id()
    with redis.Redis.from_url(redis_url) as server:
        server.set(f"celery-task-meta-{broken}", b"no document")
    theirs.backend.store_result(fine, 1, "SUCCESS")
    results = ResultSet([AsyncResult(each, app=ours) for each in (broken, fine, late)], app=ours)
    writer = threading.Thread(
        target=lambda: (wait_for_subscriber(redis_url, late), theirs.backend.store_result(late, 2, "SUCCESS"))
    )
    writer.start()
    try:
        error, *values = results.get(timeout=60, propagate=False)
    finally:
        writer.join()
    assert isinstance(error, DecodeError) and values == [1, 2]
    with pytest.raises(DecodeError):
        asyncio.run(AsyncResult(broken, app=ours).aget(timeout=60))


@pytest.mark.row("ST24")
def test_forget_deletes_the_document(redis_url: str, ours: App, theirs: celery.Celery) -> None:
    result = AsyncResult(new_id(), app=ours)
    theirs.backend.store_result(result.id, 1, "SUCCESS")
    assert result.get(timeout=60) == 1
    result.forget()
    assert result.state == "PENDING"
    with redis.Redis.from_url(redis_url) as server:
        assert server.dbsize() == 0


@pytest.mark.row("ST22", "ST23")
def test_children_and_extended_fields(ours: App, theirs: celery.Celery) -> None:
    parent, child = new_id(), new_id()
    theirs.backend.set(
        theirs.backend.get_key_for_task(parent),
        theirs.backend.encode(
            {"status": "SUCCESS", "result": 1, "traceback": None, "task_id": parent, "date_done": None,
             "children": [[[child, None], None]], "name": "t.add", "args": [1], "kwargs": {"b": 2},
             "worker": "w@h", "retries": 2, "queue": "celery"}
        ),
    )  # fmt: skip
    theirs.backend.store_result(child, "leaf", "SUCCESS")
    result = AsyncResult(parent, app=ours)
    assert result.children == [AsyncResult(child, app=ours)]
    assert result.children[0].get(timeout=60) == "leaf"
    assert (result.name, result.args, result.kwargs) == ("t.add", [1], {"b": 2})
    assert (result.worker, result.retries, result.queue) == ("w@h", 2, "celery")
    assert [value for _, value in result.collect(timeout=5)] == [1, "leaf"]


def test_what_turbo_stores_as_a_client_celery_reads(ours: App, theirs: celery.Celery) -> None:
    task_id = new_id()
    ours.backend.store_result(task_id, {"half": True}, "PROGRESS")
    assert theirs.AsyncResult(task_id).info == {"half": True}
    assert theirs.AsyncResult(task_id).state == "PROGRESS"
    ours.backend.store_result(task_id, KeyError("k"), "FAILURE", traceback="tb")
    failed = theirs.AsyncResult(task_id)
    assert repr(failed.get(timeout=60, propagate=False)) == "KeyError('k')"
    assert failed.date_done is not None


def test_handles_are_stored_as_celery_stores_them(redis_url: str, theirs: celery.Celery) -> None:
    ours = Turbo("ours", broker="memory://", backend=redis_url, set_as_current=False)
    ours.conf.update(task_always_eager=True, task_store_eager_result=True)
    theirs.conf.update(task_always_eager=True, task_store_eager_result=True)
    stored = []
    for app in (ours, theirs):
        call = app.AsyncResult("call", parent=app.AsyncResult("above"))
        group = app.GroupResult("group", [call, app.AsyncResult("other")])
        for handle in (call, group, app.AsyncResult("alone")):

            def returning(handle: Any = handle) -> Any:
                return handle

            returned = app.task(name=f"t{len(stored)}", ignore_result=False)(returning)
            told = returned.apply_async(task_id=new_id())
            returned.update_state(half := new_id(), "HALF", handle)
            app.backend.store_result(mine := new_id(), handle, "SUCCESS")
            stored.append([theirs.backend.get_task_meta(each)["result"] for each in (told.id, half, mine)])
    ours.backend.close()
    assert stored[:3] == stored[3:]
    assert stored[0] == [[["call", [["above", None], None]], None]] * 3


def test_an_unreachable_redis_is_an_operational_error() -> None:
    reader = RedisReader("redis://:hush@127.0.0.1:1/0", ReaderSettings(connect_timeout=1.0))
    with pytest.raises(OperationalError) as caught:
        AsyncResult("x", backend=reader).ready()
    assert "hush" not in str(caught.value)
    with pytest.raises(TimeoutError):
        AsyncResult("x", backend=reader).get(timeout=0.3)
    reader.close()
