"""Bootsteps, and options of an app's own, in both kinds of app: what can run does, the rest is named.

A module written for Celery is one of turbo's after one word is changed, where it uses nothing of kombu.
"""

from __future__ import annotations

import pytest
from kombu import Exchange, Queue

from tests.harness.processes import wait_until
from tests.integration.adopted.place import HEAD, READY, Place

KINDS = ("celery", "turbo")
CURRENT = "from billiard.process import current_process"
KOMBU = "from kombu import Consumer, Exchange, Queue"
#: Where the log names what does not run.
IDLE = {"celery": r"without effect in this worker: (.*)", "turbo": r"(the bootstep .* does not run: .*)"}


def write(place: Place, kind: str, text: str) -> None:
    """Write the app, which is written for Celery, for one kind of app."""
    if kind == "celery":
        place.write(text)
        return
    ours = text.replace(KOMBU, "from turbo import Exchange, Queue\nfrom turbo.bootsteps import Consumer")
    head = HEAD.replace(CURRENT, "from multiprocessing import current_process").replace("Celery(", "Turbo(")
    place.write(
        ours.replace("from celery", "from turbo").replace("celery.worker", "turbo.worker"),
        head=head.replace("from celery import Celery", "from turbo import Turbo"),
    )


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_with_a_timer_runs_from_the_start_to_the_end(place: Place, kind: str) -> None:
    write(place, kind, STEPS)
    alive = place.directory / "alive"
    with place.worker("-c", "1", "-n", "w1@here") as worker:
        warning = worker.wait_for_line(IDLE[kind])[1]
        assert "proj.Pooled" in warning and "Liveness" not in warning
        worker.wait_for_line(READY)
        worker.wait_for_line(r"The bootstep .*After.* raised while starting; the worker goes on")
        wait_until("the file is there", alive.exists, 60)
        before = alive.stat().st_mtime_ns
        wait_until("the file is touched again", lambda: alive.stat().st_mtime_ns > before, 60)
        place.wait_recorded("ready")
        worker.terminate()
        assert worker.wait(60) == 0
    assert not alive.exists()
    found = [event for _, event, _ in place.recorded()]
    assert found == ["step-start", "after-start", "ready", "step-stop"]
    assert place.recorded()[0][2] == {"hostname": "w1@here", "by": "proj"}


WATCHED = Queue("watched", Exchange("watched"), "watched")
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_step_gets_messages_beside_the_tasks(place: Place, kind: str) -> None:
    write(place, kind, CONSUMER)
    with place.worker("-c", "1") as worker:
        warning = worker.wait_for_line(IDLE[kind])[1]
        assert "proj.Other" in warning and "Watch" not in warning
        worker.wait_for_line(READY)
        place.wait_recorded("consumers")
        with place.client.producer_pool.acquire() as producer:
            for body in ("one", "fail", "two"):
                producer.publish({"say": body}, exchange="watched", routing_key="watched", declare=[WATCHED])
        place.wait_recorded("message", where=lambda details: details["body"] == "two")
        wait_until("the failed one comes again", lambda: _bodies(place).count("fail") == 2, 60)
        assert place.client.send_task("proj.add", (1, 2)).get(timeout=60) == 3
        worker.terminate()
        assert worker.wait(60) == 0


def _bodies(place: Place) -> list[str]:
    return [details["body"] for _, event, details in place.recorded() if event == "message"]


BUSY = CONSUMER.replace("message.ack()", "time.sleep(0.01)").replace("from celery", "import time\nfrom celery", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_step_that_is_busy_keeps_its_connection(place: Place, kind: str) -> None:
    """It gets messages for three heartbeats without a pause, and acknowledges none."""
    write(place, kind, BUSY + "\napp.conf.broker_heartbeat = 2\n")
    with place.client.producer_pool.acquire() as producer:
        for number in range(600):
            said = {"say": str(number)}
            producer.publish(said, exchange="watched", routing_key="watched", declare=[] if number else [WATCHED])
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        tasks = [place.client.send_task("proj.add", (number, 1)) for number in range(200)]
        wait_until("all messages have come", lambda: _bodies(place)[-1:] == ["599"], 60)
        assert tasks[-1].get(timeout=60) == 200
        assert [event for _, event, _ in place.recorded()].count("consumers") == 1
        assert place.rabbitmq.queue("watched", place.vhost).unacked == 600
        worker.terminate()
        assert worker.wait(60) == 0


KOMBUS = """
from turbo import bootsteps
from kombu import Consumer, Queue

class Foreign(bootsteps.ConsumerStep):
    def get_consumers(self, channel):
        return [Consumer(channel, queues=[Queue("watched")], callbacks=[])]

app.steps["consumer"].add(Foreign)
"""


def test_a_consumer_of_kombus_is_refused_in_an_app_of_turbos(place: Place) -> None:
    write(place, "turbo", KOMBUS)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(
            "return turbo.bootsteps.Consumer objects from get_consumers, or put the step into a celery"
        )
        worker.wait_for_line(READY)
        worker.terminate()
        assert worker.wait(60) == 0


OPTIONS = """
from celery import bootsteps
from click import Option

app.user_options["worker"].add(Option(("--tenant",), default="nobody", help="Whose tasks."))
app.user_options["worker"].add(Option(("--strict",), is_flag=True))
app.user_options["preload"].add(Option(("-Z", "--site"), type=int, default=1))

class Tenant(bootsteps.Step):
    def __init__(self, worker, tenant, strict=False, **options):
        record("step", tenant=tenant, strict=strict, loglevel=options["loglevel"])

app.steps["worker"].add(Tenant)

@signals.user_preload_options.connect
def preload(options, **_):
    record("preload", **options)

@signals.celeryd_init.connect
def init(options, **_):
    record("init", tenant=options["tenant"])
"""


@pytest.mark.row("CL26")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "tenant", "strict", "site"),
    [((), "nobody", False, 1), (("--strict", "--tenant", "acme", "-Z", "7"), "acme", True, 7)],
    ids=["none", "all"],
)
def test_options_of_the_apps_own(
    place: Place, kind: str, given: tuple[str, ...], tenant: str, strict: bool, site: int
) -> None:
    write(place, kind, OPTIONS)
    with place.worker("-c", "1", *given) as worker:
        place.wait_recorded("step")
        worker.wait_for_line(READY)
        worker.terminate()
        assert worker.wait(60) == 0
    assert [(event, details) for _, event, details in place.recorded()] == [
        ("preload", {"site": site}),
        ("init", {"tenant": tenant}),
        ("step", {"tenant": tenant, "strict": strict, "loglevel": "INFO"}),
    ]
