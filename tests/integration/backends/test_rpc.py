"""rpc results over a real RabbitMQ: turbo's store read by Celery, Celery's replies read by turbo."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import celery
import pytest
import uvloop

from tests.harness.processes import wait_until
from tests.integration.backends.documents import document
from turbo.amqp.publish.publisher import Publisher
from turbo.amqp.topology import Queue
from turbo.amqp.url import parse_broker_urls
from turbo.backends.reader_settings import ReaderSettings
from turbo.backends.rpc.client import RpcReader
from turbo.backends.rpc.store import RpcStore
from turbo.backends.store import ResultWrite, StoreOutcome, StoreSettings
from turbo.exceptions import TimeoutError
from turbo.result.async_result import AsyncResult
from turbo.result.group_result import ResultSet


def publish(url: str, writes: list[ResultWrite]) -> tuple[list[StoreOutcome], RpcStore]:
    async def run() -> tuple[list[StoreOutcome], RpcStore]:
        publisher = Publisher(parse_broker_urls(url))
        store = RpcStore(publisher, StoreSettings())
        await publisher.start()
        await store.start()
        outcomes: list[StoreOutcome] = []
        for write in writes:
            store.store(write, outcomes.append)
        assert await store.drain(time.monotonic() + 60)
        await store.stop(time.monotonic() + 5)
        await publisher.stop(time.monotonic() + 5)
        return outcomes, store

    return uvloop.run(run())


@pytest.fixture
def theirs(amqp_url: str) -> Iterator[celery.Celery]:
    app = celery.Celery(broker=amqp_url, backend="rpc://", set_as_current=False)
    yield app
    if app.backend.result_consumer._consumer is not None:
        app.backend.result_consumer.stop()
    app.close()


class App:
    """The part of an app that results need."""

    def __init__(self, backend: RpcReader) -> None:
        self.backend = backend
        self.control: Any = None


@pytest.fixture
def ours(amqp_url: str) -> Iterator[App]:
    name = str(uuid.uuid4())
    reader = RpcReader(parse_broker_urls(amqp_url), lambda: name, ReaderSettings())
    yield App(reader)
    reader.close()


def declare(app: celery.Celery) -> str:
    """Declare Celery's reply queue as sending a task does; return its name."""
    with app.connection_for_write() as connection:
        binding = app.backend.binding(connection.default_channel)
        binding.declare()
        return str(binding.name)


@pytest.mark.row("ST18")
def test_celery_reads_our_replies(amqp_url: str, theirs: celery.Celery) -> None:
    reply_to = declare(theirs)
    ids = [str(uuid.uuid4()) for _ in range(300)]
    results = [theirs.AsyncResult(task_id) for task_id in ids]
    writes = [ResultWrite(each, document(each, result=n), reply_to=reply_to) for n, each in enumerate(ids)]
    outcomes, _ = publish(amqp_url, writes)
    assert outcomes == [StoreOutcome.STORED] * 300
    assert [result.get(timeout=60) for result in results] == list(range(300))


@pytest.mark.row("ST18")
def test_our_reply_looks_like_celerys(amqp_url: str, theirs: celery.Celery) -> None:
    task_id = str(uuid.uuid4())
    reply_to = declare(theirs)

    class Request:
        id = task_id
        correlation_id = task_id
        group = parent_id = None
        children: list[object] = []

    Request.reply_to = reply_to  # type: ignore[attr-defined]
    theirs.backend.store_result(task_id, 42, "SUCCESS", request=Request)
    publish(amqp_url, [ResultWrite(task_id, document(task_id), reply_to=reply_to)])
    seen = []
    with theirs.connection_for_read() as connection:
        channel = connection.default_channel
        for _ in range(2):
            end = time.monotonic() + 60
            while (message := channel.basic_get(reply_to, no_ack=True)) is None and time.monotonic() < end:
                time.sleep(0.01)
            seen.append(message)
    assert seen[0].properties == seen[1].properties
    assert seen[0].delivery_info["exchange"] == seen[1].delivery_info["exchange"] == ""
    assert json.loads(seen[0].body).keys() == json.loads(seen[1].body).keys()


@pytest.mark.row("P23")
def test_a_vanished_reply_queue_is_logged_once(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    gone = [f"gone-{n % 2}" for n in range(100)]
    outcomes, store = publish(
        amqp_url,
        [ResultWrite(str(n), b"{}", reply_to=reply_to) for n, reply_to in enumerate(gone)]
        + [ResultWrite("nobody", b"{}")],
    )
    assert sorted(outcome.name for outcome in outcomes) == ["DISCARDED"] + ["UNROUTABLE"] * 100
    assert all(outcome.ok for outcome in outcomes)
    assert store.unroutable == 100
    assert caplog.text.count("gone-0 is gone") == 1
    assert caplog.text.count("gone-1 is gone") == 1


def send_reply(url: str, queue: Queue, task_id: str, status: str, result: object) -> None:
    outcomes, _ = publish(url, [ResultWrite(task_id, document(task_id, status, result), reply_to=queue.name)])
    assert outcomes == [StoreOutcome.STORED]


def declare_ours(theirs: celery.Celery, queue: Queue) -> None:
    """Declare our reply queue through Celery's library: the properties are given by hand, as Celery's are."""
    with theirs.connection_for_write() as connection:
        connection.default_channel.queue_declare(
            queue.name, durable=True, auto_delete=True, arguments={"x-expires": 86_400_000}
        )


def test_our_reply_queue_is_declared_as_celerys(theirs: celery.Celery, ours: App) -> None:
    name = declare(theirs)
    queue = ours.backend.reply_queue(name)
    assert (queue.durable, queue.auto_delete, queue.exclusive) == (True, True, False)
    # consuming it declares it again: other properties would be refused by the broker
    ours.backend.forget("nothing")
    assert AsyncResult("nothing", app=ours).state == "PENDING"
    consumer = ours.backend._consumer
    assert consumer is not None
    assert consumer.consume(queue, 10)


@pytest.mark.row("ST18", "ST26")
def test_we_read_replies(amqp_url: str, theirs: celery.Celery, ours: App) -> None:
    queue = ours.backend.reply_queue(ours.backend._reply_to())
    declare_ours(theirs, queue)
    early, late = (AsyncResult(str(uuid.uuid4()), app=ours) for _ in range(2))
    send_reply(amqp_url, queue, early.id, "SUCCESS", "early")
    assert early.state == "SUCCESS"
    assert early.get(timeout=60) == "early"
    assert late.state == "PENDING"
    messages: list[dict[str, Any]] = []
    got: list[object] = []
    waiter = threading.Thread(
        target=lambda: got.append(late.get(timeout=60, on_message=messages.append, propagate=False))
    )
    waiter.start()
    wait_until("the thread waits", lambda: bool(ours.backend._watchers), 60)
    send_reply(amqp_url, queue, late.id, "STARTED", {"pid": 1})
    failure = {"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"}
    send_reply(amqp_url, queue, late.id, "FAILURE", failure)
    waiter.join(60)
    assert isinstance(got[0], ValueError)
    assert [message["status"] for message in messages] == ["STARTED", "FAILURE"]
    with pytest.raises(TimeoutError):
        AsyncResult("never", app=ours).get(timeout=0.1)


def test_callbacks_are_called_when_replies_arrive(amqp_url: str, theirs: celery.Celery, ours: App) -> None:
    queue = ours.backend.reply_queue(ours.backend._reply_to())
    declare_ours(theirs, queue)
    first, second = (AsyncResult(str(uuid.uuid4()), app=ours) for _ in range(2))
    called: SimpleQueue[Any] = SimpleQueue()
    first.then(called.put)
    ResultSet([first, second]).then(lambda ended: called.put(ended.get()))
    send_reply(amqp_url, queue, first.id, "SUCCESS", 1)
    assert called.get(timeout=60) is first
    send_reply(amqp_url, queue, second.id, "SUCCESS", 2)
    assert called.get(timeout=60) == [1, 2]


def test_the_readers_own_methods_take_ids_of_other_kinds(amqp_url: str, theirs: celery.Celery, ours: App) -> None:
    reader, task_id = ours.backend, uuid.uuid4()
    queue = reader.reply_queue(reader._reply_to())
    declare_ours(theirs, queue)
    told: list[Any] = []
    messages: list[Any] = []
    reader.watch(task_id, told.append)  # type: ignore[arg-type]
    waiter = threading.Thread(
        target=lambda: told.append(reader.wait_for(task_id, timeout=60, on_message=messages.append))  # type: ignore[arg-type]
    )
    waiter.start()
    wait_until("both wait", lambda: len(reader._watchers.get(str(task_id), ())) == 2, 60)
    send_reply(amqp_url, queue, str(task_id), "SUCCESS", 42)
    waiter.join(60)
    assert [meta["result"] for meta in (*told, *messages)] == [42, 42, 42]
    assert reader.get_task_meta(task_id)["result"] == 42  # type: ignore[arg-type]
    assert not reader._watchers
    reader.forget(task_id)  # type: ignore[arg-type]
    assert reader.get_task_meta(task_id)["status"] == "PENDING"  # type: ignore[arg-type]


def test_a_forked_client_starts_anew(ours: App) -> None:
    assert AsyncResult("nothing", app=ours).state == "PENDING"
    assert ours.backend._consumer is not None
    pid = os.fork()
    if pid == 0:
        fresh = ours.backend._consumer is None and not ours.backend._queues
        os._exit(0 if fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert AsyncResult("nothing", app=ours).state == "PENDING"


def test_replies_come_again_after_the_broker_restarted(
    rabbitmq: Any, amqp_url: str, theirs: celery.Celery, ours: App
) -> None:
    queue = ours.backend.reply_queue(ours.backend._reply_to())
    assert AsyncResult("nothing", app=ours).state == "PENDING"
    rabbitmq.kill()
    rabbitmq.start()
    consumer = ours.backend._consumer
    assert consumer is not None
    result = AsyncResult(str(uuid.uuid4()), app=ours)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        outcomes, _ = publish(amqp_url, [ResultWrite(result.id, document(result.id), reply_to=queue.name)])
        if outcomes == [StoreOutcome.STORED]:
            break
    assert result.get(timeout=60) == 42
