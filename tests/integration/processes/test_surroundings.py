"""Surroundings that a worker may find: closed streams, an ASCII terminal, no directory, no /proc, strict warnings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

ROOT = Path(__file__).resolve().parents[3]
APP = '''
@app.task(name="proj.streams")
def streams():
    """What the first three descriptors are; something is printed, too."""
    print("a task prints")
    return [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]


@app.task(name="proj.plain")
def plain():
    return "done"


@app.task(name="proj.die")
def die():
    os.kill(os.getpid(), signal.SIGKILL)
'''


def _command(place: Place, lib: str, shell: str) -> WorkerProcess:
    """A worker started by a line of shell, in which $WORKER is the command."""
    env = {
        "LIB": lib, "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": f"{place.directory}:{ROOT}",
        "PROJ_BROKER": place.vhost, "PROJ_BACKEND": place.client.conf.result_backend,
        "WORKER": f"{sys.executable} -m turbo -A proj worker -l info -c 1",
    }  # fmt: skip
    return WorkerProcess(directory=place.directory, env=env, command=("bash", "-c", shell))


def _ask(place: Place, name: str) -> Any:
    """Its result, or the text of the error that it ended with."""
    found = place.client.send_task(f"proj.{name}", queue="celery").get(timeout=60, propagate=False)
    return str(found) if isinstance(found, Exception) else found


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(place: Place, lib: str, closed: str) -> None:
    place.write(APP, head=HEAD)
    log = place.directory / "log"
    with _command(place, lib, f"exec $WORKER -f {log} {closed}") as worker:
        wait_until("it is ready", lambda: log.exists() and "ready." in log.read_text(), 60)
        seen = _ask(place, "streams")
        for number, sign in enumerate(("<&-", ">&-", "2>&-")):
            if sign in closed.split():
                assert seen[number] == "/dev/null"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert "a task prints" in log.read_text()


def test_closed_streams_without_a_log_file(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with _command(place, lib, "exec $WORKER <&- >&- 2>&-") as worker:
        assert _ask(place, "plain") == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_output_in_ascii(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with _command(place, lib, "PYTHONIOENCODING=ascii exec $WORKER -n 'wörker@here'") as worker:
        worker.wait_for_line(READY)
        assert _ask(place, "plain") == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_a_directory_that_is_gone(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with _command(place, lib, "mkdir gone; cd gone; rmdir ../gone; exec $WORKER") as worker:
        worker.wait_for_line(READY)
        assert _ask(place, "plain") == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_no_app_is_looked_for_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    line = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -m turbo worker"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "the working directory is gone" in run.stderr
    assert "Traceback" not in run.stderr


def test_without_proc(place: Place, lib: str) -> None:
    """In a mount namespace of its own, which needs root, as the other tests of this kind do."""
    place.write(APP, head=HEAD)
    with _command(place, lib, "exec unshare -m bash -c 'mount -t tmpfs none /proc; exec $WORKER'") as worker:
        worker.wait_for_line(READY)
        assert _ask(place, "plain") == "done"
        assert "signal 9" in _ask(place, "die")
        assert _ask(place, "plain") == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_warnings_that_are_errors(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with _command(place, lib, "PYTHONWARNINGS=error exec $WORKER") as worker:
        worker.wait_for_line(READY)
        assert _ask(place, "plain") == "done"
        assert "signal 9" in _ask(place, "die")
        assert _ask(place, "plain") == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
