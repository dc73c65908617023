"""The signals of an adopted app: which process they fire in, with what, and what a bad receiver can do."""

from __future__ import annotations

import re

import pytest
from celery.exceptions import TaskRevokedError
from kombu import Connection, Producer

from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place

RECORDER = """
app.conf.update(task_queues=None, worker_max_tasks_per_child=4)

@app.task(name="proj.add")
def add(x, y):
    return x + y

@app.on_configure.connect
def configure(sender, **_):
    record("on_configure", app=sender is app)

@app.on_after_configure.connect
def configured(sender, **_):
    record("on_after_configure", app=sender is app)

@app.on_after_finalize.connect
def finalized(sender, **_):
    record("on_after_finalize", app=sender is app)

@signals.celeryd_init.connect
def init(sender, instance, conf, options, **_):
    conf.task_time_limit = 77
    record("celeryd_init", sender=sender, app=instance.app is app, hostname=instance.hostname, conf=conf is app.conf,
           options=sorted(name for name in options if name in ("queues", "concurrency", "purge")))

@signals.worker_init.connect
def worker_init(sender, **_):
    record("worker_init", hostname=sender.hostname, app=sender.app is app, concurrency=sender.concurrency)

@signals.celeryd_after_setup.connect
def after_setup(sender, instance, conf, **_):
    instance.app.amqp.queues.select_add(sender + ".own")
    record("celeryd_after_setup", sender=sender, conf=conf is app.conf)

@signals.worker_ready.connect
def ready(sender, **_):
    record("worker_ready", hostname=sender.hostname, app=sender.app is app, pid=sender.pid == os.getpid(),
           controller=sender.controller.hostname)

@signals.worker_shutting_down.connect
def shutting_down(sender, sig, how, exitcode, **_):
    record("worker_shutting_down", sender=sender, sig=sig, how=how, exitcode=exitcode)

@signals.worker_shutdown.connect
def shutdown(sender, **_):
    record("worker_shutdown", hostname=sender.hostname, app=sender.app is app)

@signals.worker_process_init.connect
def process_init(sender, **_):
    record("worker_process_init")

@signals.worker_process_shutdown.connect
def process_shutdown(sender, pid, exitcode, **_):
    record("worker_process_shutdown", pid=pid == os.getpid(), code=exitcode)

@signals.task_received.connect
def received(sender, request, **_):
    record("task_received", hostname=sender.hostname, name=request.name, id=request.id, task=request.task.name,
           exchange=request.delivery_info["exchange"], key=request.delivery_info["routing_key"])

@signals.task_revoked.connect
def revoked(sender, request, terminated, signum, expired, **_):
    record("task_revoked", task=sender.name, id=request.id, terminated=terminated, signum=signum, expired=expired)

@signals.task_unknown.connect
def unknown(sender, message, exc, name, id, **_):
    record("task_unknown", hostname=sender.hostname, body=bool(message.body), exc=type(exc).__name__, name=name, id=id)

@signals.task_rejected.connect
def rejected(sender, message, exc, **_):
    record("task_rejected", hostname=sender.hostname, body=bool(message.body))

@signals.task_prerun.connect
def prerun(sender, task_id, task, args, kwargs, **_):
    record("task_prerun", sender=sender.name, id=task_id, task=task.name, args=args, kwargs=kwargs)

@signals.task_postrun.connect
def postrun(sender, task_id, retval, state, **_):
    record("task_postrun", id=task_id, retval=retval, state=state)

@signals.task_success.connect
def success(sender, result, **_):
    record("task_success", sender=sender.name, result=result)
"""

HOST = "w1@box"


def drive(place: Place, by: str) -> tuple[WorkerProcess, list[tuple[str, str, str]]]:
    """Run the same life of a worker; what was recorded, with the numbers of pool processes taken off."""
    with place.worker("-c", "1", "-n", HOST, "-Q", "mine", by=by) as worker:
        place.wait_recorded("worker_ready", by)
        for count in range(5):
            sent = place.client.send_task("proj.add", (count, 1), queue="mine", task_id=f"add-{count}")
            assert sent.get(timeout=60) == count + 1
            sent.forget()
        place.client.send_task("proj.nowhere", queue=f"{HOST}.own", task_id="unknown")
        place.wait_recorded("task_unknown", by)
        place.client.send_task("proj.add", (1, 1), queue="mine", task_id="expired", expires=-5)
        place.wait_recorded("task_revoked", by)
        with Connection(place.vhost) as connection:
            Producer(connection).publish({"no": "task"}, routing_key="mine", serializer="json")
        place.wait_recorded("task_rejected", by)
        worker.terminate()
        assert worker.wait() == 0
    found = [
        (re.sub(r"-\d+$", "", process), event, repr(sorted(details.items())))
        for process, event, details in place.recorded(by)
    ]
    return worker, found


@pytest.mark.row("SG3", "SG4", "SG5", "SG8", "SG9", "SG10", "SG12", "SG13", "SG14")
def test_every_signal_fires_as_under_celery_worker(place: Place) -> None:
    place.write(RECORDER)
    worker, ours = drive(place, "turbo")
    assert "hard 77 s" in worker.output, "what celeryd_init set holds"
    _, theirs = drive(place, "celery")
    assert "worker_process_shutdown" in {event for _, event, _ in ours}
    assert sorted(ours) == sorted(theirs)
    for process in ("MainProcess", "ForkPoolWorker"):
        assert _order(ours, process) == _order(theirs, process)


def _order(found: list[tuple[str, str, str]], process: str) -> list[str]:
    """The events of one kind of process in their order, each where it came first."""
    return list(dict.fromkeys(event for where, event, _ in found if where == process))


BAD = """
import threading

app.conf.worker_hook_timeout = 0.3

@app.task(name="proj.add")
def add(x, y):
    return x + y

def raises(**_):
    raise RuntimeError("a receiver's own")

def blocks(**_):
    threading.Event().wait()

everywhere = (
    "worker_ready", "worker_shutting_down", "worker_shutdown", "task_received", "task_revoked", "task_unknown",
    "task_rejected",
)
for name in (*everywhere, "celeryd_init", "worker_init", "celeryd_after_setup", "worker_process_init",
             "worker_process_shutdown", "task_prerun", "task_postrun", "task_success"):
    getattr(signals, name).connect(raises, weak=False)
if os.environ.get("BLOCK"):
    for name in everywhere:
        getattr(signals, name).connect(blocks, weak=False)
"""


@pytest.mark.row("SG19")
@pytest.mark.parametrize("block", ["", "yes"], ids=["raising", "blocking"])
def test_a_bad_receiver_stops_nothing(place: Place, block: str) -> None:
    place.write(BAD)
    with place.worker("-c", "1", "-Q", "mine", env={"BLOCK": block}) as worker:
        worker.wait_for_line(READY)
        place.client.send_task("proj.nowhere", queue="mine")
        expired = place.client.send_task("proj.add", (1, 1), queue="mine", expires=-5)
        with Connection(place.vhost) as connection:
            Producer(connection).publish({"no": "task"}, routing_key="mine", serializer="json")
        for count in range(3):
            sent = place.client.send_task("proj.add", (count, 1), queue="mine")
            assert sent.get(timeout=60) == count + 1
        with pytest.raises(TaskRevokedError):
            expired.get(timeout=60)
        worker.terminate()
        assert worker.wait() == 0
        assert "a receiver's own" in worker.output
        if block:
            worker.wait_for_line(r"A receiver of worker_ready takes longer than 0\.3 s")
            worker.wait_for_line(r"task_received is not sent any more")
            worker.wait_for_line(r"A receiver of worker_shutdown takes longer")


STUCK = """
import threading
from turbo.child import leaving

leaving.SHUTDOWN_HOOK_TIMEOUT_S = 0.5

@signals.worker_process_shutdown.connect
def stuck(**_):
    record("stuck")
    threading.Event().wait()
"""


def test_a_child_whose_last_receiver_blocks_ends_all_the_same(place: Place) -> None:
    place.write(STUCK)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        worker.terminate()
        place.wait_recorded("stuck")
        assert worker.wait() == 0
        worker.wait_for_line(r"File .*proj\.py.* in stuck")
