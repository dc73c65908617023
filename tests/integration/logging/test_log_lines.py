"""What a worker writes: JSON lines, the task in every record, streams redirected by a task."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo import Turbo

APP = "tests.integration.logging.logging_tasks"
Start = Callable[..., AbstractContextManager[WorkerProcess]]


@pytest.fixture
def client(vhost: str) -> Iterator[Turbo]:
    with Turbo("client", broker=vhost, set_as_current=False) as made:
        yield made


@pytest.fixture
def start(vhost: str, tmp_path: Path) -> Start:
    @contextmanager
    def begin(*options: str, ready: bool = True, **env: str) -> Iterator[WorkerProcess]:
        command = ("-A", APP, "-c", "1", "-l", "info", *options)
        with WorkerProcess(*command, directory=tmp_path, env={"LOGGING_BROKER": vhost, **env}) as worker:
            if ready:
                worker.wait_for_line(r"ready\.")
            yield worker

    return begin


def _lines(*paths: Path) -> list[dict[str, Any]]:
    """Every whole line of these files; each must be an object."""
    texts = [path.read_text() for path in paths if path.exists()]
    return [json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]


def _is_ready(line: dict[str, Any]) -> bool:
    return str(line["message"]).endswith(" ready.")


@pytest.mark.row("LG2", "LG8", "LG9")
@pytest.mark.parametrize("kind", ["turbo", "celery"])
def test_every_line_is_an_object_and_names_its_task(kind: str, start: Start, client: Turbo, tmp_path: Path) -> None:
    logs = [tmp_path / "w.log", tmp_path / "w-1.log"]
    env = {"LOGGING_CELERY": "1"} if kind == "celery" else {}
    with start("--log-json", "-f", "w%I.log", ready=False, **env) as worker:
        said, failed = client.send_task("shop.say", ("hallo ä",)).id, client.send_task("shop.fails").id
        wait_until("both ends", lambda: sum("data" in line for line in _lines(logs[1])) >= 2, 60)
        wait_until("the worker's own line", lambda: any(map(_is_ready, _lines(logs[0]))), 60)
        worker.terminate()
        assert worker.wait() == 0
    lines = _lines(*logs)
    by_message = {line["message"]: line for line in lines}
    for message, logger in (
        ("task's: hallo ä", "shop.tasks"),
        ("library's: hallo ä", "shop.library"),
        ("printed: hallo ä", "celery.redirected"),
    ):
        line = by_message[message]
        assert (line["logger"], line["task_name"], line["task_id"]) == (logger, "shop.say", said)
        assert (line["level"], line["process"]) == ("WARNING", "ForkPoolWorker-1")
    assert by_message["library's: hallo ä"]["order"] == 7
    assert by_message["handled"]["exception"].endswith("KeyError: 'inner'")
    received = by_message[f"Task shop.say[{said}] received"]
    assert (received["process"], received["task_id"]) == ("MainProcess", said)
    ends = {line["task_id"]: line for line in lines if line["logger"] == "celery.app.trace"}
    assert (ends[said]["data"]["return_value"], ends[said]["level"]) == ("'hallo ä'", "INFO")
    assert ends[said]["data"]["runtime"] > 0
    assert ends[failed]["data"]["exc"] == "ValueError('boom')" and ends[failed]["level"] == "ERROR"
    ready = next(filter(_is_ready, lines))
    assert "task_id" not in ready and ready["pid"] == worker.pid


@pytest.mark.row("LG2", "LG5", "LG8")
def test_a_programs_own_handlers_and_a_tasks_own_redirection(start: Start, client: Turbo) -> None:
    with start(LOGGING_OWN="1") as worker:
        said = client.send_task("shop.say", ("hello",)).id
        worker.wait_for_line(rf"^OWN shop\.say\[{said}\] own: hello$")
        worker.wait_for_line(r"^DATA \['args', 'id', 'kwargs', 'name', 'return_value', 'runtime'\] shop\.say$")
        client.send_task("shop.fails")
        worker.wait_for_line(r"^DATA \['args', 'description', 'exc', 'hostname', 'id', 'internal', 'kwargs', 'name', "
                             r"'traceback'\] shop\.fails$")  # fmt: skip
        redirected = client.send_task("shop.redirects").id
        by_task = rf"WARNING/ForkPoolWorker-1\] shop\.redirects\[{redirected}\]: "
        worker.wait_for_line(by_task + "by the task's logger$")
        worker.wait_for_line(by_task + "an error$")
        last = worker.wait_for_line(r"by the worker's again$")
        assert not re.search(by_task, last.string)
