"""turbo's own client against a turbo worker and against a real Celery worker: the same calls, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import vine

from tests.compat.apps.compat_shared import SETTINGS
from tests.compat.conftest import Place, celery_worker, fresh_place, turbo_worker
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from turbo.app.base import Turbo
from turbo.exceptions import EncodeError, NotRegistered, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError


@pytest.fixture(scope="module", params=["turbo", "celery"])
def place(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A worker of either make that keeps results in Redis."""
    directory: Path = tmp_path_factory.mktemp(request.param)
    start = turbo_worker if request.param == "turbo" else celery_worker
    with fresh_place(rabbitmq, directory, redis_server.new_database()) as made, start(made):
        yield made


@pytest.fixture
def app(place: Place) -> Iterator[Turbo]:
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("worker")}
    with Turbo("client", broker=place.broker, backend=place.backend, set_as_current=False, **settings) as made:
        yield made


@pytest.mark.row("CA1", "CA3", "CA32", "WP1", "ST3")
def test_calls_by_name_and_by_task(app: Turbo) -> None:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        raise AssertionError("it runs in the worker")

    assert add.delay(1, 2).get(timeout=60) == 3
    assert add.apply_async((1,), {"y": 5}, countdown=0.2).get(timeout=60) == 6
    sent = app.send_task("add", (2, 2))
    assert sent.get(timeout=60) == 4 and sent.successful() and sent.state == "SUCCESS"


@pytest.mark.row("CA12", "CA13", "CA14", "CA15", "WP9")
def test_destinations_and_contents(app: Turbo) -> None:
    seen = app.send_task("report", queue="prio", priority=6).get(timeout=60)
    assert (seen["delivery_info"]["routing_key"], seen["delivery_info"]["priority"]) == ("prio", 6)
    seen = app.send_task("report", exchange="topics", routing_key="orders.x").get(timeout=60)
    assert (seen["delivery_info"]["exchange"], seen["delivery_info"]["routing_key"]) == ("topics", "orders.x")
    values = [datetime(2030, 1, 2, tzinfo=UTC), Decimal("1.5"), 2**80, b"\xff"]
    for serializer in ("json", "pickle"):
        assert app.send_task("echo", values, serializer=serializer).get(timeout=60) == [values, {}]
    for compression in ("gzip", "bzip2", "lzma"):
        assert app.send_task("echo", ["x" * 3000], compression=compression).get(timeout=60) == [["x" * 3000], {}]
    assert app.send_task("size", ["x" * 5_000_000], serializer="msgpack").get(timeout=60) == 5_000_000


@pytest.mark.row("ST4", "ST13", "ST31", "EX3", "WP21")
@pytest.mark.parametrize(
    ("task", "args", "options", "raised"),
    [
        ("boom", ("value",), {}, ValueError),
        ("boom", ("os",), {}, FileNotFoundError),
        ("unserialisable", ("set",), {}, EncodeError),
        ("stuck", (20,), {"soft_time_limit": 0.2}, SoftTimeLimitExceeded),
        ("stuck", (20,), {"time_limit": 1}, TimeLimitExceeded),
        ("die", (), {}, WorkerLostError),
        ("no.such", (), {}, NotRegistered),
    ],
)
def test_failures(app: Turbo, task: str, args: tuple[object, ...], options: dict[str, float], raised: type) -> None:
    result = app.send_task(task, args, **options)
    error = result.get(timeout=60, propagate=False)
    # With Celery loaded in this process, its own classes are what its documents name.
    assert isinstance(error, raised) or type(error).__name__ == raised.__name__
    assert result.failed()
    with pytest.raises(type(error)):
        result.get()


@pytest.mark.row("ST2", "ST5", "ST10", "ST23", "CA33")
def test_states_and_children(app: Turbo) -> None:
    progress = app.send_task("progress", ("x",))
    wait_until("PROGRESS", lambda: progress.state == "PROGRESS", 60)
    assert progress.info == {"done": 5, "of": [1, 2], "kind": "x"}
    waiting = app.send_task("later")
    wait_until("RETRY", lambda: waiting.state == "RETRY", 60)
    assert not waiting.ready() and isinstance(waiting.result, ValueError)
    parent = app.send_task("tree")
    child_id = parent.get(timeout=60)
    assert [child.id for child in parent.children or ()] == [child_id]
    assert app.AsyncResult(child_id).get(timeout=60) == 3
    assert app.send_task("flaky", (2, "w"), headers={"tenant": "a"}).get(timeout=60)["headers"] == {"tenant": "a"}


@pytest.mark.row("CA21", "ST14")
def test_an_ignored_result_is_not_waited_for(app: Turbo) -> None:
    assert app.send_task("add", (1, 2), ignore_result=True).get(timeout=1) is None


def test_callbacks_are_called_when_tasks_have_ended(app: Turbo) -> None:
    called: SimpleQueue[Any] = SimpleQueue()
    result = app.send_task("add", (1, 2))
    after = result.then(lambda ended: ended.result * 2)
    after.then(called.put)
    assert called.get(timeout=60) == 6
    result.then(called.put)
    assert called.get(timeout=0) is result
    failed = app.send_task("boom", ("value",))
    failed.then(vine.promise(called.put))
    ended = called.get(timeout=60)
    assert ended is failed and failed.failed()
    many = app.GroupResult("many", [app.send_task("add", (number, number)) for number in range(5)])
    many.then(called.put)
    assert called.get(timeout=60) is many and many.get() == [0, 2, 4, 6, 8]
    every = vine.barrier([app.send_task("add", (1, 1)), app.send_task("add", (2, 2))])
    every.then(lambda: called.put("every"))
    assert called.get(timeout=60) == "every"


def test_promises_are_arguments_of_get(app: Turbo) -> None:
    promised = vine.promise(lambda _, value: value + 1)
    assert app.send_task("add", (1, 2)).get(timeout=60, callback=promised) == 3
    assert promised.value == ((4,), {})
    told = vine.promise(lambda meta: meta["status"])
    assert app.send_task("add", (3, 4)).get(timeout=60, on_message=told, on_interval=vine.promise()) == 7
    assert told.value == (("SUCCESS",), {})
