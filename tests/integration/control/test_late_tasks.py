"""Tasks that a task registers by importing their module: known to that child, not to the worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post

APP = """
import os
if os.environ["KIND"] == "celery":
    from celery import Celery
else:
    from turbo import Celery
app = Celery("late", broker=os.environ["CONTROLLED_BROKER"], backend=os.environ["CONTROLLED_BACKEND"])
app.conf.broker_connection_retry_on_startup = True

@app.task(name="late.fetch")
def fetch():
    import late_tasks
    return sorted(name for name in app.tasks if name.startswith("late."))
"""
TASKS = """
import threading
from late_app import app

@app.task(name="late.hang", time_limit=0.5)
def hang():
    threading.Event().wait()

@app.task(name="late.quick", rate_limit="1/h")
def quick():
    return "quick"
"""


@pytest.mark.row("TD15", "PL7", "TM15")
@pytest.mark.parametrize("kind", ["turbo", "celery"])
def test_a_task_that_a_task_imports_has_its_time_limit_in_that_child_only(
    make_post: Callable[[str], Post], kind: str
) -> None:
    post = make_post(kind)
    (post.directory / "late_app.py").write_text(APP)
    (post.directory / "late_tasks.py").write_text(TASKS)
    options = ("-A", "late_app", "-n", NODE, "-l", "info", "-c", "1")
    with WorkerProcess(*options, directory=post.directory, env=post.environment) as worker:
        worker.wait_for_line(READY, 60)
        send = post.client.send_task
        assert send("late.fetch").get(timeout=60) == ["late.fetch", "late.hang", "late.quick"]
        # The rate limit is the master's, which does not have it: a warning says so.
        assert [send("late.quick").get(timeout=60) for _ in range(3)] == ["quick"] * 3
        worker.wait_for_line("Task late.quick was registered after the worker's start")
        assert post.ask("rate_limit", task_name="late.quick", rate_limit="1/s") == {"error": "unknown task"}
        assert post.ask("time_limit", task_name="late.hang", hard=9) == {"error": "unknown task"}
        with pytest.raises(Exception, match=r"0\.5"):
            send("late.hang").get(timeout=60)
        worker.wait_for_line("Task late.hang was registered after")
        assert send("late.fetch").get(timeout=60)
        stuck = send("late.hang", time_limit=60)
        post.wait_active(stuck.id)
        post.ask("revoke", task_id=[stuck.id], terminate=True)
        post.wait_state(stuck.id, "REVOKED")
        # Its successor has not imported the module.
        with pytest.raises(Exception, match=r"late\.quick"):
            send("late.quick").get(timeout=60)
        worker.wait_for_line("Received unregistered task of type 'late.quick'")
