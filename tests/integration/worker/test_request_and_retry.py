"""What a task in a real worker sees of its message, and what becomes of it when it asks for another attempt."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from celery.exceptions import MaxRetriesExceededError as CeleryMaxRetriesExceededError

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Turbo
from turbo.exceptions import MaxRetriesExceededError
from turbo.result.async_result import AsyncResult

TASKS = """
from pydantic import BaseModel
from turbo import Task, Turbo, current_app, current_task

app = Turbo("asked")


class Counting(Task):
    max_retries = 1
    default_retry_delay = 0

    def __call__(self, *args, **kwargs):
        return ["called", super().__call__(*args, **kwargs)]


def seen(request):
    return [request.retries, request.headers, request.timelimit, request.delivery_info["routing_key"]]


@app.task(bind=True, name="look")
def look(self, names):
    return {name: self.request.get(name) for name in names}


@app.task(bind=True, name="sets")
def sets(self, **settings):
    self.app.conf.update(settings)
    return self.app.conf.task_time_limit


@app.task(name="where")
def where():
    return [current_task.name, current_task.request.id, current_app.main]


@app.task(name="through", base=Counting)
def through(x):
    return x


@app.task(bind=True, name="again", base=Counting)
def again(self, **options):
    raise self.retry(**options)


@app.task(bind=True, name="default", default_retry_delay=0)
def default(self):
    raise self.retry()


@app.task(bind=True, name="unsendable")
def unsendable(self, *args):
    raise self.retry(args=[object()])


@app.task(bind=True, name="because", max_retries=2, default_retry_delay=0)
def because(self):
    try:
        raise KeyError(f"attempt {self.request.retries}")
    except KeyError as error:
        raise self.retry(exc=error)


@app.task(bind=True, name="twice", default_retry_delay=180)
def twice(self, log=()):
    log = [*log, seen(self.request)]
    if self.request.retries < 1:
        raise self.retry(args=[log], countdown=0.1)
    return log


@app.task(bind=True, name="once_only", default_retry_delay=0)
def once_only(self):
    raise self.retry(max_retries=self.request.retries + (self.request.retries < 5))


@app.task(bind=True, name="goes_on", default_retry_delay=0)
def goes_on(self):
    if self.request.retries:
        return "second"
    return type(self.retry(throw=False)).__name__


@app.task(bind=True, name="of_itself", autoretry_for=(LookupError,), dont_autoretry_for=(IndexError,),
          retry_kwargs={"max_retries": 2, "countdown": 0})
def of_itself(self, error):
    if error == "once" and self.request.retries:
        return self.request.retries
    raise {"once": KeyError, "always": KeyError, "excluded": IndexError, "other": ValueError}[error](
        self.request.retries)


def misdirect(self, exchange):
    app.send_task("where", exchange=exchange, routing_key="k", declare=())
    return "sent"


app.task(bind=True, name="misdirected")(misdirect)
app.task(bind=True, name="misdirected late", acks_late=True)(misdirect)


class Point(BaseModel):
    x: int
    y: int = 0


@app.task(name="mirror", pydantic=True)
def mirror(point: Point, other: Point | None = None) -> Point:
    assert type(point) is Point
    return Point(x=point.y, y=point.x)
"""
QUEUE = "asked"
#: A reader that has Celery loaded gets Celery's class, as other tests of the session may have done.
GIVEN_UP = (MaxRetriesExceededError, CeleryMaxRetriesExceededError)


class Asked:
    """A worker with these tasks, and a way to send it any message."""

    def __init__(self, vhost: str, redis_db: str, worker: WorkerProcess) -> None:
        self.worker = worker
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._parameters = pika.URLParameters(vhost)

    def send(self, task: str, *args: Any, embed: Any = None, headers: Any = None, **kwargs: Any) -> AsyncResult:
        """Publish one message, in the bytes of another producer, and return the handle of its result."""
        identifier = str(uuid.uuid4())
        body = json.dumps(
            [args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None} | (embed or {})]
        )
        properties = pika.BasicProperties(
            headers={"lang": "py", "task": task, "id": identifier, "root_id": identifier} | (headers or {}),
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=identifier,
            reply_to="replies",
            priority=3,
            delivery_mode=2,
        )
        with self.channel() as channel:
            channel.basic_publish("", QUEUE, body.encode(), properties)
        return self.client.AsyncResult(identifier)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel to the broker, with a connection of its own."""
        connection = pika.BlockingConnection(self._parameters)
        try:
            yield connection.channel()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def asked(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost, redis_db = rabbitmq.new_vhost(), redis_server.new_database()
    directory = tmp_path_factory.mktemp("asked")
    (directory / "tasks.py").write_text(TASKS)
    options = ("-A", "tasks", "-b", vhost, "--result-backend", redis_db, "-c", "1", "-l", "info", "-n", "me@here")
    with WorkerProcess(*options, "-Q", QUEUE, directory=directory) as worker:
        worker.wait_for_line(r"ready\.$")
        place = Asked(vhost, redis_db, worker)
        yield place
        place.client.close()
    rabbitmq.delete_vhost(vhost)


FOLLOWING = {
    "task": "where",
    "args": [],
    "kwargs": {},
    "options": {"queue": QUEUE},
    "subtask_type": None,
    "immutable": True,
}
HEADERS = {
    "parent_id": "parent", "group": "group", "group_index": 4, "retries": 0, "origin": "gen1@there",
    "eta": "2020-01-01T00:00:00+00:00", "expires": "2099-01-01T00:00:00+00:00", "timelimit": [30, 20],
    "shadow": "other", "ignore_result": False, "replaced_task_nesting": 2, "stamped_headers": ["s"],
    "stamps": {"s": "v"}, "tenant": "t1",
}  # fmt: skip


@pytest.mark.row(
    "EX8", "EX9", "EX11", "EX12", "EX13", "EX14", "EX15", "EX16", "EX17", "EX18", "EX19", "EX20", "EX21", "EX22",
    "EX23", "EX24", "EX25", "EX26", "EX27", "EX28", "EX29", "EX30", "WP2", "WP3", "WP14", "WP15", "WP17", "WP18",
    "WP19", "TM2",
)  # fmt: skip
def test_a_task_sees_its_message(asked: Asked) -> None:
    wanted: dict[str, Any] = {
        "group": "group", "correlation_id": None, "kwargs": {}, "origin": "gen1@there", "retries": 0,
        "is_eager": False, "eta": "2020-01-01T00:00:00+00:00", "expires": "2099-01-01T00:00:00+00:00",
        "hostname": "me@here", "reply_to": "replies", "called_directly": False, "timelimit": [30, 20],
        "callbacks": [FOLLOWING], "errbacks": [FOLLOWING], "utc": None, "root_id": None, "parent_id": "parent",
        "chain": [FOLLOWING], "replaced_task_nesting": 2, "stamps": {"s": "v"}, "stamped_headers": ["s"],
        "group_index": 4, "ignore_result": False, "shadow": "other", "task": "look", "tenant": "t1", "id": None,
        "delivery_info": {"exchange": "", "routing_key": QUEUE, "priority": 3, "redelivered": False},
    }  # fmt: skip
    names = [*wanted, "args", "headers", "properties"]
    embed = {"callbacks": [FOLLOWING], "errbacks": [FOLLOWING], "chain": [FOLLOWING]}
    result = asked.send("look", names, embed=embed, headers=HEADERS)
    found = result.get(timeout=60)
    wanted |= {"id": result.id, "root_id": result.id, "correlation_id": result.id}
    assert found.pop("args") == [names]
    assert found.pop("headers")["tenant"] == "t1"
    properties = found.pop("properties")
    assert (properties["delivery_mode"], properties["application_headers"]["task"]) == (2, "look")
    assert found == wanted


@pytest.mark.row("EX6", "EX7", "EX8")
def test_the_current_task_and_its_own_call(asked: Asked) -> None:
    result = asked.send("where")
    assert result.get(timeout=60) == ["where", result.id, "asked"]
    assert asked.send("through", 5).get(timeout=60) == ["called", 5]


@pytest.mark.row("CF1")
def test_the_settings_of_a_worker_are_fixed_when_it_starts(asked: Asked) -> None:
    with pytest.raises(Exception, match="task_time_limit stays None: this worker has started"):
        asked.send("sets", task_time_limit=7).get(timeout=60)
    assert asked.send("sets", shop_colour="red").get(timeout=60) is None


@pytest.mark.row("RT1", "RT2", "RT7", "RT19", "RT21", "RT22", "TM1")
def test_the_second_attempt_is_the_same_call(asked: Asked) -> None:
    headers = {"tenant": "t1", "timelimit": [30, 20], "x-death": [{"queue": "q", "count": 1}]}
    first, second = asked.send("twice", headers=headers).get(timeout=60)
    assert (first[0], second[0]) == (0, 1)
    assert first[1]["tenant"] == second[1]["tenant"] == "t1"
    assert "x-death" not in second[1]
    assert first[2:] == second[2:] == [[30, 20], QUEUE]


@pytest.mark.row("RT3", "RT4", "RT6")
def test_three_attempts_more_and_no_reason(asked: Asked) -> None:
    result = asked.send("default")
    with pytest.raises(GIVEN_UP, match=rf"default\[{result.id}\]"):
        result.get(timeout=60)
    assert asked.worker.output.count(f"Task default[{result.id}] retry") == 3


@pytest.mark.row("RT5")
def test_the_reason_of_the_last_attempt(asked: Asked) -> None:
    with pytest.raises(KeyError, match="attempt 2"):
        asked.send("because").get(timeout=60)


@pytest.mark.row("RT18")
def test_one_that_cannot_be_sent_again_is_rejected(asked: Asked) -> None:
    result = asked.send("unsendable")
    with pytest.raises(Exception, match="object") as raised:
        result.get(timeout=60)
    assert type(raised.value).__name__ == "EncodeError"
    asked.worker.wait_for_line(rf"Task unsendable\[{result.id}\] reject requeue=False.*rejected")


@pytest.mark.row("P25")
@pytest.mark.parametrize("name", ["misdirected", "misdirected late"])
def test_one_that_sends_what_the_broker_never_takes_fails(asked: Asked, name: str) -> None:
    """It would end so every time; without a FAILURE, a client would wait for its result for ever."""
    result = asked.send(name, "no such exchange")
    with pytest.raises(Exception, match="'no such exchange'.*not taken by the broker: 404 NOT_FOUND") as raised:
        result.get(timeout=60)
    assert type(raised.value).__name__ == "OperationalError"
    with pytest.raises(Exception, match="over 255 bytes"):
        asked.send(name, "x" * 300).get(timeout=60)
    assert asked.send(name, "amq.topic").get(timeout=60) == "sent"


@pytest.mark.row("P25")
def test_one_that_sends_to_a_full_queue_waits_for_room(asked: Asked) -> None:
    with asked.channel() as channel:
        channel.queue_declare("k", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.queue_bind("k", "amq.direct")
        assert asked.send("misdirected late", "amq.direct").get(timeout=60) == "sent"
        mark = asked.worker.mark()
        second = asked.send("misdirected late", "amq.direct")
        asked.worker.wait_for_line("with key 'k' not taken, sent again", since=mark)
        assert channel.basic_get("k", auto_ack=True)[0] is not None
        assert second.get(timeout=60) == "sent"
        assert channel.basic_get("k", auto_ack=True)[0] is not None
    assert asked.worker.output.count(f"Task misdirected late[{second.id}] received") == 1, "it ran again meanwhile"


@pytest.mark.row("RT17")
def test_the_class_says_how_often(asked: Asked) -> None:
    result = asked.send("again")
    with pytest.raises(GIVEN_UP):
        result.get(timeout=60)
    assert asked.worker.output.count(f"Task again[{result.id}] retry") == 1


@pytest.mark.row("RT9")
def test_a_limit_holds_for_one_attempt(asked: Asked) -> None:
    result = asked.send("once_only")
    with pytest.raises(GIVEN_UP):
        result.get(timeout=60)
    assert asked.worker.output.count(f"Task once_only[{result.id}] retry") == 5


@pytest.mark.row("RT8")
def test_without_raising(asked: Asked) -> None:
    asked.send("goes_on").get(timeout=60)
    result = asked.send("goes_on")
    assert result.get(timeout=60) in ("Retry", "second")


@pytest.mark.row("RT11", "RT12", "RT13")
def test_by_themselves(asked: Asked) -> None:
    assert asked.send("of_itself", "once").get(timeout=60) == 1
    for error, expected, attempts in (
        ("always", KeyError, "2"),
        ("excluded", IndexError, "0"),
        ("other", ValueError, "0"),
    ):
        with pytest.raises(expected, match=attempts):
            asked.send("of_itself", error).get(timeout=60)


@pytest.mark.row("PY1", "PY2", "PY4", "PY12")
def test_models_are_validated_and_dumped_in_the_worker(asked: Asked) -> None:
    assert asked.send("mirror", {"x": "1", "y": 2}, None).get(timeout=60) == {"x": 2, "y": 1}
    wrong = asked.send("mirror", {"x": "no number"})
    with pytest.raises(Exception) as failed:
        wrong.get(timeout=60)
    # A reader that has pydantic loaded finds the class, which cannot be made of a text.
    assert "ValidationError" in repr(failed.value)
    assert wrong.state == "FAILURE"
    assert "1 validation error for Point" in str(wrong.traceback)
