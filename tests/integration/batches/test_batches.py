"""Tasks that run in batches, in a real worker: collected by count and time, each message ended by its own outcome."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import billiard.exceptions
import pytest
from celery import Celery

from tests.harness.monitor import Monitor
from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Turbo, chain, chord, exceptions

LOST = (exceptions.WorkerLostError, billiard.exceptions.WorkerLostError)
HARD = (exceptions.TimeLimitExceeded, billiard.exceptions.TimeLimitExceeded)
SOFT = (exceptions.SoftTimeLimitExceeded, billiard.exceptions.SoftTimeLimitExceeded)

TASKS = '''
import asyncio
import os
import time

from tests.harness.oracle_record import record
from turbo import Batch, Turbo
from turbo.exceptions import Ignore, Reject, Retry

app = Turbo("batched")
LONG = 3600.0


@app.task(name="four", batch=Batch(size=4, interval=LONG))
def four(requests):
    """Each gets its own doubled number and how many they were."""
    return [[2 * request.args[0], len(requests)] for request in requests]


@app.task(name="timed", batch=(1000, 3.0))
def timed(requests):
    return [len(requests)] * len(requests)


@app.task(name="hundred", batch=Batch(100, LONG))
def hundred(requests):
    return [len(requests)] * len(requests)


@app.task(name="nothing", batch=Batch(3, LONG))
def nothing(requests):
    """Returns no outcomes: all have succeeded."""


@app.task(name="mixed", batch=Batch(5, LONG), default_retry_delay=0)
def mixed(requests):
    outcomes = []
    for request in requests:
        what = request.kwargs["what"]
        if what == "retry":
            outcomes.append("again" if request.retries else Retry(exc=KeyError(what), when=0))
        else:
            outcomes.append({"value": 7, "fail": ValueError("mine"), "ignore": Ignore(), "reject": Reject()}[what])
    return outcomes


@app.task(name="mixed_once", batch=Batch(1, LONG), bind=True, max_retries=1)
def mixed_once(self, requests):
    raise self.retry(exc=KeyError("all"), countdown=0)


@app.task(name="raises", batch=Batch(3, LONG))
def raises(requests):
    raise ValueError("of all")


@app.task(name="short", batch=Batch(3, LONG))
def short(requests):
    return [1]


@app.task(name="auto", batch=Batch(2, 0.2), autoretry_for=(KeyError,), retry_kwargs={"countdown": 0})
def auto(requests):
    return [request.retries if request.retries else KeyError("once") for request in requests]


@app.task(name="waits", batch=Batch(3, LONG), bind=True)
async def waits(self, requests):
    await asyncio.sleep(0)
    record("waits", self.request.id)
    return [[request.id, len(requests)] for request in requests]


@app.task(name="add")
def add(*numbers):
    return sum(number if isinstance(number, int) else number[0] for number in numbers)


@app.task(name="total")
def total(parts):
    return sum(part[0] for part in parts)


@app.task(name="sends", batch=Batch(2, LONG))
def sends(requests):
    return [add.delay(request.args[0], 1).id for request in requests]


@app.task(name="soft", batch=Batch(2, LONG), soft_time_limit=0.3)
def soft(requests):
    time.sleep(30)


@app.task(name="hard", batch=Batch(2, LONG))
def hard(requests):
    time.sleep(30)


@app.task(name="hard_async", batch=Batch(2, LONG), time_limit=0.5)
async def hard_async(requests):
    await asyncio.sleep(30)


def held(requests):
    for request in requests:
        record("start", request.id)
    path = requests[0].args[0]
    while not os.path.exists(path):
        time.sleep(0.01)
    for request in requests:
        record("end", request.id)
    return [len(requests)] * len(requests)


app.task(name="held", batch=Batch(3, LONG))(held)
app.task(name="held_late", batch=Batch(3, LONG), acks_late=True, reject_on_worker_lost=True)(held)
'''


class Place:
    """Workers with these tasks, and the client."""

    def __init__(self, directory: Path, rabbitmq: RabbitMQ, vhost: str, redis_db: str) -> None:
        self.directory = directory
        self.rabbitmq = rabbitmq
        self.vhost = vhost
        self.oracle = Oracle(directory / "oracle")
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._options = ("-A", "tasks", "-b", vhost, "--result-backend", redis_db, "-l", "info")
        (directory / "tasks.py").write_text(TASKS)

    def worker(self, *options: str) -> WorkerProcess:
        """One that is not started."""
        return WorkerProcess(*self._options, *options, directory=self.directory, env=self.oracle.env)

    def send(self, name: str, *args: Any, queue: str = "one", **options: Any) -> Any:
        return self.client.send_task(name, args, queue=queue, **options)

    def waiting(self, queue: str) -> int:
        """How many messages the worker has not acknowledged."""
        return self.rabbitmq.queue(queue, self.vhost).unacked


@pytest.fixture(scope="module")
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    vhost = rabbitmq.new_vhost()
    place = Place(tmp_path_factory.mktemp("batches"), rabbitmq, vhost, redis_server.new_database())
    yield place
    place.client.close()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[WorkerProcess]:
    """A worker of the queue "one" with two children and the smallest window."""
    with place.worker("-Q", "one", "-c", "2", "-n", "one@here", "--prefetch-multiplier", "1") as worker:
        worker.wait_for_line(r"ready\.$")
        yield worker


@pytest.mark.row("TD26")
def test_a_full_batch_runs_at_once_and_each_message_has_its_outcome(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("four", number) for number in range(8)]
    assert [result.get(timeout=60) for result in results] == [[2 * number, 4] for number in range(8)]


@pytest.mark.row("TD26")
def test_a_batch_that_is_not_full_runs_when_its_interval_is_over(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("timed") for _ in range(3)]
    assert [result.get(timeout=60) for result in results] == [3, 3, 3]


def test_a_batch_may_be_larger_than_the_window(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("hundred") for _ in range(100)]
    assert {result.get(timeout=60) for result in results} == {100}
    wait_until("all are acknowledged", lambda: place.waiting("one") == 0, 60)


def test_without_outcomes_all_have_succeeded(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("nothing") for _ in range(3)]
    assert [result.get(timeout=60) for result in results] == [None, None, None]
    assert {result.state for result in results} == {"SUCCESS"}


@pytest.mark.row("TD26")
def test_outcomes_are_values_errors_retries_and_rejections(place: Place, worker: WorkerProcess) -> None:
    kinds = ("value", "retry", "fail", "ignore", "reject")
    results = {what: place.send("mixed", kwargs={"what": what}) for what in kinds}
    assert results["value"].get(timeout=60) == 7
    with pytest.raises(ValueError, match="mine"):
        results["fail"].get(timeout=60)
    wait_until("the retry is stored", lambda: results["retry"].state == "RETRY", 60)
    # The next attempt is collected again.
    more = [place.send("mixed", kwargs={"what": "value"}) for _ in range(4)]
    assert results["retry"].get(timeout=60) == "again"
    assert [result.get(timeout=60) for result in more] == [7] * 4
    assert results["ignore"].state == "PENDING"


def test_retries_of_all_end_with_the_error(place: Place, worker: WorkerProcess) -> None:
    result = place.send("mixed_once")
    with pytest.raises(KeyError):
        result.get(timeout=60)


def test_an_error_of_the_body_is_the_outcome_of_all(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("raises") for _ in range(3)]
    for result in results:
        with pytest.raises(ValueError, match="of all"):
            result.get(timeout=60)
        assert result.traceback.count("in raises") == 1


def test_too_few_outcomes_are_an_error(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("short") for _ in range(3)]
    for result in results:
        with pytest.raises(ValueError, match="1 outcomes for 3 requests"):
            result.get(timeout=60)


def test_autoretry_repeats_single_messages(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("auto") for _ in range(2)]
    assert [result.get(timeout=60) for result in results] == [1, 1]


def test_a_coroutine_takes_batches_too(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("waits") for _ in range(3)]
    assert [result.get(timeout=60) for result in results] == [[result.id, 3] for result in results]
    assert not {result.id for result in results} & set(place.oracle.ids("waits"))


def test_messages_of_a_batch_are_parts_of_a_canvas(place: Place, worker: WorkerProcess) -> None:
    four = place.client.signature("four", queue="one")
    linked = [chain(four.clone((number,)), place.client.signature("add", (1,), queue="one"))() for number in (1, 2)]
    whole = chord([four.clone((number,)) for number in (3, 4)])(place.client.signature("total", queue="one"))
    assert [result.get(timeout=60) for result in linked] == [3, 5]
    assert whole.get(timeout=60) == 14


def test_what_a_batch_sends_is_sent(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("sends", number) for number in (1, 2)]
    sent = [place.client.AsyncResult(result.get(timeout=60)) for result in results]
    # The body's task goes to the default queue, which this worker does not read.
    with place.worker("-Q", "celery", "-c", "1", "-n", "other@here") as other:
        other.wait_for_line(r"ready\.$")
        assert [result.get(timeout=60) for result in sent] == [2, 3]


def test_time_limits_are_those_of_the_batch(place: Place, worker: WorkerProcess) -> None:
    soft = [place.send("soft") for _ in range(2)]
    # The tightest limit of its messages applies.
    hard = [place.send("hard"), place.send("hard", time_limit=0.5)]
    for results, limit in ((soft, SOFT), (hard, HARD)):
        for result in results:
            with pytest.raises(limit):
                result.get(timeout=60)
    for result in [place.send("hard_async") for _ in range(2)]:
        with pytest.raises(HARD):
            result.get(timeout=60)


def test_a_collected_message_can_be_revoked(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("four", number) for number in range(3)]
    wait_until("they are collected", lambda: place.waiting("one") == 3, 60)
    place.client.control.revoke(results[1].id)
    wait_until("one is revoked", lambda: results[1].state == "REVOKED", 60)
    results += [place.send("four", number) for number in (3, 4)]
    assert [result.get(timeout=60) for number, result in enumerate(results) if number != 1] == [
        [2 * number, 4] for number in (0, 2, 3, 4)
    ]


def test_an_expired_message_is_no_part_of_the_batch(place: Place, worker: WorkerProcess) -> None:
    lives = 6.0
    first = place.send("four", 0, expires=lives)
    until = time.monotonic() + lives
    wait_until("it is collected", lambda: place.waiting("one") == 1, 60)
    again = place.send("timed")
    assert again.get(timeout=60) == 1
    wait_until("it has expired", lambda: time.monotonic() > until, 60)
    others = [place.send("four", number) for number in (1, 2, 3)]
    assert [result.get(timeout=60) for result in others] == [[2, 3], [4, 3], [6, 3]]
    wait_until("it is revoked", lambda: first.state == "REVOKED", 60)


def test_a_killed_child_loses_early_messages_and_returns_late_ones(place: Place, worker: WorkerProcess) -> None:
    go = place.directory / f"go-{uuid.uuid4().hex}"
    early = [place.send("held", str(go)) for _ in range(3)]
    place.oracle.wait_ids("start", [result.id for result in early])
    wait_until("they are acknowledged", lambda: place.waiting("one") == 0, 60)
    os.kill(_child_of(place, early[0].id), signal.SIGKILL)
    for result in early:
        with pytest.raises(LOST):
            result.get(timeout=60)
    late = [place.send("held_late", str(go)) for _ in range(3)]
    place.oracle.wait_ids("start", [result.id for result in late])
    assert place.waiting("one") == 3
    os.kill(_child_of(place, late[0].id), signal.SIGKILL)
    go.touch()
    # Each runs alone now, so that one which kills its child again takes no other with it.
    assert [result.get(timeout=60) for result in late] == [1, 1, 1]
    wait_until("all are acknowledged", lambda: place.waiting("one") == 0, 60)


def test_terminating_one_message_ends_its_batch(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("held", str(place.directory / "never")) for _ in range(3)]
    place.oracle.wait_ids("start", [result.id for result in results])
    place.client.control.revoke(results[0].id, terminate=True)
    wait_until("it is revoked", lambda: results[0].state == "REVOKED", 60)
    for result in results[1:]:
        with pytest.raises(LOST):
            result.get(timeout=60)


def test_a_warm_stop_loses_nothing(place: Place) -> None:
    options = ("-Q", "stop", "-c", "1", "-n", "stop@here")
    go = place.directory / "go-on"
    with place.worker(*options) as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("held", str(go), queue="stop") for _ in range(5)]
        # Three run and two are collected.
        place.oracle.wait_ids("start", [result.id for result in results[:3]])
        wait_until("two are collected", lambda: place.waiting("stop") == 2, 60)
        worker.terminate()
        worker.wait_for_line("Waiting for")
        go.touch()
        assert worker.wait(60) == 0
    assert [result.get(timeout=60) for result in results[:3]] == [3, 3, 3]
    place.rabbitmq.wait_queue("stop", place.vhost, ready=2, unacked=0)
    with place.worker(*options) as worker:
        worker.wait_for_line(r"ready\.$")
        results.append(place.send("held", str(go), queue="stop"))
        assert [result.get(timeout=60) for result in results[3:]] == [3, 3, 3]


def test_a_warm_stop_runs_what_a_free_child_can_take(place: Place) -> None:
    with place.worker("-Q", "free", "-c", "1", "-n", "free@here") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("four", number, queue="free") for number in (1, 2)]
        wait_until("they are collected", lambda: place.waiting("free") == 2, 60)
        worker.terminate()
        assert worker.wait(60) == 0
    done = [result for result in results if result.state == "SUCCESS"]
    # The broker puts them back some time after the worker has gone.
    place.rabbitmq.wait_queue("free", place.vhost, ready=2 - len(done), unacked=0)
    assert all(result.get(timeout=60)[1] == 2 for result in done)


def test_each_message_is_reported_to_monitors(place: Place, worker: WorkerProcess) -> None:
    client = Celery("monitor", broker=place.vhost, set_as_current=False)
    # With a reply: a task that is sent after it could be received before it.
    assert client.control.broadcast("enable_events", destination=["one@here"], reply=True, timeout=60)
    with Monitor(client) as monitor:
        sent = [place.send("four", number) for number in range(3)]
        for result in sent:
            monitor.wait_types(result.id, "task-received")
        reserved = place.client.control.inspect(["one@here"], timeout=60).reserved()
        assert {row["id"] for row in reserved["one@here"]} == {result.id for result in sent}
        sent.append(place.send("four", 3))
        for result in sent:
            heard = monitor.wait_types(result.id, "task-received", "task-started", "task-succeeded")
            assert heard[-1]["result"] == str(result.get(timeout=60))
    client.control.disable_events()
    client.close()


def test_a_lost_connection_neither_loses_nor_repeats_a_message(place: Place) -> None:
    go = place.directory / f"go-{uuid.uuid4().hex}"
    with place.worker("-Q", "cut", "-c", "1", "-n", "cut@here") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("held_late", str(go), queue="cut") for _ in range(5)]
        place.oracle.wait_ids("start", [result.id for result in results[:3]])
        inspect = place.client.control.inspect("cut@here", timeout=60)
        wait_until("two are collected", lambda: len(inspect.reserved()) == 2 and len(inspect.active()) == 3, 60)
        before = worker.mark()
        place.rabbitmq.close_all_connections(vhost_of(place.vhost))
        worker.wait_for_line("Session 1 lost with 5 unsettled messages; 3 of them are still running here", since=before)
        wait_until("all are here again", lambda: place.waiting("cut") == 5, 60)
        go.touch()
        # The last two may have been in the hands of a lost worker, as far as this one knows, so they run alone.
        assert [result.get(timeout=60) for result in results] == [3, 3, 3, 1, 1]
        place.rabbitmq.wait_queue("cut", place.vhost, ready=0, unacked=0)
    assert {place.oracle.ids("start").count(result.id) for result in results} == {1}


def test_a_killed_worker_loses_no_late_message(place: Place) -> None:
    go = place.directory / f"go-{uuid.uuid4().hex}"
    with place.worker("-Q", "kill", "-c", "1", "-n", "kill@here") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("held_late", str(go), queue="kill") for _ in range(5)]
        place.oracle.wait_ids("start", [result.id for result in results[:3]])
        wait_until("two are collected", lambda: place.waiting("kill") == 5, 60)
        worker.kill()
    go.touch()
    with place.worker("-Q", "kill", "-c", "1", "-n", "kill@here") as worker:
        worker.wait_for_line(r"ready\.$")
        assert [result.get(timeout=60) for result in results] == [1] * 5
        place.rabbitmq.wait_queue("kill", place.vhost, ready=0, unacked=0)


def _child_of(place: Place, identifier: str) -> int:
    return next(trace.pid for trace in reversed(place.oracle.traces("start")) if trace.id == identifier)
