"""Workers of one app that runs its tasks in threads, and the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import billiard.exceptions
import pytest

from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Turbo, exceptions

#: A reader that has Celery loaded gets billiard's class, as other tests of the session may have done.
LOST = (exceptions.WorkerLostError, billiard.exceptions.WorkerLostError)

TASKS = '''
import os
import sys
import threading
import time

from tests.harness.oracle_record import record
from turbo import Turbo, current_task, signals
from turbo.exceptions import SoftTimeLimitExceeded
from turbo.utils.log import get_task_logger
from version import VERSION

app = Turbo("threads")
logger = get_task_logger(__name__)
LATE = {"acks_late": True, "reject_on_worker_lost": True}
lock = threading.Lock()
met = {}
began = {}


@signals.worker_process_init.connect
def begin(**_):
    record("init", str(os.getpid()))


@signals.task_prerun.connect
def prerun(task_id, **_):
    began[task_id] = threading.get_ident()


def until(condition):
    while not condition():
        time.sleep(0.005)


@app.task(name="meet")
def meet(where, count):
    """Wait until so many of these run in this process at once."""
    with lock:
        barrier = met.setdefault(where, threading.Barrier(count))
    barrier.wait(60)
    return os.getpid()


@app.task(name="crowd", bind=True)
def crowd(self, path):
    with lock:
        met["inside"] = met.get("inside", 0) + 1
        most = met["most"] = max(met.get("most", 0), met["inside"])
    record("crowd", self.request.id)
    until(lambda: os.path.exists(path))
    with lock:
        met["inside"] -= 1
    return most


@app.task(name="who", bind=True)
def who(self, value, where, count):
    """What this task is, before and after others have begun in the same process."""
    before = [self.request.id, current_task.request.id, self.request.args[0]]
    print(f"printed by {value}")
    logger.info("logged by %s", value)
    meet.run(where, count)
    after = [self.request.id, current_task.request.id, self.request.args[0]]
    return [before == after, before, began[self.request.id] == threading.get_ident()]


@app.task(name="echo")
def echo(value):
    return value


@app.task(name="wait")
async def wait(value):
    import asyncio

    await asyncio.sleep(0.01)
    return value


@app.task(name="again", bind=True, max_retries=3)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    echo.delay(1)
    self.update_state(state="HALF")
    return self.request.retries


@app.task(name="left", bind=True)
def left(self):
    sys.exit(3)


class Handled(app.Task):
    def on_success(self, retval, task_id, args, kwargs):
        record("handled", f"{task_id} {threading.get_ident() == began[task_id]}")


@app.task(name="handled", base=Handled)
def handled(value):
    return value


@app.task(name="spin", bind=True)
def spin(self, catch=False):
    """Python code that never ends by itself."""
    try:
        record("spin", self.request.id)
        until(lambda: False)
    except SoftTimeLimitExceeded:
        if not catch:
            raise
        return "caught"


@app.task(name="stuck", bind=True)
def stuck(self):
    """Code that nothing in Python interrupts."""
    record("stuck", self.request.id)
    threading.Event().wait()


@app.task(name="woken", bind=True)
def woken(self, path):
    record("woken", self.request.id)
    until(lambda: os.path.exists(path))
    record("wakes", self.request.id)
    note.apply_async(("too late",), queue="drop")
    return "too late"


@app.task(name="note")
def note(text):
    record("note", text)


@app.task(name="together", batch=(4, 30))
def together(requests):
    """As many as the batch, met by a task in another thread."""
    meet.run(requests[0].args[0], 2)
    return [[request.id, len(requests), threading.current_thread().name] for request in requests]


@app.task(name="too_long", batch=(3, 30), time_limit=0.5)
def too_long(requests):
    threading.Event().wait()


@app.task(name="file", bind=True, **LATE)
def file(self, path):
    """Wait for a file; the second start needs none."""
    record("file", self.request.id)
    until(lambda: os.path.exists(path) or self.request.delivery_info["redelivered"]
          or (self.request.headers or {}).get("x-turbo-deliveries"))
    return os.getpid()


@app.task(name="early", bind=True)
def early(self, path):
    record("early", self.request.id)
    until(lambda: os.path.exists(path))
    return os.getpid()


@app.task(name="version", bind=True)
def version(self, path=None):
    """The version of the code that runs it, at once or when a file is there."""
    record("version", self.request.id)
    until(lambda: path is None or os.path.exists(path))
    return [VERSION, os.getpid()]


@app.task(name="grow", bind=True, **LATE)
def grow(self, mib, path):
    """Take so much memory until a file is there; the second start takes none."""
    again = self.request.delivery_info["redelivered"] or (self.request.headers or {}).get("x-turbo-deliveries")
    taken = None if again else bytearray(b"x") * (mib << 20)
    record("grow", self.request.id)
    until(lambda: again or os.path.exists(path))
    return os.getpid()
'''


class Place:
    """Workers with these tasks, and the client."""

    def __init__(self, directory: Path, vhost: str, redis_db: str) -> None:
        self.directory = directory
        self.oracle = Oracle(directory / "oracle")
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._options = ("-A", "tasks", "-b", vhost, "--result-backend", redis_db, "-l", "info", "-P", "threads")
        (directory / "tasks.py").write_text(TASKS)
        self.write("old")

    def write(self, version: str) -> None:
        """Write the module that names the version of the code."""
        (self.directory / "version.py").write_text(f"VERSION = {version!r}\n")

    def worker(self, queue: str, *options: str) -> WorkerProcess:
        """One that is not started, with its queue's name."""
        where = ("-Q", queue, "-n", f"{queue}@here")
        return WorkerProcess(
            *self._options,
            *where,
            *options,
            directory=self.directory,
            env={**self.oracle.env, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def send(self, name: str, *args: Any, queue: str, **options: Any) -> Any:
        return self.client.send_task(name, args, queue=queue, **options)

    def runs(self, label: str, *ids: str) -> None:
        """Wait until these tasks run."""
        wait_until("they run", lambda: set(ids) <= set(self.oracle.ids(label)), 60)


@pytest.fixture(scope="module")
def place(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    place = Place(tmp_path_factory.mktemp("threads"), rabbitmq.new_vhost(), redis_server.new_database())
    yield place
    place.client.close()
