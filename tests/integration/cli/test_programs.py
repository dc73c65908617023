"""Programs that start the worker themselves, with turbo's own app and, below ``turbo exec``, with a Celery app."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
#: A program in the manner of ``airflow celery worker``: it does things before and after, and has options of its own.
PROGRAM = """
import os, sys
from {library} import {cls}

app = {cls}("proj")
app.conf.worker_redirect_stdouts = False

@app.task(name="proj.add")
def add(x, y):
    return x + y

if __name__ == "__main__":
    print("before", os.environ.get("FROM_ELSEWHERE"), flush=True)
    # As Airflow does it: numbers among the words, and None for what is not given.
    options = ["worker", "-c", 1, "-n", "w1@here", "-l", "INFO", "--without-mingle", "--time-limit", None]
    code = None
    if sys.argv[1] == "worker_main":
        code = app.worker_main(options)
    elif sys.argv[1] == "start":
        code = app.start(options)
    elif sys.argv[1] == "Worker":
        worker = app.Worker(hostname="w1@here", concurrency=1, loglevel="INFO", include=["os"], without_mingle=True)
        worker.start()
        code = worker.exitcode
    elif sys.argv[1] == "stopping itself":
        from {library}.signals import worker_ready
        worker = app.Worker(hostname="w1@here", concurrency=1, loglevel="INFO")
        worker_ready.connect(lambda **_: worker.stop(), weak=False)
        worker.start()
        code = worker.exitcode
    elif sys.argv[1] == "thread":
        import threading
        starting = threading.Thread(target=app.Worker(hostname="w1@here").start)
        starting.start()
        starting.join()
    elif sys.argv[1] == "subclass":
        class Mine(app.Worker):
            def on_start(self):
                pass
    elif sys.argv[1] == "click":
        from celery.bin.celery import celery
        code = celery.main(["-A", "proj", "worker", "-c", "1", "-n", "w1@here", "-l", "INFO"], standalone_mode=False)
    import signal
    print("after", code, signal.getsignal(signal.SIGTERM).name, flush=True)
"""


def started(directory: Path, vhost: str, library: str, how: str, *before: str) -> WorkerProcess:
    (directory / "proj.py").write_text(PROGRAM.format(library=library, cls="Turbo" if library == "turbo" else "Celery"))
    (directory / "sitecustomize.py").write_text("import os; os.environ['FROM_ELSEWHERE'] = 'sitecustomize'")
    paths = [str(directory), str(Path(__file__).parents[3])]
    return WorkerProcess(
        directory=directory,
        env={"CELERY_BROKER_URL": vhost, "C_FORCE_ROOT": "1", "PYTHONPATH": os.pathsep.join(paths)},
        command=[*before, sys.executable, "proj.py", how],
    )


def runs_and_ends(worker: WorkerProcess) -> str:
    """Wait until turbo's worker is ready, end it; return the output."""
    with worker:
        worker.wait_for_line(r"^turbo .* w1@here$", 60)
        worker.wait_for_line(READY, 60)
        worker.terminate()
        assert worker.wait() == 0
        assert worker.output.startswith("before")
        return worker.output


BELOW_EXEC = (sys.executable, "-m", "turbo", "exec", "--")


@pytest.mark.parametrize("how", ["worker_main", "start", "Worker"])
def test_a_program_with_turbos_app(how: str, tmp_path: Path, vhost: str) -> None:
    output = runs_and_ends(started(tmp_path, vhost, "turbo", how))
    assert "after 0 SIG_DFL" in output, "the program has its own signal handlers back"


@pytest.mark.parametrize("how", ["worker_main", "start", "Worker", "click"])
def test_a_program_with_celerys_app_below_turbo_exec(how: str, tmp_path: Path, vhost: str) -> None:
    output = runs_and_ends(started(tmp_path, vhost, "celery", how, *BELOW_EXEC))
    assert "before sitecustomize" in output, "the environment's own sitecustomize runs too"
    assert "after" in output
    assert "SIG_DFL" in output
    if how == "Worker":
        assert "after 0" in output


@pytest.mark.parametrize(("library", "before"), [("turbo", ()), ("celery", BELOW_EXEC)])
def test_a_worker_that_a_receiver_stops(library: str, before: tuple[str, ...], tmp_path: Path, vhost: str) -> None:
    with started(tmp_path, vhost, library, "stopping itself", *before) as worker:
        assert worker.wait(60) == 0
        assert "TERM: warm shutdown" in worker.output
        assert "after 0" in worker.output


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("thread", "it must be started in the program's main thread"),
        ("subclass", "Mine changes on_start of Celery's Worker"),
    ],
)
def test_what_cannot_work_is_refused_by_name(how: str, why: str, tmp_path: Path, vhost: str) -> None:
    with started(tmp_path, vhost, "celery", how, *BELOW_EXEC) as program:
        program.wait(60)
        assert why in program.output


@pytest.mark.parametrize(("library", "before"), [("turbo", ()), ("celery", BELOW_EXEC)])
def test_a_restart_comes_after_the_programs_own_end(
    library: str, before: tuple[str, ...], tmp_path: Path, vhost: str
) -> None:
    """HUP starts the program anew, not only its worker; what it does at its end is done first."""
    with started(tmp_path, vhost, library, "worker_main", *before) as worker:
        worker.wait_for_line(READY, 60)
        here = worker.mark()
        worker.send_signal(signal.SIGHUP)
        worker.wait_for_line("^after", 60, since=here)
        worker.wait_for_line("^before", 60, since=here)
        worker.wait_for_line(READY, 60, since=here)
        worker.terminate()
        assert worker.wait() == 0


def test_a_program_without_a_worker_is_left_alone(tmp_path: Path, vhost: str) -> None:
    program = started(tmp_path, vhost, "celery", "nothing", sys.executable, "-m", "turbo", "exec")
    with program as running:
        assert running.wait() == 0
        assert running.output.splitlines() == ["before sitecustomize", "after None SIG_DFL"]
    missing = WorkerProcess(directory=tmp_path, command=[sys.executable, "-m", "turbo", "exec", "no-such-program"])
    with missing as running:
        assert running.wait() == 1
        assert "cannot run no-such-program" in running.output


def test_the_worker_is_the_programs_process(tmp_path: Path, vhost: str) -> None:
    with started(tmp_path, vhost, "celery", "worker_main", sys.executable, "-m", "turbo", "exec") as worker:
        worker.wait_for_line(READY, 60)
        assert psutil.Process(worker.pid).children(), "its children are the worker's"
        worker.terminate()
        assert worker.wait() == 0
