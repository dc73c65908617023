"""The example of Celery's old manual: an exchange ``tasks`` with queues by kind of work, all configured.

``ROUTING_EXTRA`` adds what a worker started later has: a queue of its own for cropping.
"""

from __future__ import annotations

import os
from typing import Any

from tests.harness.oracle_record import record
from turbo import Broadcast, Queue, Task, Turbo, signals

app = Turbo("sites", broker=os.environ.get("ROUTING_BROKER"))
_AT = {"exchange": "tasks", "exchange_type": "topic"}
app.conf.task_queues = {
    "video": {**_AT, "binding_key": "video.#"},
    "image": {**_AT, "binding_key": "image.#"},
    "lowpri": {**_AT, "binding_key": "misc.#"},
    **({"crop": {**_AT, "binding_key": "image.crop"}} if os.environ.get("ROUTING_EXTRA") else {}),
    "shared": Queue("shared", consumer_arguments={"x-priority": int(os.environ.get("ROUTING_PRIORITY", "0"))}),
    "news": Broadcast("news"),
}
app.conf.task_default_queue = "lowpri"
app.conf.task_default_exchange = "tasks"
app.conf.task_default_exchange_type = "topic"
app.conf.task_default_routing_key = "misc.any"
app.conf.worker_direct = True
#: More than the tests send at once: whoever comes first always has room for one more.
app.conf.worker_prefetch_multiplier = 20


@signals.celeryd_after_setup.connect
def choose(sender: str, instance: Any, **_: Any) -> None:
    """Add a queue named after the worker."""
    instance.app.amqp.queues.select_add(f"{sender}.more")


@app.task(bind=True, name="sites.work")
def work(self: Task, what: str) -> None:
    """Record which worker ran the task."""
    record(str(self.request.hostname).partition("@")[0], what)
