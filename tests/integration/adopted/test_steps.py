"""Bootsteps of a Celery app: those that need the timer alone run, the others are named."""

from __future__ import annotations

from kombu import Exchange, Queue

from tests.harness.processes import wait_until
from tests.integration.adopted.place import READY, Place

STEPS = """
from pathlib import Path
from celery import bootsteps

ALIVE = Path(__file__).with_name("alive")

class Liveness(bootsteps.StartStopStep):
    requires = {"celery.worker.components:Timer"}

    def __init__(self, worker, **options):
        self.tref = None

    def start(self, worker):
        record("step-start", hostname=worker.hostname, by=worker.app.main)
        self.tref = worker.timer.call_repeatedly(0.2, self.beat, (worker,), priority=10)

    def stop(self, worker):
        record("step-stop")
        self.tref.cancel()
        ALIVE.unlink(missing_ok=True)

    def beat(self, worker):
        ALIVE.touch()

class After(bootsteps.StartStopStep):
    requires = (Liveness,)

    def start(self, worker):
        record("after-start")
        raise KeyError("no such thing")

class Pooled(bootsteps.StartStopStep):
    requires = {"celery.worker.components:Pool"}

    def start(self, worker):
        record("pooled-start")

app.steps["worker"].update({Liveness, After, Pooled})

@signals.worker_ready.connect
def ready(**_):
    record("ready")
"""


def test_a_step_with_a_timer_runs_from_the_start_to_the_end(place: Place) -> None:
    place.write(STEPS)
    alive = place.directory / "alive"
    with place.worker("-c", "1", "-n", "w1@here") as worker:
        warning = worker.wait_for_line(r"without effect in this worker: (.*)")[1]
        assert "proj.Pooled" in warning and "Liveness" not in warning
        worker.wait_for_line(READY)
        worker.wait_for_line(r"The bootstep .*After.* raised while starting; the worker goes on")
        wait_until("the file is there", alive.exists, 30)
        before = alive.stat().st_mtime_ns
        wait_until("the file is touched again", lambda: alive.stat().st_mtime_ns > before, 30)
        place.wait_recorded("ready")
        worker.terminate()
        assert worker.wait(30) == 0
    assert not alive.exists()
    found = [event for _, event, _ in place.recorded()]
    assert found == ["step-start", "after-start", "ready", "step-stop"]
    assert place.recorded()[0][2] == {"hostname": "w1@here", "by": "proj"}


CONSUMER = """
from celery import bootsteps
from kombu import Consumer, Exchange, Queue

class Watch(bootsteps.ConsumerStep):
    def get_consumers(self, channel):
        record("consumers")
        queue = Queue("watched", Exchange("watched"), "watched")
        return [Consumer(channel, queues=[queue], callbacks=[self.handle], accept=["json"])]

    def handle(self, body, message):
        body = body["say"]
        record("message", body=body)
        if body == "fail" and not message.delivery_info["redelivered"]:
            raise KeyError("fail")
        message.ack()

class Other(bootsteps.StartStopStep):
    def start(self, c):
        record("other")

app.steps["consumer"].update({Watch, Other})

@app.task(name="proj.add")
def add(x, y):
    return x + y
"""


def test_a_consumer_step_gets_messages_beside_the_tasks(place: Place) -> None:
    place.write(CONSUMER)
    with place.worker("-c", "1") as worker:
        warning = worker.wait_for_line(r"without effect in this worker: (.*)")[1]
        assert "proj.Other" in warning and "Watch" not in warning
        worker.wait_for_line(READY)
        place.wait_recorded("consumers")
        with place.client.producer_pool.acquire() as producer:
            queue = Queue("watched", Exchange("watched"), "watched")
            for body in ("one", "fail", "two"):
                producer.publish({"say": body}, exchange="watched", routing_key="watched", declare=[queue])
        place.wait_recorded("message", where=lambda details: details["body"] == "two")
        wait_until("the failed one comes again", lambda: _bodies(place).count("fail") == 2, 30)
        assert place.client.send_task("proj.add", (1, 2)).get(timeout=30) == 3
        worker.terminate()
        assert worker.wait(30) == 0


def _bodies(place: Place) -> list[str]:
    return [details["body"] for _, event, details in place.recorded() if event == "message"]
