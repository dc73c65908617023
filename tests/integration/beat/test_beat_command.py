"""``turbo beat`` as an operator meets it: a real process, a real broker, and a worker of either kind."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess

BEAT = (sys.executable, "-m", "turbo", "beat")
TASKS = """
from turbo import Turbo
from turbo.beat import BeatLazyFunc
from turbo.schedules import crontab, schedule

app = Turbo("shop", beat_schedule={
    "hourly": {"task": "shop.hourly", "schedule": crontab(minute=0)},
})

@app.task(name="shop.tick")
def tick(when):
    print("ticked", flush=True)

class Noting(schedule):
    def now(self):
        Noting.latest = super().now()
        return Noting.latest

@app.on_after_configure.connect
def periodic(sender, **_):
    # The argument is the time of the run, from which the next is counted: it may be sent somewhat later.
    run = BeatLazyFunc(lambda: Noting.latest.timestamp())
    sender.add_periodic_task(Noting(0.5), tick.s(run), name="often", queue="ticks")
"""


class Ticks:
    """The queue of the ticks."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.queue_declare("ticks", durable=True)
        self.headers: list[dict[str, Any]] = []
        self.times: list[float] = []

    def take(self) -> int:
        """Take what has come; how many there are by now."""
        while True:
            method, properties, body = self._channel.basic_get("ticks", auto_ack=True)
            if method is None:
                return len(self.times)
            self.headers.append(properties.headers)
            self.times.append(json.loads(body)[0][0])

    def wait(self, more: int) -> None:
        """Wait for so many more ticks."""
        wanted = self.take() + more
        wait_until(f"{wanted} ticks", lambda: self.take() >= wanted, 60)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


@pytest.fixture
def ticks(vhost: str) -> Iterator[Ticks]:
    found = Ticks(vhost)
    yield found
    found.close()


def beat(project: Path, vhost: str, *options: str) -> WorkerProcess:
    return WorkerProcess("-b", vhost, "-l", "info", *options, directory=project, command=BEAT)


@pytest.mark.row("CL27", "EC1")
def test_it_sends_what_is_due_and_ends_when_asked(project: Path, vhost: str, ticks: Ticks) -> None:
    with beat(project, vhost, "-s", "runs", "--pidfile", "beat.pid") as process:
        process.wait_for_line(r"app tasks:app \(tasks.py in this directory\)")
        process.wait_for_line(r"INFO/MainProcess\] beat: Starting\.\.\.")
        process.wait_for_line(r"Scheduler: Sending due task often \(shop\.tick\)")
        ticks.wait(3)
        assert (project / "beat.pid").read_text().strip() == str(process.pid)
        process.terminate()
        assert process.wait() == 0
        process.wait_for_line(r"beat: Shutting down\.\.\.")
    assert not (project / "beat.pid").exists()
    headers = ticks.headers[0]
    assert (headers["task"], headers["celery_beat_task"], headers["periodic_task_name"]) == ("shop.tick", True, "often")
    runs = json.loads((project / "runs.turbo").read_text())["runs"]
    assert runs["often"]["total_run_count"] >= 3
    assert runs["hourly"]["total_run_count"] == 0


def test_a_worker_runs_what_beat_sends(project: Path, vhost: str) -> None:
    with (
        beat(project, vhost),
        WorkerProcess("-b", vhost, "-c", "1", "-l", "info", "-Q", "ticks", directory=project) as worker,
    ):
        worker.wait_for_line(r"WARNING/ForkPoolWorker-1\] shop\.tick\[.*\]: ticked|ticked", 60)


def test_killed_at_any_moment_it_repeats_no_run(project: Path, vhost: str, ticks: Ticks) -> None:
    for _ in range(4):
        with beat(project, vhost) as process:
            ticks.wait(2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert json.loads((project / "celerybeat-schedule.turbo").read_text())["version"] == 1
    ticks.take()
    gaps = [later - sooner for sooner, later in zip(ticks.times, ticks.times[1:], strict=False)]
    assert min(gaps) > 0.499, gaps


def test_a_damaged_file_is_set_aside(project: Path, vhost: str, ticks: Ticks) -> None:
    (project / "celerybeat-schedule.turbo").write_bytes(b"\x13\x57")
    with beat(project, vhost) as process:
        process.wait_for_line(
            r"celerybeat-schedule\.turbo is damaged.*renamed to .*celerybeat-schedule\.turbo\.damaged"
        )
        ticks.wait(1)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--scheduler", "no.such:Scheduler"], 1, "cannot be imported"),
        (["-s", "no/such/place"], 1, "cannot be written"),
        (["-A", "nothing"], 1, "no module"),
        (["--max-interval", "x"], 2, "max-interval"),
    ],
)
def test_what_cannot_run_says_why(project: Path, vhost: str, options: list[str], code: int, text: str) -> None:
    with beat(project, vhost, *options) as process:
        assert process.wait() == code
        process.wait_for_line(text)


def test_two_beats_with_one_pidfile(project: Path, vhost: str) -> None:
    with beat(project, vhost, "--pidfile", "beat.pid") as first:
        first.wait_for_line("beat: Starting")
        with beat(project, vhost, "--pidfile", "beat.pid") as second:
            assert second.wait() == 73
            second.wait_for_line("is held by a running")
