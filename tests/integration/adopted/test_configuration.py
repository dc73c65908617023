"""An adopted app's configuration, found and carried out by a real worker."""

from __future__ import annotations

import pytest
from celery.result import AsyncResult
from kombu import Exchange, Queue
from kombu.serialization import register, unregister

from tests.harness.processes import free_port
from tests.integration.adopted.place import HEAD, READY, Place

ADD = """
@app.task(name="proj.add")
def add(x, y):
    return x + y
"""

SEEN = """
import codecs
import json as plain_json
from kombu import Exchange, Queue
from kombu.serialization import register

register("rot", lambda value: codecs.encode(plain_json.dumps(value), "rot13"),
         lambda body: plain_json.loads(codecs.decode(bytes(body).decode(), "rot13")),
         "application/x-rot", "utf-8")
nowhere, somewhere = os.environ["NOWHERE"], os.environ["PROJ_BROKER"]
app.conf.update(
    broker_url=[nowhere, somewhere],
    accept_content=["json", "rot"],
    imports=["extra.more"],
    timezone="Asia/Tokyo",
    worker_concurrency=3,
    worker_direct=True,
    worker_timer="proj:Timer",
    task_time_limit=50,
    task_soft_time_limit=40,
    task_queues=[
        Queue("video", Exchange("media", "topic"), "video.#", max_priority=5),
        Queue("quorum", Exchange("quorum"), "quorum", queue_arguments={"x-queue-type": "quorum"}),
        Queue("unused", Exchange("unused"), "unused"),
    ],
    task_create_missing_queues=False,
)

@app.task(name="proj.conf")
def conf():
    return [app.conf.worker_concurrency, app.conf.task_time_limit, app.conf.worker_prefetch_multiplier,
            str(app.timezone), app.conf.broker_url[1] == somewhere]
"""
MORE = """
from proj import app

@app.task(name="more.double")
def double(x):
    return 2 * x
"""


@pytest.mark.row(
    "CF1", "CF3", "CF4", "CF5", "CF6", "CF7", "CF9", "CF13", "CF19", "CF21", "CL1", "CL4", "CL10", "CL22", "TD3"
)  # fmt: skip
def test_what_the_app_says_holds(place: Place) -> None:
    place.write(SEEN)
    place.write(MORE, "extra/more.py", head="")
    options = ("-c", "2", "-X", "unused", "--time-limit", "60", "-n", "w1@box", "--", "worker.prefetch_multiplier=7")
    env = {"NOWHERE": f"amqp://127.0.0.1:{free_port()}//"}
    register("rot", _rot, None, "application/x-rot", "utf-8")
    try:
        with place.worker(*options, env=env) as worker:
            worker.wait_for_line(r"limits +soft 40 s; hard 60 s")
            worker.wait_for_line(r"prefetch +14, fixed")
            worker.wait_for_line(r"video +exchange=media\(topic\) key=video\.#")
            warning = worker.wait_for_line(r"without effect in this worker: (.*)")[1]
            worker.wait_for_line(READY)
            send = place.client.send_task
            topic = Exchange("media", "topic")
            seen = send("proj.conf", exchange=topic, routing_key="video.short", priority=3)
            assert seen.get(timeout=60) == [2, 60, 7, "Asia/Tokyo", True]
            assert send("more.double", (4,), queue=Queue("quorum", no_declare=True)).get(timeout=60) == 8
            direct = send("more.double", (5,), exchange="C.dq2", routing_key="w1@box", serializer="rot")
            assert direct.get(timeout=60) == 10
            worker.terminate()
            assert worker.wait() == 0
    finally:
        unregister("rot")
    assert "worker_timer" in warning
    assert worker.output.count("without effect in this worker") == 1
    assert place.rabbitmq.queue("unused", place.vhost) is None


def _rot(value: object) -> str:
    import codecs
    import json

    return codecs.encode(json.dumps(value), "rot13")


OWN_JSON = """
import decimal
import json as plain_json
from kombu.serialization import register
from kombu.utils.json import dumps

def loads(text):
    return plain_json.loads(text, parse_float=decimal.Decimal)

register("json", dumps, loads, "application/json", "utf-8")

@app.task(name="proj.kind")
def kind(value):
    return type(value).__name__
"""


@pytest.mark.row("WP6")
def test_an_app_may_replace_the_decoder_of_json(place: Place) -> None:
    place.write(OWN_JSON)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        assert place.client.send_task("proj.kind", (1.5,)).get(timeout=60) == "Decimal"


def test_a_queue_that_nobody_configured_is_refused(place: Place) -> None:
    place.write("app.conf.update(task_create_missing_queues=False)\n" + ADD)
    with place.worker("-Q", "elsewhere") as worker:
        assert worker.wait() == 1
        worker.wait_for_line(r"cannot consume from a queue that is not in task_queues: 'elsewhere'")


@pytest.mark.row("CF21", "RU6")
def test_a_broker_that_is_not_amqp_is_refused(place: Place) -> None:
    place.write("app.conf.broker_url = 'redis://:secret@localhost/1'\n" + ADD)
    with place.worker() as worker:
        assert worker.wait() == 1
        worker.wait_for_line(
            r"scheme 'redis' is not supported, turbo speaks AMQP 0-9-1 \(amqp://, pyamqp:// or amqps://\)"
        )
        assert "secret" not in worker.output


@pytest.mark.row("CL2", "CL3", "CF1")
def test_the_places_where_celery_looks(place: Place) -> None:
    place.write("", "site/celeryconfig.py", head="worker_concurrency = 1\ntask_time_limit = 33\n")
    bare = HEAD.replace(', broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_BACKEND"]', "")
    place.write(ADD + "\ndef create_app():\n    return app\n", "site/shop/celery.py", head=bare)
    place.write("", "site/shop/__init__.py", head="")
    given = ("-b", place.vhost, "--workdir", "site", "--config", "celeryconfig")
    with place.worker(*given, app="shop.celery:create_app()") as worker:
        worker.wait_for_line(r"app +shop\.celery:create_app\(\) \(from -A\)")
        worker.wait_for_line(r"limits +hard 33 s")
        worker.wait_for_line(READY)
        worker.terminate()
        assert worker.wait() == 0


DJANGO = """
SECRET_KEY = "not one"
INSTALLED_APPS = ["blog"]
USE_TZ = True
TIME_ZONE = "Europe/Oslo"
DATABASES = {}
import os
CELERY_BROKER_URL = os.environ["PROJ_BROKER"]
CELERY_RESULT_BACKEND = os.environ["PROJ_BACKEND"]
CELERY_TASK_TIME_LIMIT = 44
CELERY_WORKER_CONCURRENCY = 1
"""
DJANGO_APP = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
DJANGO_TASKS = """
from celery import current_app, shared_task
from django.apps import apps
from django.utils import timezone

@shared_task
def count():
    return [apps.is_installed("blog"), str(current_app.timezone), str(timezone.get_current_timezone())]
"""


@pytest.mark.row("DJ1", "DJ2", "DJ3", "DJ4", "DJ10")
def test_a_django_project(place: Place) -> None:
    place.write("", "mysite/settings.py", head=DJANGO)
    place.write("", "mysite/celery.py", head=DJANGO_APP)
    place.write("", "mysite/__init__.py", head="from .celery import app as celery_app\n")
    place.write("", "blog/__init__.py", head="")
    place.write("", "blog/tasks.py", head=DJANGO_TASKS)
    with place.worker(app="mysite") as worker:
        worker.wait_for_line(r"app +mysite\.celery:app")
        worker.wait_for_line(r"limits +hard 44 s")
        worker.wait_for_line(r"blog\.tasks\.count")
        worker.wait_for_line(READY)
        sent: AsyncResult[list[object]] = place.client.send_task("blog.tasks.count")
        assert sent.get(timeout=60) == [True, "Europe/Oslo", "Europe/Oslo"]
        worker.terminate()
        assert worker.wait() == 0


def test_the_report_shows_the_app_without_its_secrets(place: Place) -> None:
    place.write(
        "app.conf.update(task_time_limit=12, redis_password='hidden', broker_url='amqp://u:hidden@h//')\n" + ADD
    )
    with place.command("report") as report:
        assert report.wait() == 0
    assert "app proj:app (from -A)" in report.output
    assert "task_time_limit: 12" in report.output
    assert "hidden" not in report.output
