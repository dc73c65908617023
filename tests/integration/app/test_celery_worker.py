"""What turbo sends, read by a real Celery worker; what that worker answers, read by turbo."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.celery_env import celery_python
from tests.harness.processes import end, spawn, wait_until
from tests.harness.rabbitmq import RabbitMQ
from turbo.amqp.topology import Exchange, Queue
from turbo.app.base import Turbo
from turbo.app.canvas.signature import Signature
from turbo.canvas import group

HERE = Path(__file__).parent
QUEUES = [Queue("celery"), Queue("other"), Queue("topical", Exchange("topics", "topic"), "a.#")]


@pytest.fixture(scope="module")
def broker(rabbitmq: RabbitMQ) -> Iterator[str]:
    rabbitmq.ensure_running()
    url = rabbitmq.new_vhost()
    yield url
    rabbitmq.delete_vhost(url)


@pytest.fixture(scope="module")
def worker(broker: str, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real `celery worker` on the queues `celery`, `other` and `topical`, which turbo has declared."""
    with make_app(broker) as app:
        for queue in QUEUES:
            app.send_task("followed", ("", ""), queue=queue.name, ignore_result=True)
    log = (tmp_path_factory.mktemp("celery") / "log").open("w+b")
    process = spawn(
        [celery_python("current"), "-m", "celery", "-A", "celery_tasks", "worker", "-P", "solo", "-l", "info",
         "-Q", "celery,other,topical"],
        env={**os.environ, "BROKER": broker, "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore"},
        cwd=HERE, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        for queue in QUEUES:
            rabbitmq.wait_queue(queue.name, broker, consumers=1, ready=0, timeout=60)
        yield
    except Exception:
        log.seek(0)
        print(log.read().decode())
        raise
    finally:
        end(process)
        log.close()


def make_app(broker: str, **settings: Any) -> Turbo:
    settings.setdefault("backend", "rpc://")
    return Turbo("client", broker=broker, set_as_current=False, task_queues=QUEUES, **settings)


@pytest.fixture
def app(broker: str, worker: None) -> Iterator[Turbo]:
    with make_app(broker) as made:
        yield made


def test_a_plain_call_as_celery_sees_it(app: Turbo) -> None:
    result = app.send_task("report", (1, "ä", None), {"k": [1.5, True]})
    seen = result.get(timeout=60)
    assert (seen["args"], seen["kwargs"]) == ([1, "ä", None], {"k": [1.5, True]})
    request = seen["request"]
    assert request["id"] == request["root_id"] == request["correlation_id"] == result.id
    assert request["reply_to"] == app.thread_oid
    assert request["timelimit"] == [None, None] and request["retries"] == 0
    assert request["eta"] is request["expires"] is request["parent_id"] is request["headers"] is None
    assert re.fullmatch(rf"gen{os.getpid()}@.+", request["origin"])
    assert (seen["delivery_info"], seen["delivery_mode"]) == (
        {"exchange": "", "routing_key": "celery", "priority": 0}, 2,
    )  # fmt: skip
    assert result.state == "SUCCESS" and result.successful()


@pytest.mark.row("WP9", "WP12", "WP15", "WP17", "WP18", "CA18", "CA20", "CA22")
def test_every_option(app: Turbo) -> None:
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    result = app.send_task(
        "report", (1,), task_id="chosen-id", countdown=0.1, expires=expires, priority=3, time_limit=30.5,
        soft_time_limit=20, shadow="alias", headers={"tenant": {"a": [1.5]}}, argsrepr="<hidden>", group_id="G",
        group_index=3, root_id="R", parent_id="P", retries=1, delivery_mode=1, stamped_headers=["s"], s="v",
        queue="other",
    )  # fmt: skip
    seen = result.get(timeout=60)
    request = seen["request"]
    assert request.pop("eta") > datetime.now(UTC).isoformat()[:10]
    assert request.pop("headers") == {"tenant": {"a": [1.5]}}
    for name in ("reply_to", "origin", "ignore_result"):
        request.pop(name)
    assert request == {
        "id": "chosen-id", "root_id": "R", "parent_id": "P", "correlation_id": "chosen-id", "retries": 1,
        "expires": expires.isoformat(), "timelimit": [30.5, 20], "group": "G", "group_index": 3, "shadow": "alias",
        "argsrepr": "<hidden>", "kwargsrepr": "{}", "stamps": {"s": "v"}, "stamped_headers": ["s"],
        "replaced_task_nesting": 0,
    }  # fmt: skip
    assert seen["delivery_info"] == {"exchange": "", "routing_key": "other", "priority": 3}
    assert seen["delivery_mode"] == 1


@pytest.mark.row("CA12", "CF7")
def test_through_an_exchange_of_ones_own(app: Turbo) -> None:
    seen = app.send_task("report", queue="topical", routing_key="a.b.c").get(timeout=60)
    assert seen["delivery_info"] == {"exchange": "topics", "routing_key": "a.b.c", "priority": 0}


@pytest.mark.row("WP9")
def test_the_tagged_types(app: Turbo) -> None:
    values = (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), date(2030, 1, 2), Decimal("1.10"), uuid.uuid4(), b"\xff")
    seen = app.send_task("report", values).get(timeout=60)
    assert seen["types"] == ["datetime", "date", "Decimal", "UUID", "bytes"]
    assert tuple(seen["args"]) == values


@pytest.mark.row("WP6", "WP11", "CA14", "CA15")
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_serializers_and_compression(app: Turbo, serializer: str, compression: str | None) -> None:
    result = app.send_task("report", ("x" * 3000,), serializer=serializer, compression=compression)
    assert result.get(timeout=60)["args"] == ["x" * 3000]


@pytest.mark.row("CA16")
def test_links(app: Turbo, broker: str) -> None:
    follow = {
        "task": "followed", "args": ["got "], "kwargs": {},
        "options": {"task_id": str(uuid.uuid4()), "reply_to": app.thread_oid},
        "subtask_type": None, "immutable": False,
    }  # fmt: skip
    follow["args"] = []
    follow["kwargs"] = {"prefix": "got "}
    app.send_task("followed", ("me", "to "), link=follow)
    assert app.AsyncResult(follow["options"]["task_id"]).get(timeout=60) == "got to me"  # type: ignore[index]


@pytest.mark.row("CA16", "CV1")
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_signatures(app: Turbo, serializer: str) -> None:
    def call(*args: str, **kwargs: str) -> Signature:
        return app.signature("followed", args, kwargs).set(serializer="json")

    first, second, alone = (
        call("me", "to "),
        call(prefix="got "),
        app.signature("followed", ("it", "as "), immutable=True),
    )
    second.link(alone)
    first.link(second)
    waits = [each.freeze() for each in (second, alone)]
    sent = first.clone(serializer=serializer).delay()
    assert [each.get(timeout=60) for each in (sent, *waits)] == ["to me", "got to me", "as it"]


@pytest.mark.row("CV2", "CV4", "ST18")
def test_replies_wait_for_whoever_asks_later(broker: str, worker: None, rabbitmq: RabbitMQ) -> None:
    with make_app(broker) as app:
        followed = app.signature("followed", ("it", "as "), immutable=True)
        both = group(followed.clone(), followed.clone() | followed.clone()).delay()
        rabbitmq.wait_queue(app.thread_oid, broker, ready=3, timeout=60)
        assert both.get(timeout=60) == ["as it", "as it"]
        assert both.join(timeout=20) == ["as it", "as it"]


@pytest.mark.row("CA32", "ST12")
def test_failures_come_back_as_their_own_class(app: Turbo) -> None:
    result = app.send_task("fail", ("the text",))
    with pytest.raises(ValueError, match="the text"):
        result.get(timeout=60)
    assert result.failed() and "ValueError" in str(result.traceback)


@pytest.mark.row("CA8")
def test_what_has_expired_is_not_run(app: Turbo, rabbitmq: RabbitMQ, broker: str) -> None:
    before = app.send_task("report", expires=datetime.now(UTC) - timedelta(seconds=5), ignore_result=True)
    app.send_task("report").get(timeout=60)
    assert before.get() is None, "nothing to wait for"
    wait_until("an empty queue", lambda: getattr(rabbitmq.queue("celery", broker), "ready", 1) == 0, 60)


def test_results_in_redis(broker: str, worker: None, redis_url: str) -> None:
    with make_app(broker, backend=redis_url) as app:
        result = app.send_task("report", (1,))
        app.backend.store_result(result.id, {"n": 5}, "PROGRESS")
        assert app.AsyncResult(result.id).info == {"n": 5}
