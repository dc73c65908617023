"""One Celery app for all workers of a fleet: ``celery worker`` in two versions and ``turbo worker``.

FLEET_BROKER, FLEET_BACKEND: where. FLEET_QUEUE_TYPE: ``classic`` or ``quorum``. Each task run leaves a line in the
Redis lists ``ran:ID`` of itself and of its root: which worker, which task, which attempt.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import redis
from celery import Celery, chain
from celery.signals import task_prerun
from kombu import Queue

QUORUM = os.environ["FLEET_QUEUE_TYPE"] == "quorum"
store = redis.Redis.from_url(os.environ["FLEET_BACKEND"])
#: Seconds that a task waits for another one to do its part, before it says that it did not.
PATIENCE = 40
#: Seconds before each further attempt. Celery 5.7 cannot send to a quorum queue what waits less than one; and it sends
#: the next attempt before it stores RETRY, so that an attempt that is quick may be overwritten by the one before it.
PAUSE = 1 if QUORUM else 0.4

app = Celery("fleet", broker=os.environ["FLEET_BROKER"], backend=os.environ["FLEET_BACKEND"])
arguments = {"x-queue-type": "quorum"} if QUORUM else {}
app.conf.update(
    task_queues=[Queue(name, routing_key=name, queue_arguments=arguments) for name in ("shared", "left", "right")],
    task_default_queue="shared",
    task_default_exchange="fleet",
    task_default_exchange_type="topic" if QUORUM else "direct",
    task_default_routing_key="shared",
    task_default_queue_type="quorum" if QUORUM else "classic",
    accept_content=["json", "pickle"],
    result_extended=True,
    worker_prefetch_multiplier=2,
    broker_connection_retry_on_startup=True,
    timezone="UTC",
)


@task_prerun.connect
def note(task: Any, **_: Any) -> None:
    request = task.request
    run, line = uuid.uuid4(), f"{request.hostname.partition('@')[0]} {task.name} {request.retries}"
    for key in {request.id, request.root_id}:
        store.rpush(f"ran:{key}", f"{run}|{line}")


def wait_for(what: str, reached: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="total")
def total(values: list[int]) -> int:
    return sum(values)


@app.task(name="echo")
def echo(value: Any) -> Any:
    return value


@app.task(name="size")
def size(value: Any) -> int:
    return len(value)


@app.task(name="boom")
def boom(text: str) -> None:
    raise ValueError(text)


@app.task(name="keep")
def keep(value: Any, key: str) -> None:
    """A callback; the argument that it got is read from the store."""
    store.set(key, str(value))


@app.task(name="complain")
def complain(request: Any, error: BaseException, _traceback: Any, key: str) -> None:
    """An error callback of the new style, called where the task failed."""
    store.set(key, f"{request.task}: {error!r}")


@app.task(name="complain later", bind=True)
def complain_later(_self: Any, _task_id: str, key: str) -> None:
    """An error callback of the old style, sent as a message."""
    store.set(key, "later")


@app.task(name="meet", bind=True)
def meet(self: Any, party: str, workers: int) -> bool:
    """End when this many different workers run this task at the same time."""
    store.sadd(f"met:{party}", self.request.hostname)
    wait_for("the other workers", lambda: store.scard(f"met:{party}") >= workers)
    return True


@app.task(name="hop", bind=True, max_retries=6)
def hop(self: Any, queues: list[str]) -> int:
    """Retry on each of the queues in turn."""
    attempt: int = self.request.retries
    if attempt < len(queues):
        raise self.retry(queue=queues[attempt], countdown=PAUSE)
    return attempt


@app.task(name="flaky", bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=PAUSE)
def flaky(self: Any, until: int) -> int:
    attempt: int = self.request.retries
    if attempt < until:
        raise KeyError(attempt)
    return attempt


@app.task(name="due", bind=True)
def due(self: Any, not_before: float) -> bool:
    """Return whether the task runs after its ETA, by the wall clock from which the ETA was computed."""
    return time.time() >= not_before


@app.task(name="instead", bind=True)
def instead(self: Any, x: int, left: str, right: str) -> None:
    raise self.replace(chain(add.s(x, 1).set(queue=left), add.s(1).set(queue=right)))


@app.task(name="progress", bind=True)
def progress(self: Any) -> str:
    self.update_state(state="HALF", meta={"done": 1})
    wait_for("somebody who saw it", lambda: store.exists(f"seen:{self.request.id}"))
    return "whole"


@app.task(name="survivor", bind=True, acks_late=True)
def survivor(self: Any, lives: int) -> list[bool]:
    """End in the last run; kills of the worker end the earlier ones."""
    key = f"lives:{self.request.id}"
    store.rpush(key, int(bool(self.request.delivery_info["redelivered"])))
    if store.llen(key) < lives:
        wait_for("the kill", lambda: False)
    return [bool(int(each)) for each in store.lrange(key, 0, -1)]
