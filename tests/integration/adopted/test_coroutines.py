"""Tasks of a Celery app that are `async def`, in a real worker: many at once, each with what Celery does around it."""

from __future__ import annotations

import billiard.exceptions
import pytest
from celery import chord

from tests.integration.adopted.place import READY, Place

TASKS = """
import asyncio
from celery import Task, current_task

app.conf.result_extended = True
met = {}

class Handled(Task):
    def before_start(self, task_id, args, kwargs):
        record("before_start", id=task_id)
    def on_success(self, retval, task_id, args, kwargs):
        record("on_success", id=task_id)
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        record("on_failure", id=task_id, exc=repr(exc))
    def on_retry(self, exc, task_id, args, kwargs, einfo):
        record("on_retry", id=task_id)
    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        record("after_return", id=task_id, status=status)

@signals.task_prerun.connect
def prerun(task_id, **_):
    record("prerun", id=task_id)

@signals.task_postrun.connect
def postrun(task_id, state, **_):
    record("postrun", id=task_id, state=state)

@app.task(name="proj.meet", bind=True)
async def meet(self, where, count):
    place = met.setdefault(where, asyncio.Event())
    place.here = getattr(place, "here", 0) + 1
    if place.here == count:
        place.set()
    await place.wait()
    part = await asyncio.to_thread(lambda: current_task.request.id)
    return [os.getpid(), self.request.id == current_task.request.id == part]

@app.task(name="proj.sync")
def sync(x):
    return asyncio.run(asyncio.sleep(0, x))

@app.task(name="proj.total")
def total(parts):
    return sum(parts)

@app.task(name="proj.handled", bind=True, base=Handled, max_retries=3)
async def handled(self, retries):
    await asyncio.sleep(0)
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    return self.request.retries

@app.task(name="proj.of_itself", bind=True, autoretry_for=(KeyError,), retry_kwargs={"countdown": 0, "max_retries": 2})
async def of_itself(self, last):
    await asyncio.sleep(0)
    if self.request.retries < last:
        raise KeyError(self.request.retries)
    return self.request.retries

@app.task(name="proj.boom", base=Handled)
async def boom():
    await asyncio.sleep(0)
    raise ValueError("boom")

@app.task(name="proj.hang", bind=True, base=Handled)
async def hang(self, caught=False):
    from celery.exceptions import SoftTimeLimitExceeded
    record("hang", id=self.request.id)
    try:
        await asyncio.Event().wait()
    except SoftTimeLimitExceeded:
        if not caught:
            raise
    return "caught"

@app.task(name="proj.double")
async def double(x):
    await asyncio.sleep(0)
    return 2 * x
"""


@pytest.mark.row("TD25")
def test_forty_run_at_once_in_one_child_beside_functions(place: Place) -> None:
    place.write(TASKS)
    send = place.client.send_task
    with place.worker("-c", "1", "--async-concurrency", "50") as worker:
        worker.wait_for_line(READY)
        waiting = [send("proj.meet", ("a", 40)) for _ in range(39)]
        assert [send("proj.sync", (n,)).get(timeout=60) for n in range(3)] == [0, 1, 2]
        waiting.append(send("proj.meet", ("a", 40)))
        found = [result.get(timeout=60) for result in waiting]
        assert len({pid for pid, _ in found}) == 1 and all(own for _, own in found)
        parts = [place.client.signature("proj.double", (n,)) for n in range(5)]
        assert chord(parts, place.client.signature("proj.total"), app=place.client).delay().get(timeout=60) == 20
        chained = place.client.signature("proj.double", (1,)) | place.client.signature("proj.double")
        assert chained.apply_async().get(timeout=60) == 4
        worker.terminate()
        assert worker.wait(60) == 0


@pytest.mark.row("TD25")
def test_handlers_signals_retries_and_results_are_those_of_celery(place: Place) -> None:
    place.write(TASKS)
    send = place.client.send_task
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        retried = send("proj.handled", (1,))
        assert retried.get(timeout=60) == 1
        place.wait_recorded("postrun", where=lambda details: details["state"] == "SUCCESS")
        first = ["prerun", "before_start", "on_retry", "postrun"]
        second = ["prerun", "before_start", "on_success", "after_return", "postrun"]
        assert [event for _, event, details in place.recorded() if details["id"] == retried.id] == first + second
        worker.wait_for_line(rf"Task proj\.handled\[{retried.id}\] succeeded in [\d.]+s: 1")
        failed = send("proj.boom")
        with pytest.raises(ValueError, match="boom"):
            failed.get(timeout=60)
        assert "turbo" not in failed.traceback and "proj.py" in failed.traceback
        assert failed.name == "proj.boom"
        place.wait_recorded("after_return", where=lambda details: details["status"] == "FAILURE")
        assert send("proj.of_itself", (2,)).get(timeout=60) == 2
        with pytest.raises(KeyError):
            send("proj.of_itself", (9,)).get(timeout=60)


@pytest.mark.row("TD25")
def test_limits_are_those_of_each(place: Place) -> None:
    place.write(TASKS)
    send = place.client.send_task
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        beside = send("proj.meet", ("b", 2))
        caught = send("proj.hang", (True,), soft_time_limit=0.2)
        uncaught = send("proj.hang", soft_time_limit=0.2)
        assert caught.get(timeout=60) == "caught"
        with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
            uncaught.get(timeout=60)
        send("proj.meet", ("b", 2))
        assert beside.get(timeout=60)[1]
        with pytest.raises(billiard.exceptions.TimeLimitExceeded):
            send("proj.hang", time_limit=0.5).get(timeout=60)
