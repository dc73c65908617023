"""Tasks that are ``async def``, in a real worker: at once in one child, each with its own request, limits and fate."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import billiard.exceptions
import celery.exceptions
import pytest

from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Turbo, chord, exceptions
from turbo.exceptions import TimeoutError as TurboTimeoutError

#: A reader that has Celery loaded gets billiard's classes, as other tests of the session may have done.
SOFT = (exceptions.SoftTimeLimitExceeded, billiard.exceptions.SoftTimeLimitExceeded)
HARD = (exceptions.TimeLimitExceeded, billiard.exceptions.TimeLimitExceeded)
BROKEN = (exceptions.ChordError, celery.exceptions.ChordError)
LOST = (exceptions.WorkerLostError, billiard.exceptions.WorkerLostError)

TASKS = '''
import asyncio
import contextlib
import os
import time

from pydantic import BaseModel

from tests.harness.oracle_record import record
from turbo import Turbo, current_task
from turbo.exceptions import SoftTimeLimitExceeded

app = Turbo("waiting")
met = {}
inside = most = 0
LATE = {"acks_late": True, "reject_on_worker_lost": True}


@app.task(name="meet")
async def meet(where, count):
    """Wait until so many of these run in this process at once."""
    place = met.setdefault(where, asyncio.Event())
    place.here = getattr(place, "here", 0) + 1
    if place.here == count:
        place.set()
    await place.wait()
    return os.getpid()


@app.task(name="crowd", bind=True)
async def crowd(self, path):
    """The most of these that have run at once so far, once there is a file."""
    global inside, most
    inside += 1
    most = max(most, inside)
    record("crowd", self.request.id)
    while not os.path.exists(path):
        await asyncio.sleep(0.005)
    inside -= 1
    return most


@app.task(name="who", bind=True)
async def who(self, value):
    before = self.request.id
    await asyncio.sleep(0.001)
    part = await asyncio.create_task(asyncio.to_thread(lambda: current_task.request.id))
    sent = echo.delay(value)
    return [before == self.request.id == current_task.request.id == part, sent.id, self.request.args]


@app.task(name="echo")
def echo(value):
    return value


@app.task(name="blocking")
def blocking(value):
    """A function among coroutines, with a loop of its own."""
    return asyncio.run(asyncio.sleep(0, value))


@app.task(name="nap")
async def nap(seconds):
    await asyncio.sleep(seconds)


@app.task(name="slow")
def slow(value):
    """A function that takes a moment."""
    time.sleep(0.1)
    return value


@app.task(name="hang", bind=True)
async def hang(self, caught=False):
    record("hang", self.request.id)
    try:
        await asyncio.Event().wait()
    except SoftTimeLimitExceeded:
        if not caught:
            raise
    return "caught"


@app.task(name="late", bind=True, **LATE)
async def late(self):
    record("start", self.request.id)
    await asyncio.sleep(0.02)
    record("end", self.request.id)


@app.task(name="early", bind=True)
async def early(self):
    record("start", self.request.id)
    await asyncio.sleep(0.02)
    record("end", self.request.id)


@app.task(name="until", bind=True, **LATE)
async def until(self, path):
    """Wait for a file; the second start needs none."""
    record("until", self.request.id)
    while not os.path.exists(path) and not self.request.delivery_info["redelivered"]:
        if (self.request.headers or {}).get("x-turbo-deliveries"):
            break
        await asyncio.sleep(0.005)
    return "done"


@app.task(name="again", bind=True, max_retries=3)
async def again(self):
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="of_itself", bind=True, autoretry_for=(KeyError,), retry_kwargs={"countdown": 0, "max_retries": 2})
async def of_itself(self, last):
    await asyncio.sleep(0)
    if self.request.retries < last:
        raise KeyError(self.request.retries)
    return self.request.retries


@app.task(name="state", bind=True)
async def state(self, path):
    self.update_state(state="HALF", meta={"n": 1})
    while not os.path.exists(path):
        await asyncio.sleep(0.005)


class Point(BaseModel):
    x: int


@app.task(name="model", pydantic=True)
async def model(point: Point) -> Point:
    await asyncio.sleep(0)
    return Point(x=point.x + 1)


@app.task(name="boom")
async def boom():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        raise ValueError("boom")
'''


class Place:
    """Workers with these tasks, and the client."""

    def __init__(self, directory: Path, vhost: str, redis_db: str) -> None:
        self.directory = directory
        self.oracle = Oracle(directory / "oracle")
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._options = ("-A", "tasks", "-b", vhost, "--result-backend", redis_db, "-l", "info")
        (directory / "tasks.py").write_text(TASKS)

    def worker(self, *options: str) -> WorkerProcess:
        """One that is not started."""
        return WorkerProcess(*self._options, *options, directory=self.directory, env=self.oracle.env)

    def send(self, name: str, *args: Any, queue: str, **options: Any) -> Any:
        return self.client.send_task(name, args, queue=queue, **options)


@pytest.fixture(scope="module")
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    place = Place(tmp_path_factory.mktemp("coroutines"), rabbitmq.new_vhost(), redis_server.new_database())
    yield place
    place.client.close()


@pytest.fixture(scope="module")
def one(place: Place) -> Iterator[str]:
    """The queue of a worker with one child, and at most fifty coroutines."""
    options = ("-Q", "one", "-c", "1", "--async-concurrency", "50", "-n", "one@here")
    with place.worker(*options) as worker:
        worker.wait_for_line(r"ready\.$")
        yield "one"


@pytest.mark.row("TD25")
def test_fifty_run_at_once_in_one_child(place: Place, one: str) -> None:
    where = uuid.uuid4().hex
    results = [place.send("meet", where, 50, queue=one) for _ in range(50)]
    assert len({result.get(timeout=60) for result in results}) == 1


def test_no_more_than_asked_for(place: Place, one: str) -> None:
    # Several times: all fifty end in one turn of the loop, which is when room is made and claimed.
    for number in range(5):
        go = place.directory / f"crowd{number}"
        results = [place.send("crowd", str(go), queue=one) for _ in range(120)]
        place.oracle.wait_count("crowd", 120 * number + 50, 60)
        go.touch()
        assert max(result.get(timeout=60) for result in results) == 50


def test_each_has_its_own_request_also_in_what_it_starts(place: Place, one: str) -> None:
    results = [place.send("who", number, queue=one) for number in range(60)]
    for number, result in enumerate(results):
        same, sent, args = result.get(timeout=60)
        assert same and args == [number]
        assert sent


def test_functions_run_among_them_with_loops_of_their_own(place: Place, one: str) -> None:
    where = uuid.uuid4().hex
    waiting = [place.send("meet", where, 2, queue=one)]
    assert [place.send("blocking", n, queue=one).get(timeout=60) for n in range(5)] == list(range(5))
    waiting.append(place.send("meet", where, 2, queue=one))
    assert waiting[0].get(timeout=60) == waiting[1].get(timeout=60)


def test_the_end_of_a_function_does_not_wait_for_a_coroutine(place: Place) -> None:
    """Its record waited in a child that was full, and nothing comes after it."""
    options = ("-Q", "pair", "-c", "1", "--async-concurrency", "2", "-n", "pair@here")
    with place.worker(*options) as worker:
        worker.wait_for_line(r"ready\.$")
        for number in range(5):
            go = place.directory / f"pair{number}"
            place.send("nap", 0.2, queue="pair")
            waiting = place.send("until", str(go), queue="pair")
            assert place.send("slow", number, queue="pair").get(timeout=60) == number
            go.touch()
            assert waiting.get(timeout=60) == "done"


def test_soft_limits_are_raised_in_the_coroutine_they_are_of(place: Place, one: str) -> None:
    where = uuid.uuid4().hex
    beside = place.send("meet", where, 2, queue=one)
    caught = place.send("hang", True, queue=one, soft_time_limit=0.2)
    uncaught = place.send("hang", queue=one, soft_time_limit=0.2)
    assert caught.get(timeout=60) == "caught"
    with pytest.raises(SOFT):
        uncaught.get(timeout=60)
    place.send("meet", where, 2, queue=one)
    assert beside.get(timeout=60)


def test_retries_states_models_and_errors(place: Place, one: str) -> None:
    assert place.send("again", queue=one).get(timeout=60) == 2
    assert place.send("of_itself", 2, queue=one).get(timeout=60) == 2
    with pytest.raises(KeyError):
        place.send("of_itself", 9, queue=one).get(timeout=60)
    assert place.send("model", {"x": "1"}, queue=one).get(timeout=60) == {"x": 2}
    group = place.send("boom", queue=one)
    with pytest.raises(Exception, match="unhandled errors in a TaskGroup"):
        group.get(timeout=60)
    assert "ValueError: boom" in group.traceback
    go = place.directory / "go"
    half = place.send("state", str(go), queue=one)
    wait_until("its own state is stored", lambda: half.state == "HALF", 60)
    go.touch()
    half.get(timeout=60)


@pytest.mark.row("CV5", "CV10")
def test_chords_of_coroutines(place: Place, one: str) -> None:
    where = uuid.uuid4().hex
    part = functools.partial(place.client.signature, queue=one)
    body = part("echo")
    parts = [part("meet", (where, 20)) for _ in range(20)]
    assert len(set(chord(parts, body, app=place.client).delay().get(timeout=60))) == 1
    broken = chord([part("echo", (1,)), part("boom")], body.clone(), app=place.client).delay()
    with pytest.raises(BROKEN, match=r"Dependency .* raised .*boom"):
        broken.get(timeout=60, follow_parents=False)  # else the failed part may be met first


def test_a_hard_limit_ends_the_child_and_only_its_task_by_it(place: Place) -> None:
    with place.worker("-Q", "hard", "-c", "1", "-n", "hard@here") as worker:
        worker.wait_for_line(r"ready\.$")
        beside = place.send("hang", queue="hard")
        back = place.send("until", "/nonexistent", queue="hard")
        wait_until("both run", lambda: {beside.id, back.id} <= {t.id for t in place.oracle.traces()}, 60)
        limited = place.send("hang", queue="hard", time_limit=0.3)
        with pytest.raises(HARD):
            limited.get(timeout=60)
        with pytest.raises(LOST, match="hard time limit of another task"):
            beside.get(timeout=60)
        # Acknowledged late, and sent back when its child is lost.
        assert back.get(timeout=60) == "done"


def test_a_warm_shutdown_lets_them_end(place: Place) -> None:
    go = place.directory / "shutdown"
    with place.worker("-Q", "warm", "-c", "1", "-n", "warm@here") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("until", str(go), queue="warm") for _ in range(10)]
        wait_until("all run", lambda: {r.id for r in results} <= set(place.oracle.ids("until")), 60)
        worker.terminate()
        worker.wait_for_line("TERM: warm shutdown")
        go.touch()
        assert worker.wait(60) == 0
    assert {result.get(timeout=60) for result in results} == {"done"}


def test_children_killed_among_many_lose_nothing(place: Place) -> None:
    chance = random.Random(20261121)
    with place.worker("-Q", "kills", "-c", "2", "-n", "kills@here", "-l", "error") as worker:
        wait_until("two children", lambda: len(worker.pool_pids()) == 2, 60)
        names = [f"{kind}-{number}" for number in range(400) for kind in ("early", "late")]
        for name in names:
            place.send(name.split("-")[0], queue="kills", task_id=name)
        killed = 0
        while killed < 8:
            # The next kill falls among tasks that have begun since the last.
            place.oracle.wait_count("end", killed * 60 + chance.randrange(1, 40), 60)
            os.kill(chance.choice(worker.pool_pids()), signal.SIGKILL)
            killed += 1
            wait_until("two children", lambda: len(worker.pool_pids()) == 2, 60)
        ended = {name: place.client.AsyncResult(name) for name in names}
        for name in names:
            try:
                ended[name].get(timeout=60)
            except LOST:
                assert name.startswith("early"), f"{name} is acknowledged late and comes back"
    starts = [name for name in place.oracle.ids("start") if name.startswith("early")]
    assert len(starts) == len(set(starts)), "one that was acknowledged at its start began twice"
    assert {name for name in names if name.startswith("late")} <= set(place.oracle.ids("end"))


@pytest.mark.row("CA35")
@pytest.mark.parametrize("backend", ["redis", "rpc"])
def test_a_program_on_asyncio_calls_and_waits(place: Place, one: str, redis_server: RedisServer, backend: str) -> None:
    """Many results are waited for at once, by no more than one thread beside the loop's own."""
    where = uuid.uuid4().hex

    async def program(app: Turbo) -> None:
        meet = app.task(name="meet")(lambda where, count: None)
        results = [await meet.aapply_async((where, 40), queue=one) for _ in range(39)]
        waits = [asyncio.ensure_future(result.aget(timeout=60)) for result in results]
        failing = await app.asend_task("boom", queue=one)
        with pytest.raises(Exception, match="TaskGroup"):
            await failing.aget(timeout=60)
        # The loop's own pool, whose size does not follow the waits, and one for all of them.
        assert threading.active_count() < len(waits) // 2
        late = await app.asend_task("hang", queue=one, soft_time_limit=2)
        with pytest.raises(TurboTimeoutError):
            await late.aget(timeout=0.05)
        assert not any(wait.done() for wait in waits)
        results.append(await app.asend_task("meet", (where, 40), queue=one))
        waits.append(asyncio.ensure_future(results[-1].aget(timeout=60)))
        assert len(set(await asyncio.gather(*waits))) == 1
        assert await results[0].aget() == await results[1].aget()

    url = place.client.conf.result_backend if backend == "redis" else "rpc://"
    with Turbo("asyncio", broker=place.client.conf.broker_url, backend=url, set_as_current=False) as app:
        if backend == "rpc":
            with place.worker("-Q", "replies", "-c", "1", "-n", "replies@here", "--result-backend", "rpc://") as worker:
                worker.wait_for_line(r"ready\.$")
                one = "replies"
                asyncio.run(program(app))
        else:
            asyncio.run(program(app))
