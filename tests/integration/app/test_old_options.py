"""Options of the old manual that still have an effect, as they arrive in a real broker and worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu.serialization
import pika
import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Exchange, Queue, Turbo, serialization
from turbo.exceptions import OperationalError, TurboWarning
from turbo.protocol import content


@pytest.fixture
def app(vhost: str) -> Iterator[Turbo]:
    with Turbo("sender", broker=vhost, set_as_current=False) as made:
        made.conf.task_queues = [
            Queue("video", Exchange("media", "topic"), "video.#"),
            Queue("image", Exchange("media", "topic"), "image.#"),
            Queue("brief", Exchange("brief", delivery_mode="transient"), "brief"),
        ]
        yield made


def messages(url: str, *queues: str) -> list[tuple[str, str, str, int, int]]:
    """Queue, exchange, routing key, priority and delivery mode of every message."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        for queue in queues:
            while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
                method, properties, _body = answer
                found.append(
                    (queue, method.exchange, method.routing_key, properties.priority, properties.delivery_mode)
                )
        return found


@pytest.mark.row("AO7", "AO8", "AO9")
def test_attributes_of_the_task_are_its_calls_defaults(app: Turbo, vhost: str) -> None:
    task = app.task(
        name="t", exchange="media", exchange_type="topic", routing_key="video.compress", priority=3, mandatory=True,
        serializer="yaml",
    )(lambda: None)  # fmt: skip
    with app.connection() as connection:
        app.send_task("declares", queue="video", connection=connection)
        app.send_task("declares", queue="image", connection=connection)
    assert len(messages(vhost, "video", "image")) == 2
    task.delay()
    task.apply_async(routing_key="image.crop", priority=7)
    assert messages(vhost, "video", "image") == [
        ("video", "media", "video.compress", 3, 2), ("image", "media", "image.crop", 7, 2),
    ]  # fmt: skip
    with pytest.raises(OperationalError, match="NO_ROUTE"):
        task.apply_async(routing_key="nobody.wants")
    task.apply_async(routing_key="nobody.wants", mandatory=False)
    with pytest.warns(TurboWarning, match="immediate"):
        task.apply_async(immediate=True)
    assert len(messages(vhost, "video")) == 1, "it is sent all the same"


@pytest.mark.row("AO13")
def test_messages_that_the_broker_need_not_write_down(app: Turbo, vhost: str) -> None:
    app.send_task("t", queue="brief")
    app.send_task("t", queue="brief", delivery_mode="persistent")
    app.conf.task_routes = {
        "routed": {"queue": "brief", "delivery_mode": 2},
        "light": {"queue": "video", "delivery_mode": "transient"},
    }
    app.send_task("routed")
    app.send_task("light")
    app.send_task("t", queue="video", delivery_mode=1)
    modes = [(queue, mode) for queue, _, _, _, mode in messages(vhost, "brief", "video")]
    assert modes == [("brief", 1), ("brief", 2), ("brief", 2), ("video", 1), ("video", 1)]


SHAPES = """
import json
import kombu.serialization
from turbo import serialization


def backwards(value):
    return json.dumps(value)[::-1]


def forwards(data):
    return json.loads(data.decode()[::-1])


def register():
    serialization.register("backwards", backwards, forwards, "application/x-backwards")
    kombu.serialization.register("theirs", backwards, forwards, "application/x-theirs")
"""
TASKS = """
import shapes
from turbo import Turbo
from turbo.exceptions import OperationalError

shapes.register()
app = Turbo("shaped")
app.conf.accept_content = ["backwards", "theirs"]
app.conf.result_serializer = "theirs"


@app.task(name="double")
def double(value):
    return value * 2


@app.task(name="careful")
def careful(key):
    try:
        app.send_task("t", exchange="amq.direct", routing_key=key, mandatory=True, declare=())
    except OperationalError as error:
        return str(error)


@app.task(bind=True, name="insistent", mandatory=True, serializer="theirs", default_retry_delay=0)
def insistent(self):
    if not self.request.retries:
        raise self.retry()
    return self.request.retries
"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "tasks.py").write_text(TASKS)
    namespace: dict[str, Any] = {}
    exec(SHAPES, namespace)
    monkeypatch.setattr(content, "SERIALIZERS", dict(content.SERIALIZERS))
    namespace["register"]()
    yield namespace
    kombu.serialization.unregister("theirs")


@pytest.mark.row("AO8", "AO15")
def test_serializers_of_the_programs_own_and_mandatory_calls_in_a_task(
    vhost: str, rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path: Path, shapes: Any
) -> None:
    assert serialization.register is content.register
    database = redis_server.new_database()
    options = ("-A", "tasks", "-b", vhost, "--result-backend", database, "-c", "1", "-l", "info")
    with WorkerProcess(*options, directory=tmp_path) as worker:
        worker.wait_for_line(r"ready\.$")
        with Turbo("client", broker=vhost, backend=database, set_as_current=False) as client:
            client.conf.result_serializer = "theirs"
            results = [client.send_task("double", ("x",), serializer=name) for name in ("backwards", "theirs")]
            assert [result.get(timeout=60) for result in results] == ["xx", "xx"]
            lost = client.send_task("careful", ("nowhere",), serializer="theirs").get(timeout=60)
            assert "NO_ROUTE" in lost, "a task hears of it as any caller does"
            assert client.send_task("insistent", serializer="theirs").get(timeout=60) == 1
            client.send_task("double", ("x",), task_id="refused")
            worker.wait_for_line("refused.*(not accepted|application/json)|application/json.*not accepted")
