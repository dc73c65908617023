"""Celery's own command line, of 5.3 and of the current version, with both kinds of app and their turbo workers.

``celery -A proj`` runs with the app of the worker: one of turbo's own, or Celery's.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.compat.conftest import APPS, READY, ROOT, VERSIONS, Place, fresh_place
from tests.harness.celery_env import OLD_WITH_TURBO, celery_producer, celery_python
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess

NODE = "one@here"
#: Asks one worker, and waits long for it on a busy machine.
ONE = ("-t", "30", "-d", NODE)
#: Hears a task with Celery's receiver and State, as monitors do; prints what State knows of task and worker.
STATE = """
import json, sys
from compat_tasks import app
task_id = "heard-" + sys.argv[1]
state, wanted = app.events.State(), {"task-succeeded", "worker-heartbeat"}

def on_event(event):
    state.event(event)
    if event.get("uuid") == task_id or event["type"] == "worker-heartbeat" and event["processed"]:
        wanted.discard(event["type"])

with app.connection_for_read() as connection:
    receiver = app.events.Receiver(connection, handlers={"*": on_event})
    with receiver.consumer_context() as (connection, _channel, _consumers):
        app.send_task("types", (1, 2), task_id=task_id)
        while wanted:
            connection.drain_events(timeout=60)
task, worker = state.tasks[task_id], state.workers["one@here"]
print(json.dumps({
    "task": [task.state, task.name, task.args, task.kwargs, task.result, task.worker.hostname, task.queue],
    "times": task.received <= task.started <= task.succeeded and task.runtime > 0,
    "worker": [worker.alive, worker.processed > 0, worker.pid],
}))
"""


@dataclass
class Post:
    """A turbo worker with an app of a kind (``turbo`` or ``celery``), and Celery clients with the same app."""

    kind: str
    place: Place
    worker: WorkerProcess

    def environment(self) -> dict[str, str]:
        return {**_environment(self.place, self.kind), "PYTHONPATH": os.pathsep.join([str(APPS), str(ROOT)])}

    def celery(self, version: str, *arguments: str) -> WorkerProcess:
        """A ``celery -A proj`` command, not started."""
        python = str(celery_python(OLD_WITH_TURBO if version == "5.3" else version))
        return WorkerProcess(
            "-A", "compat_tasks", *arguments,
            directory=APPS, env=self.environment(), command=(python, "-W", "ignore", "-m", "celery"),
        )  # fmt: skip

    def run(self, version: str, *arguments: str) -> str:
        """Run a command; return what it prints on standard output."""
        command = self.celery(version, *arguments).command
        ended = subprocess.run(
            command, cwd=APPS, env={**os.environ, **self.environment()}, capture_output=True, text=True, timeout=90
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def ask(self, version: str, *arguments: str) -> Any:
        """Run a command that asks the worker; return its reply."""
        replies = json.loads(self.run(version, *arguments, *ONE, "-j"))
        # control prints a list of replies, inspect one dict
        return (replies[0] if isinstance(replies, list) else replies)[NODE]


def _environment(place: Place, kind: str) -> dict[str, str]:
    return place.env(kind, worker_enable_remote_control=True)


@pytest.fixture(scope="module", params=["turbo", "celery"])
def post(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Post]:
    redis_server.ensure_running()
    with fresh_place(rabbitmq, tmp_path_factory.mktemp("post"), redis_server.new_database()) as place:
        worker = WorkerProcess(
            "-A", "compat_tasks", "-c", "2", "-l", "info", "-E", "-n", NODE,
            directory=APPS, env=_environment(place, request.param), command=TURBO,
        )  # fmt: skip
        with worker:
            worker.wait_for_line(READY, 60)
            yield Post(request.param, place, worker)


@pytest.mark.row("RC32", "CL27", "EC3")
@pytest.mark.parametrize("version", VERSIONS)
def test_questions(post: Post, version: str) -> None:
    assert f"->  {NODE}: OK" in post.run(version, "status", *ONE)
    stats = post.ask(version, "inspect", "stats")
    assert (stats["pid"], stats["pool"]["max-concurrency"] >= 2) == (post.worker.pid, True)
    assert any(task.startswith("report") for task in post.ask(version, "inspect", "registered"))


@pytest.mark.row("RC32", "CL27", "EC4")
@pytest.mark.parametrize("version", VERSIONS)
def test_changes(post: Post, version: str) -> None:
    assert post.ask(version, "control", "rate_limit", "types", "1000/s") == {"ok": "new rate limit set successfully"}
    assert post.ask(version, "control", "add_consumer", f"added-{version}") == {"ok": f"add consumer added-{version}"}


@pytest.mark.row("EV19", "RC32", "CL27")
@pytest.mark.parametrize("version", VERSIONS)
def test_events_are_dumped(post: Post, version: str) -> None:
    with post.celery(version, "events", "--dump") as monitor:
        monitor.wait_for_line(rf"^{NODE} \[.*\] heartbeat: .*active=", 60)
        identifier = post.run(version, "call", "types", "-a", "[1]").strip()
        monitor.wait_for_line(rf"^{NODE} \[.*\] task received: types\({identifier}\) args=.*queue=celery", 60)
        monitor.wait_for_line(rf"^{NODE} \[.*\] task started: types\({identifier}\)", 60)
        monitor.wait_for_line(rf"^{NODE} \[.*\] task succeeded: types\({identifier}\).*runtime=", 60)


@pytest.mark.row("EV2", "EV3", "EV4", "EV11", "EC16")
@pytest.mark.parametrize("version", VERSIONS)
def test_state_as_monitors_keep_it(post: Post, version: str) -> None:
    """Its app is Celery's: the clients of the older version have no turbo."""
    env = {**post.environment(), "COMPAT_LIB": "celery"}
    told = json.loads(celery_producer(version, STATE, f"{post.kind}-{version}", env=env, timeout=120))
    assert told["task"] == ["SUCCESS", "types", "(1, 2)", "{}", "['1', '2']", NODE, "celery"]
    assert told["times"] is True
    assert told["worker"] == [True, True, post.worker.pid]
