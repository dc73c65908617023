"""Restarting the pool of a running worker: newly imported code, and what becomes of tasks and processes meanwhile."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post

ALLOWED = ("-c", "2", "--prefetch-multiplier", "1")
#: The app of the workers: its tasks are in a module that the tests write.
APP = """
import os
if os.environ["KIND"] == "celery":
    from celery import Celery
else:
    from turbo import Celery
app = Celery("restarted", broker=os.environ["CONTROLLED_BROKER"], backend=os.environ["CONTROLLED_BACKEND"])
app.conf.worker_pool_restarts = True
app.conf.worker_redirect_stdouts = False
app.conf.broker_connection_retry_on_startup = True
app.conf.imports = ["restarted_tasks"]
"""
TASKS = """
import os
from pathlib import Path
from restarted import app

VALUE = {value!r}

@app.task(name="restarted.value"{options})
def value():
    return VALUE

@app.task(name="restarted.wait", acks_late=True)
def wait(fifo):
    return VALUE + Path(fifo).read_text()
"""


class Place:
    """A worker whose tasks are in a file that the test changes."""

    def __init__(self, post: Post) -> None:
        self.post = post
        (post.directory / "restarted.py").write_text(APP)
        self.write("old")

    def worker(self, *options: str) -> WorkerProcess:
        """Return a worker, not started."""
        return WorkerProcess(
            *("-A", "restarted", "-n", NODE, "-l", "info", *(options or ALLOWED)),
            directory=self.post.directory,
            env={**self.post.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def write(self, value: str, options: str = "", more: str = "") -> None:
        """Write the tasks, which return ``value``."""
        text = TASKS.format(value=value, options=options) + textwrap.dedent(more)
        (self.post.directory / "restarted_tasks.py").write_text(text)

    def call(self, task: str = "value", *args: Any) -> Any:
        """Send a task; return its result."""
        return self.post.client.send_task(f"restarted.{task}", args).get(timeout=60)

    def restart(self, **arguments: Any) -> Any:
        """Ask for a restart; return the reply, for which the worker may take its time."""
        return self.post.ask("pool_restart", **arguments)

    def wait_done(self, worker: WorkerProcess, since: int) -> None:
        """Wait until no old child is left."""
        worker.wait_for_line("The pool has restarted", 60, since=since)


def _wait_one_spawner(worker: WorkerProcess) -> None:
    """Wait until a spawner that is not needed any more has left: it is told to end, and nobody waits for it."""
    wait_until("one spawner is left", lambda: len(worker.children("Spawner")) == 1, 60)


@pytest.fixture(params=["turbo", "celery"])
def place(request: pytest.FixtureRequest, make_post: Callable[[str], Post]) -> Place:
    return Place(make_post(request.param))


@pytest.fixture
def native(make_post: Callable[[str], Post]) -> Place:
    return Place(make_post("turbo"))


@pytest.mark.row("RC25", "PL21")
def test_new_code_runs_and_the_tasks_under_way_end_in_the_old(place: Place) -> None:
    with place.worker() as worker:
        worker.wait_for_line(READY, 60)
        assert place.call() == "old"
        fifo, mark = place.post.fifo(), worker.mark()
        running = place.post.client.send_task("restarted.wait", [str(fifo)])
        row = place.post.wait_active(running.id)
        before = place.post.pids()
        place.write("new", ', rate_limit="50/s"', more="""
            @app.task(name="restarted.added", rate_limit="100/m")
            def added():
                return "added"
        """)  # fmt: skip
        assert place.restart() == {"ok": "reload started"}
        wait_until("the idle child is replaced", lambda: place.call() == "new", 60)
        assert row["worker_pid"] in place.post.pids(), "it still runs its task"
        assert place.call("added") == "added"
        fifo.write_text(" and whole")
        assert running.get(timeout=60) == "old and whole"
        place.wait_done(worker, mark)
        assert {place.call() for _ in range(6)} == {"new"}
        after = place.post.pids()
        assert len(after) == 2 and not {*before} & {*after}
        _wait_one_spawner(worker)
        assert "restarted.added [rate_limit=100/m]" in place.post.ask("registered")
        assert place.post.ask("rate_limit", task_name="restarted.added", rate_limit=0)["ok"]
        assert place.post.ask("stats")["pid"] == worker.pid
        assert not re.search("WorkerLost|Traceback|CRITICAL", worker.output), worker.output
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("RC25", "RC30")
def test_code_that_cannot_be_imported_is_named_and_the_old_goes_on(place: Place) -> None:
    with place.worker() as worker:
        worker.wait_for_line(READY, 60)
        before = place.post.pids()
        place.write("new", more="this is no Python")
        (error,) = place.restart().values()
        assert "SyntaxError: invalid syntax (restarted_tasks.py, line 15)" in error
        place.write("new", ', rate_limit="often"')
        assert "often" in place.restart()["error"]
        place.write("new", more="app.conf.result_backend = 'redis://127.0.0.1:1/0'")
        assert "another result_backend" in place.restart()["error"]
        place.write("new", more="import os; os._exit(7)")
        assert "ended while it imported the app" in place.restart()["error"]
        place.write("new")
        assert "No module named 'no_such'" in place.restart(modules=["no_such"])["error"]
        assert "not a list of modules" in place.restart(modules="tasks")["error"]
        assert "reloader" in place.restart(reloader="imp.reload")["error"]
        stats = place.post.ask("stats")["pool"]
        assert stats["processes"] == before and stats["restart"].startswith("failed: ModuleNotFoundError")
        assert {place.call() for _ in range(4)} == {"old"}
        _wait_one_spawner(worker)

        mark = worker.mark()
        (place.post.directory / "restarted_more.py").write_text(
            "from restarted import app\n@app.task(name='restarted.more')\ndef more(): return 'more'\n"
        )
        assert place.restart(modules=["restarted_more"], reload=True) == {"ok": "reload started"}
        place.wait_done(worker, mark)
        assert (place.call(), place.call("more")) == ("new", "more")
        mark = worker.mark()
        assert place.restart() == {"ok": "reload started"}
        place.wait_done(worker, mark)
        assert place.call("more") == "more", "a module that was asked for stays"


@pytest.mark.row("RC25")
def test_code_whose_children_cannot_start_changes_nothing(native: Place) -> None:
    with native.worker() as worker:
        worker.wait_for_line(READY, 60)
        before = native.post.pids()
        native.write("new", more="""
            from turbo import signals
            @signals.worker_process_init.connect
            def end(**_): os._exit(3)
        """)  # fmt: skip
        assert "a child of the new code ended before it was ready (exitcode 3)" in native.restart()["error"]
        assert native.post.pids() == before
        assert {native.call() for _ in range(4)} == {"old"}
        wait_until("one spawner is left", lambda: len(worker.children("Spawner")) == 1, 60)


@pytest.mark.row("RC25", "RC32")
def test_celerys_command_line_does_not_wait_for_the_import(native: Place) -> None:
    with native.worker("-P", "solo") as worker:
        worker.wait_for_line(READY, 60)
        (before,) = native.post.pids()
        native.write("new", more="import time; time.sleep(600)")
        mark = worker.mark()
        (said,) = native.post.celery(("control", "-t", "20", "-d", NODE, "pool_restart"))
        assert "reload started" in said
        assert native.post.ask("stats")["pool"]["restart"] == "importing"
        # A later request is for later code: it takes the place of the first.
        native.write("newer")
        assert native.restart() == {"ok": "reload started"}
        native.wait_done(worker, mark)
        assert native.call() == "newer"
        assert native.post.pids() != [before]
        assert "a later restart or the end of the worker came first" in worker.output


@pytest.mark.row("RC25")
def test_a_worker_that_ends_while_it_imports_ends(native: Place) -> None:
    with native.worker() as worker:
        worker.wait_for_line(READY, 60)
        native.write("new", more="import time; time.sleep(600)")
        native.post.client.control.broadcast("pool_restart", destination=[NODE])
        worker.wait_for_line("another process imports the app", 60)
        every = worker.children()
        worker.terminate()
        assert worker.wait() == 0
        wait_until("its processes have ended", lambda: not any(map(psutil.Process.is_running, every)), 60)


@pytest.mark.row("RC25", "PL20")
def test_an_autoscaled_pool_restarts_with_no_child_and_with_some(native: Place) -> None:
    with native.worker("--autoscale", "2,0") as worker:
        worker.wait_for_line(READY, 60)
        native.write("new")
        assert native.restart() == {"ok": "reload started"}
        assert native.call() == "new"
        native.write("newer")
        mark = worker.mark()
        assert native.restart() == {"ok": "reload started"}
        native.wait_done(worker, mark)
        assert native.call() == "newer"


@pytest.mark.row("RC25")
def test_what_a_task_has_started_and_left_outlives_the_old_spawner_and_is_reaped(native: Place) -> None:
    native.write("old", more="""
        import subprocess
        @app.task(name="restarted.leave")
        def leave(): return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
    """)  # fmt: skip
    with native.worker() as worker:
        worker.wait_for_line(READY, 60)
        left = psutil.Process(native.call("leave"))
        mark = worker.mark()
        native.restart()
        native.wait_done(worker, mark)
        wait_until("it is the main process's", lambda: left.ppid() == worker.pid, 60)
        assert left.status() != psutil.STATUS_ZOMBIE
        left.kill()
        wait_until("it is reaped", lambda: not left.is_running(), 60)
