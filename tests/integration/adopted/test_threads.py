"""Tasks of a Celery app in threads (`-P threads`), in a real worker: many at once, each with what Celery does."""

from __future__ import annotations

import os
import signal
from typing import Any

import billiard.exceptions
import pytest

from tests.harness.processes import wait_until
from tests.integration.adopted.place import READY, Place

TASKS = """
import sys
import threading
import time
from celery import Task, current_task

app.conf.result_extended = True
LATE = {"acks_late": True, "reject_on_worker_lost": True}
lock = threading.Lock()
met, began = {}, {}

class Handled(Task):
    def on_success(self, retval, task_id, args, kwargs):
        record("on_success", id=task_id, own=began[task_id] == threading.get_ident())
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        record("on_failure", id=task_id, exc=repr(exc))

@signals.worker_process_init.connect
def begin(**_):
    record("init", pid=os.getpid())

@signals.task_prerun.connect
def prerun(task_id, **_):
    began[task_id] = threading.get_ident()

def until(condition):
    while not condition():
        time.sleep(0.005)

@app.task(name="proj.meet", bind=True, base=Handled)
def meet(self, where, count):
    before = [self.request.id, current_task.request.id, self.request.args[0]]
    with lock:
        barrier = met.setdefault(where, threading.Barrier(count))
    barrier.wait(60)
    after = [self.request.id, current_task.request.id, self.request.args[0]]
    return [os.getpid(), before == after, before]

@app.task(name="proj.add")
def add(x, y):
    return x + y

@app.task(name="proj.again", bind=True, max_retries=3)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    add.delay(1, 1)
    return self.request.retries

@app.task(name="proj.left")
def left():
    sys.exit(3)

@app.task(name="proj.spin", bind=True)
def spin(self, caught=False):
    from celery.exceptions import SoftTimeLimitExceeded
    try:
        record("spin", id=self.request.id)
        until(lambda: False)
    except SoftTimeLimitExceeded:
        if not caught:
            raise
        return "caught"

@app.task(name="proj.stuck", bind=True, base=Handled)
def stuck(self):
    record("stuck", id=self.request.id)
    threading.Event().wait()

@app.task(name="proj.file", bind=True, **LATE)
def file(self, path):
    record("file", id=self.request.id)
    until(lambda: os.path.exists(path) or self.request.delivery_info["redelivered"]
          or "x-turbo-deliveries" in (self.request.headers or {}))
    return os.getpid()
"""


def records(place: Place, what: str) -> list[dict[str, Any]]:
    """What the app has recorded under this name."""
    return [details for _, name, details in place.recorded() if name == what]


@pytest.mark.row("PL24", "EX7")
def test_eight_run_at_once_in_one_process_each_with_its_own_request(place: Place) -> None:
    place.write(TASKS)
    with place.worker("-P", "threads", "-c", "8", "-l", "info") as worker:
        worker.wait_for_line(READY)
        results = [place.client.send_task("proj.meet", ("here", 8)) for _ in range(8)]
        ends = [result.get(timeout=60) for result in results]
        assert len({pid for pid, _, _ in ends}) == 1
        assert [(same, before) for _, same, before in ends] == [
            (True, [result.id, result.id, "here"]) for result in results
        ]
        again = [place.client.send_task("proj.again") for _ in range(8)]
        assert [result.get(timeout=60) for result in again] == [2] * 8
        added = [place.client.send_task("proj.add", (number, 1)) for number in range(200)]
        assert [result.get(timeout=60) for result in added] == list(range(1, 201))
        # As Celery's request reports it; the child goes on.
        with pytest.raises(billiard.exceptions.WorkerLostError, match="exitcode 3"):
            place.client.send_task("proj.left").get(timeout=60)
        beside = place.client.send_task("proj.meet", ("soft", 2))
        caught = place.client.send_task("proj.spin", (True,), soft_time_limit=1.0)
        uncaught = place.client.send_task("proj.spin", soft_time_limit=1.0)
        assert caught.get(timeout=60) == "caught"
        with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
            uncaught.get(timeout=60)
        place.client.send_task("proj.meet", ("soft", 2))
        assert beside.get(timeout=60)
        wait_until("handlers", lambda: len(records(place, "on_success")) == 10, 60)
        assert all(one["own"] for one in records(place, "on_success"))
        assert len(records(place, "init")) == 1
        worker.terminate()
        assert worker.wait(60) == 0


@pytest.mark.row("PL7", "PL17")
def test_a_stuck_thread_a_termination_and_a_killed_child(place: Place) -> None:
    place.write(TASKS)
    go = place.directory / "go"

    def runs(what: str, *ids: str) -> None:
        wait_until("they run", lambda: set(ids) <= {one["id"] for one in records(place, what)}, 60)

    with place.worker("-P", "threads", "-c", "4") as worker:
        worker.wait_for_line(READY)
        beside = place.client.send_task("proj.file", (str(go),))
        runs("file", beside.id)
        limited = place.client.send_task("proj.stuck", time_limit=0.3)
        with pytest.raises(billiard.exceptions.TimeLimitExceeded):
            limited.get(timeout=60)
        wait_until("its handler", lambda: [one["id"] for one in records(place, "on_failure")] == [limited.id], 60)
        pid, _, _ = place.client.send_task("proj.meet", ("new", 1)).get(timeout=60)
        ended = place.client.send_task("proj.stuck")
        runs("stuck", ended.id)
        place.client.control.revoke(ended.id, terminate=True)
        wait_until("it is revoked", lambda: ended.state == "REVOKED", 60)
        go.touch()
        assert beside.get(timeout=60) != pid
        go.unlink()
        late = [place.client.send_task("proj.file", (str(go),)) for _ in range(2)]
        lost = place.client.send_task("proj.spin")
        runs("file", *(result.id for result in late))
        runs("spin", lost.id)
        (last,) = {place.client.send_task("proj.meet", ("last", 1)).get(timeout=60)[0]}
        os.kill(last, signal.SIGKILL)
        with pytest.raises(billiard.exceptions.WorkerLostError):
            lost.get(timeout=60)
        assert last not in {result.get(timeout=60) for result in late}
