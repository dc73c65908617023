"""celery-batches, under Celery's worker and turbo's: bodies with its requests, its signals and acknowledgements."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness.celery_env import BATCHES_WITH_TURBO, celery_producer, celery_python
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place

APP = """
import time
from celery import current_task
from celery.exceptions import SoftTimeLimitExceeded
from celery_batches import Batches, SimpleRequest

LONG = 3600

def done(requests, results):
    for request, result in zip(requests, results):
        app.backend.mark_as_done(request.id, result, request=request)

@app.task(name="proj.total", base=Batches, flush_every=3, flush_interval=LONG)
def total(requests):
    assert all(type(request) is SimpleRequest for request in requests)
    value = sum(sum(request.args) + sum(request.kwargs.values()) for request in requests)
    done(requests, [value] * len(requests))
    return value

@app.task(name="proj.numbered", base=Batches, flush_every=3, flush_interval=LONG)
def numbered(requests):
    done(requests, range(len(requests)))

@app.task(name="proj.timed", base=Batches, flush_every=1000, flush_interval=0.5)
def timed(requests):
    done(requests, [len(requests)] * len(requests))

@app.task(name="proj.told", base=Batches, flush_every=2, flush_interval=LONG, bind=True)
def told(self, requests):
    done(requests, [
        [r.id, r.name, r.delivery_info["routing_key"], r.hostname, bool(r.ignore_result), r.correlation_id,
         r.request_dict["id"], current_task.name, self.request.id]
        for r in requests
    ])

@app.task(name="proj.fails", base=Batches, flush_every=2, flush_interval=LONG)
def fails(requests):
    raise ValueError("of all")

def held(requests):
    record("held", ids=[request.id for request in requests], pid=os.getpid())
    while not os.path.exists(requests[0].args[0]):
        time.sleep(0.01)
    done(requests, [len(requests)] * len(requests))

app.task(name="proj.early", base=Batches, flush_every=2, flush_interval=LONG)(held)
app.task(name="proj.late", base=Batches, flush_every=2, flush_interval=LONG, acks_late=True,
         reject_on_worker_lost=True)(held)

@app.task(name="proj.again", base=Batches, flush_every=2, flush_interval=0.5)
def again(requests):
    for request in requests:
        if request.args[0] % 2:
            done([request], ["odd"])
        else:
            app.send_task("proj.again", (request.args[0] + 1,), task_id=request.id, countdown=0.1)

@app.task(name="proj.limited", base=Batches, flush_every=2, flush_interval=LONG, soft_time_limit=2)
def limited(requests):
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        done(requests, ["limited"] * len(requests))

def note(name):
    def receive(sender=None, request=None, task_id=None, state=None, **_):
        task = request.name if request is not None else sender.name
        record(name, task=task, state=state, current=current_task and current_task.name)
    getattr(signals, name).connect(receive, weak=False)

for name in ("task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):
    note(name)
"""


class Worker:
    """A worker of one kind with the app above, and its client."""

    def __init__(self, by: str, place: Place, process: WorkerProcess) -> None:
        self.by = by
        self.place = place
        self.process = process

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.place.client.send_task(f"proj.{name}", args, **options)

    def signals(self, task: str) -> Counter[str]:
        """How often each signal was sent about a task."""
        found = self.place.recorded(self.by)
        return Counter(event for _, event, details in found if details.get("task") == f"proj.{task}")

    def unacked(self) -> int:
        facts = self.place.rabbitmq.queue("celery", self.place.vhost)
        return 0 if facts is None else facts.unacked

    def held_by(self, identifier: str) -> list[int]:
        """The processes that have begun a batch with this call."""
        found = self.place.recorded(self.by)
        return [details["pid"] for _, event, details in found if event == "held" and identifier in details["ids"]]


@pytest.fixture(scope="module")
def python() -> str:
    return str(celery_python(BATCHES_WITH_TURBO))


@pytest.fixture(scope="module", params=["turbo", "celery"])
def worker(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    python: str,
) -> Iterator[Worker]:
    vhost = rabbitmq.new_vhost()
    place = Place(rabbitmq, vhost, redis_server.new_database(), tmp_path_factory.mktemp(request.param))
    place.write(APP)
    with place.worker("-c", "2", "-n", "one@here", by=request.param, python=python) as process:
        process.wait_for_line(READY, timeout=60)
        yield Worker(request.param, place, process)
        process.terminate()
        assert process.wait() == 0
    place.close()
    rabbitmq.delete_vhost(vhost)


@pytest.mark.row("HA12")
@pytest.mark.parametrize("protocol", [1, 2])
def test_a_full_batch_runs_once_with_all_arguments(worker: Worker, protocol: int) -> None:
    worker.place.client.conf.task_protocol = protocol
    before = worker.signals("total")
    results = [
        worker.send("total", 1, 2),
        worker.send("total", kwargs={"a": 3}),
        worker.send("total", 4, kwargs={"b": 5}),
    ]
    assert [result.get(timeout=60) for result in results] == [15, 15, 15]
    wait_until("the batch has ended", lambda: (worker.signals("total") - before)["task_postrun"] == 1, 60)
    assert worker.signals("total") - before == Counter(task_received=3, task_prerun=1, task_success=1, task_postrun=1)


def test_each_call_has_the_result_that_the_body_stores(worker: Worker) -> None:
    results = [worker.send("numbered") for _ in range(6)]
    assert [result.get(timeout=60) for result in results] == [0, 1, 2, 0, 1, 2]


def test_a_batch_that_is_not_full_waits_for_its_interval(worker: Worker) -> None:
    results = [worker.send("timed") for _ in range(3)]
    assert sum(1 / result.get(timeout=60) for result in results) == pytest.approx(1)


def test_a_call_for_later_is_part_of_a_batch_when_it_is_due(worker: Worker) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    assert worker.send("timed", eta=due).get(timeout=60) == 1
    assert datetime.now(UTC) > due or worker.by == "celery"  # which compares the time with a monotonic clock


def test_requests_and_the_current_task_are_as_documented(worker: Worker) -> None:
    results = [worker.send("told") for _ in range(2)]
    for result in results:
        assert result.get(timeout=60) == [
            result.id, "proj.told", "celery", "one@here", False, result.id, result.id, "proj.told", None
        ]  # fmt: skip


def test_an_error_of_the_body_is_logged_and_its_messages_are_acknowledged(worker: Worker) -> None:
    results = [worker.send("fails") for _ in range(2)]
    worker.process.wait_for_line(r"Error: ValueError\('of all'\)", 60)
    wait_until("the batch has ended", lambda: worker.signals("fails")["task_postrun"] == 1, 60)
    assert worker.signals("fails") == Counter(task_received=2, task_prerun=1, task_postrun=1)
    wait_until("all are acknowledged", lambda: worker.unacked() == 0, 60)
    assert {result.state for result in results} == {"PENDING"}


@pytest.mark.parametrize("late", [False, True])
def test_messages_are_acknowledged_before_or_after_the_body(worker: Worker, late: bool) -> None:
    gate = worker.place.directory / uuid.uuid4().hex
    results = [worker.send("late" if late else "early", str(gate)) for _ in range(2)]
    wait_until("the batch has begun", lambda: worker.held_by(results[0].id) != [], 60)
    wait_until("the messages are as they should be", lambda: worker.unacked() == (2 if late else 0), 60)
    gate.touch()
    assert [result.get(timeout=60) for result in results] == [2, 2]
    wait_until("all are acknowledged", lambda: worker.unacked() == 0, 60)


def test_a_body_sends_calls_again(worker: Worker) -> None:
    results = [worker.send("again", number) for number in (1, 2)]
    assert [result.get(timeout=60) for result in results] == ["odd", "odd"]


@pytest.mark.parametrize("worker", ["turbo"], indirect=True)
def test_late_messages_of_a_killed_child_run_alone(worker: Worker) -> None:
    gate = worker.place.directory / uuid.uuid4().hex
    results = [worker.send("late", str(gate)) for _ in range(2)]
    wait_until("the batch has begun", lambda: worker.held_by(results[0].id) != [], 60)
    os.kill(worker.held_by(results[0].id)[0], signal.SIGKILL)
    gate.touch()
    assert [result.get(timeout=60) for result in results] == [1, 1]
    wait_until("all are acknowledged", lambda: worker.unacked() == 0, 60)


@pytest.mark.parametrize("worker", ["turbo"], indirect=True)
def test_the_soft_time_limit_is_that_of_the_batch(worker: Worker) -> None:
    results = [worker.send("limited") for _ in range(2)]
    assert [result.get(timeout=60) for result in results] == ["limited", "limited"]


def test_a_batch_of_one_in_the_caller(worker: Worker) -> None:
    program = f"""
        import os
        os.chdir({str(worker.place.directory)!r})
        from proj import app, total
        print(total.apply((1, 2)).get())
        app.conf.task_always_eager = True
        print(total.delay(3, a=4).get())
    """
    env = {**worker.place.client_env, "RECORD": str(worker.place.directory / "client")}
    assert celery_producer(BATCHES_WITH_TURBO, program, env=env).split() == ["3", "7"]


OWN = """
from celery_batches import Batches

class Own(Batches):
    abstract = True

    def flush(self, requests):
        record("flush")

@app.task(name="proj.own", base=Own)
def own(requests):
    pass
"""


@pytest.mark.row("HA12")
def test_a_class_that_collects_in_another_way_is_refused(place: Place, python: str) -> None:
    place.write(OWN)
    with place.worker("-c", "1", python=python) as worker:
        worker.wait_for_line("task proj.own defines Strategy", timeout=60)
        assert worker.wait() == 1
