"""Early-acknowledged tasks of three kinds that spend most of their time before their bodies start.

A function of turbo's own, a coroutine, and a task of Celery's, by ``TORTURE_FRAMEWORK`` and name.
"""

from __future__ import annotations

import os
import random
import time

from tests.harness.oracle_record import record

if os.environ.get("TORTURE_FRAMEWORK") == "celery":
    from celery import Celery as App
else:
    from turbo import Turbo as App

#: The longest that a task spends before its body, in seconds; the body itself is short.
DAWDLE = 0.02

app = App("entering", broker=os.environ.get("TORTURE_BROKER"), backend=os.environ.get("TORTURE_BACKEND"))
app.conf.update(task_ignore_result=True, task_store_errors_even_if_ignored=True)


class Dawdling(app.Task):  # type: ignore[misc, name-defined]
    """A task class that waits before each body, for some time or until a file is removed.

    It records when it begins to wait and when it has waited.
    """

    def before_start(self, task_id: str, _args: object, kwargs: dict[str, str]) -> None:
        """Wait."""
        record("before", task_id)
        gate = os.environ.get("TORTURE_GATE", "")
        while gate and os.path.exists(gate):
            time.sleep(0.005)
        time.sleep(random.random() * DAWDLE)
        record("waited", task_id)


@app.task(bind=True, name="function", base=Dawdling)
def function(self: Dawdling) -> None:
    """Record the run."""
    record("start", self.request.id)
    record("end", self.request.id)


if os.environ.get("TORTURE_FRAMEWORK") != "celery":

    @app.task(bind=True, name="coroutine", base=Dawdling)
    async def coroutine(self: Dawdling) -> None:
        """Record the run."""
        record("start", self.request.id)
        record("end", self.request.id)
