"""``turbo worker -B``: beat beside the worker, of both kinds of app."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess

NATIVE = """
from turbo import Turbo
app = Turbo("shop")

@app.task(name="shop.tick")
def tick():
    print("ticked", flush=True)

app.add_periodic_task(0.5, tick.s(), name="often")
"""
ADOPTED = NATIVE.replace("from turbo import Turbo", "from celery import Celery as Turbo")


@pytest.fixture(params=[NATIVE, ADOPTED], ids=["native", "adopted"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(request.param)
    return tmp_path


def worker(project: Path, vhost: str, *options: str) -> WorkerProcess:
    return WorkerProcess("-b", vhost, "-c", "1", "-l", "info", "-B", *options, directory=project)


def beat_of(process: WorkerProcess) -> psutil.Process:
    """The beat beside a worker, once it has started."""
    wait_until("a beat", lambda: bool(process.children(r"celerybeat@.*:Beat")), 60)
    return process.children(r"celerybeat@.*:Beat")[0]


@pytest.mark.row("CL19")
def test_it_sends_is_started_again_and_ends_with_the_worker(project: Path, vhost: str) -> None:
    with worker(project, vhost, "-s", "runs") as process:
        process.wait_for_line(r"Beat runs beside this worker \(pid \d+\)")
        process.wait_for_line(r"Scheduler: Sending due task often \(shop\.tick\)", 60)
        process.wait_for_line("ticked", 60)
        assert list(project.glob("runs*"))
        first = beat_of(process)
        since = process.mark()
        first.kill()
        process.wait_for_line(r"Beat \(pid \d+\) has ended with code -9; starting it again in [\d.]+ s", since=since)
        process.wait_for_line(r"Sending due task", 60, since=since)
        second = beat_of(process)
        process.terminate()
        assert process.wait() == 0
        wait_until("beat is gone", lambda: not second.is_running(), 60)
    assert process.output.count("Beat runs beside this worker") == 2


@pytest.mark.row("CL19")
def test_it_ends_with_a_worker_that_is_killed(project: Path, vhost: str) -> None:
    with worker(project, vhost) as process:
        process.wait_for_line(r"beat: Starting", 60)
        beat = beat_of(process)
        process.kill()
        wait_until("beat is gone", lambda: not beat.is_running() or beat.status() == psutil.STATUS_ZOMBIE, 60)


def test_a_beat_that_does_not_end_is_killed(project: Path, vhost: str) -> None:
    with worker(project, vhost) as process:
        process.wait_for_line(r"beat: Starting", 60)
        beat = beat_of(process)
        os.kill(beat.pid, signal.SIGSTOP)
        process.terminate()
        assert process.wait() == 0
        process.wait_for_line(r"does not end when asked to; killing it")
        wait_until("beat is gone", lambda: not beat.is_running(), 60)


def test_a_beat_that_cannot_run_is_tried_again_with_pauses(project: Path, vhost: str) -> None:
    with worker(project, vhost, "--scheduler", "no.such:Scheduler") as process:
        process.wait_for_line(r"no\.such", 60)
        for _ in range(2):
            since = process.mark()
            found = process.wait_for_line(r"has ended with code 1; starting it again in ([\d.]+) s", 60, since=since)
            assert re.fullmatch(r"[\d.]+", found[1])
        assert "ready." in process.output
