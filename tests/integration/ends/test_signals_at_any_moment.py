"""Every signal that a worker handles has its effect at every moment, from the import of the app to the last line.

The app itself sends the signal where the moment matters; elsewhere moments are random, and a failure names them.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
LIBRARIES = ("turbo", "celery")
#: Sends a signal at one moment of its start, once: a worker that starts anew finds the file.
APP = """
import os, pathlib, signal, time
from {library} import {cls}
from {library}.signals import worker_init

moment, number = "{moment}", {number}

def send(*_, **__):
    if not pathlib.Path("sent").exists():
        pathlib.Path("sent").touch()
        os.kill(os.getpid(), number)

print("importing", flush=True)
if moment == "import":
    send()
elif moment == "set-up":
    worker_init.connect(send, weak=False)
elif moment == "fork":
    os.register_at_fork(before=send)
elif moment == "long":
    # Most apps take a while.
    time.sleep(0.5)

app = {cls}("app")
"""


def started(directory: Path, url: str, library: str, moment: str, number: int = 0) -> WorkerProcess:
    cls = "Turbo" if library == "turbo" else "Celery"
    (directory / "app.py").write_text(APP.format(library=library, cls=cls, moment=moment, number=number))
    return WorkerProcess(
        "-A", "app", "-c", "1", "-l", "INFO", "--pidfile", "w.pid",
        directory=directory, env={"CELERY_BROKER_URL": url, "C_FORCE_ROOT": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        # It ends as any other program does: nothing is to be cleaned up yet.
        ("import", signal.SIGTERM, -signal.SIGTERM),
        ("import", signal.SIGQUIT, -signal.SIGQUIT),
        ("set-up", signal.SIGTERM, -signal.SIGTERM),
        ("set-up", signal.SIGINT, 1),
        # From here on it ends in order.
        ("fork", signal.SIGTERM, 0),
        ("fork", signal.SIGINT, 1),
        ("fork", signal.SIGQUIT, 1),
    ],
)
def test_a_signal_that_stops_a_worker_that_starts(
    library: str, moment: str, number: int, code: int, tmp_path: Path, vhost: str
) -> None:
    with started(tmp_path, vhost, library, moment, number) as worker:
        assert worker.wait(60) == code, worker.output
        assert worker.children() == []
        assert not (tmp_path / "w.pid").exists()
        assert "Traceback" not in worker.output


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("moment", ["import", "fork"])
def test_a_restart_that_is_asked_for_while_the_worker_starts(
    library: str, moment: str, tmp_path: Path, vhost: str
) -> None:
    with started(tmp_path, vhost, library, moment, signal.SIGHUP) as worker:
        worker.wait_for_line("^Restarting celery worker", 60)
        # Not from the last line on: the worker may be ready by now.
        lines = worker.output.splitlines()
        since = next(number for number, line in enumerate(lines) if line.startswith("Restarting celery worker"))
        worker.wait_for_line(READY, 60, since=since)
        worker.terminate()
        assert worker.wait() == 0


def again_and_again() -> Iterator[None]:
    """Pace the sending of signals."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        yield
        time.sleep(0.01)
    raise AssertionError("still not there after many signals")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_worker_that_gets_usr1_all_its_life(library: str, tmp_path: Path, vhost: str) -> None:
    """It prints stacks, starts and ends. When it stops, more of TERM and HUP change nothing."""
    with started(tmp_path, vhost, library, "long") as worker:
        worker.wait_for_line("^importing", 60)
        for _ in again_and_again():
            worker.send_signal(signal.SIGUSR1)
            if " ready." in worker.output or worker.process.poll() is not None:
                break
        worker.wait_for_line(READY, 1)
        worker.terminate()
        worker.wait_for_line("Warm shutdown")
        for _ in again_and_again():
            for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
                worker.send_signal(number)
            if worker.process.poll() is not None:
                break
        assert worker.wait() == 0, worker.output[-3000:]
        assert "most recent call first" in worker.output
        assert 'app.py", line' in worker.output, "the stack of the import is among them"


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_is_stopped_at_a_random_moment(library: str, number: int, tmp_path: Path, vhost: str) -> None:
    after = random.uniform(0, 1.5)
    with started(tmp_path, vhost, library, "long") as worker:
        worker.wait_for_line("^importing", 60)
        time.sleep(after)
        worker.send_signal(number)
        code = worker.wait(60)
        assert code in (-number, 0 if number == signal.SIGTERM else 1), f"after {after} s: {worker.output}"
        assert worker.children() == []
        assert not (tmp_path / "w.pid").exists(), f"after {after} s"
