"""How a worker ends, or begins again: by HUP, with signals that were blocked, with threads that do not end."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.harness.processes import Stopwatch, wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

APP = """
import threading

@app.task(name="proj.pid", acks_late=True)
def pid():
    return [os.getppid(), os.getpid()]


@app.task(name="proj.wait", acks_late=True)
def wait(path):
    open(path + ".in", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"
"""
STUBBORN = """
threading.Thread(target=time.sleep, args=(3600,), name="stubborn").start()
import atexit
atexit.register(lambda: os.write(2, b"exit handler\\n"))
"""


@pytest.mark.row("CL25")
def test_hup_runs_the_command_anew_in_the_same_process(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    pidfile, gate = place.directory / "pid", place.directory / "gate"
    with place.worker("-c", "1", "--pidfile", str(pidfile), env={"LIB": lib}) as worker:
        worker.wait_for_line(READY)
        for _ in range(2):
            running = place.client.send_task("proj.wait", (str(gate),), queue="celery")
            _wait_running(place)
            mark = worker.mark()
            worker.send_signal(signal.SIGHUP)
            worker.wait_for_line("HUP: warm shutdown", since=mark)
            # Another one asks for nothing more, whenever it comes.
            worker.send_signal(signal.SIGHUP)
            gate.touch()
            worker.wait_for_line(READY, since=mark)
            assert running.get(timeout=60) == "done"
            gate.unlink()
            assert place.client.send_task("proj.pid", queue="celery").get(timeout=60)
            assert pidfile.read_text().strip() == str(worker.pid)
            assert worker.output.count(f"Restarting the worker in the same process (pid {worker.pid})") >= 1
        worker.terminate()
        assert worker.wait(60) == 0
    assert not pidfile.exists()


@pytest.mark.row("CL25")
def test_term_after_hup_ends_it(place: Place) -> None:
    place.write(APP, head=HEAD)
    gate = place.directory / "gate"
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY)
        place.client.send_task("proj.wait", (str(gate),), queue="celery")
        _wait_running(place)
        worker.send_signal(signal.SIGHUP)
        worker.wait_for_line("HUP: warm shutdown")
        worker.terminate()
        gate.touch()
        assert worker.wait(60) == 0
    assert "Restarting the worker" not in worker.output


def test_it_says_what_it_waits_for(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    gate = place.directory / "gate"
    with place.worker("-c", "1", "--shutdown-timeout", "300", env={"LIB": lib}) as worker:
        worker.wait_for_line(READY)
        sent = place.client.send_task("proj.wait", (str(gate),), queue="celery")
        _wait_running(place)
        worker.terminate()
        said = worker.wait_for_line("Waiting for 1 running task: ").string
        assert f"proj.wait[{sent.id}] (for " in said
        assert "INT or QUIT ends them (cold shutdown)" in said
        assert "turns cold in 29" in said
        gate.touch()
        assert worker.wait(60) == 0


def test_signals_blocked_at_the_start_are_handled(place: Place) -> None:
    place.write(APP, head=HEAD)
    blocking = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); "
        "os.execv(sys.executable, [sys.executable, '-m', 'turbo', *sys.argv[1:]])"
    )
    env = {"PROJ_BROKER": place.vhost, "PROJ_BACKEND": place.client.conf.result_backend, "PYTHONWARNINGS": "ignore"}
    command = (sys.executable, "-c", blocking, "-A", "proj", "worker", "-l", "info", "-c", "1")
    with WorkerProcess(directory=place.directory, env=env, command=command) as worker:
        worker.wait_for_line(READY)
        worker.terminate()
        assert worker.wait(60) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_threads_that_do_not_end_do_not_keep_it(place: Place, how: signal.Signals) -> None:
    place.write(APP + STUBBORN, head=HEAD)
    with place.worker("-c", "1", "--shutdown-timeout", "5") as worker:
        worker.wait_for_line(READY)
        mark, since = worker.mark(), Stopwatch()
        worker.send_signal(how)
        if how is signal.SIGHUP:
            worker.wait_for_line(READY, since=mark)
            worker.terminate()
        assert worker.wait(60) == 0
        assert since.seconds < 30
    assert "Threads of the app (stubborn) have not ended within 5 s" in worker.output
    assert worker.output.count("exit handler") == 1


def _wait_running(place: Place) -> None:
    """Wait until ``proj.wait`` is in its body."""
    started = place.directory / "gate.in"
    wait_until("it runs", started.exists, 60)
    started.unlink()
