"""Processes that a task forks, and programs that it starts: signals do to them what they do to any other."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

APP = '''
import billiard
import multiprocessing
import subprocess

FORK = multiprocessing.get_context("fork")


def square(number):
    return number * number


def slow(_number):
    time.sleep(60)


def forked(body):
    """Run body in a forked process, which leaves as the task's code does; its wait status."""
    pid = os.fork()
    if pid == 0:
        os._exit(body())
    return os.waitpid(pid, 0)[1]


@app.task(name="proj.pool")
def pool():
    with FORK.Pool(2) as workers:
        return workers.map(square, [1, 2, 3])


@app.task(name="proj.pool_given_up")
def pool_given_up():
    with FORK.Pool(2) as workers:
        try:
            workers.apply_async(slow, (1,)).get(timeout=0.5)
        except multiprocessing.TimeoutError:
            return "given up"


@app.task(name="proj.terminated")
def terminated(library):
    process = {"billiard": billiard, "multiprocessing": FORK}[library].Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(20)
    return process.exitcode


@app.task(name="proj.at_once")
def at_once(number, times):
    """Signal a new process at once, again and again; how they ended."""
    ends = set()
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(99)
        os.kill(pid, number)
        ends.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return sorted(ends)


@app.task(name="proj.in_a_thread")
def in_a_thread():
    import threading
    ends = []
    thread = threading.Thread(target=lambda: ends.extend(at_once.run(signal.SIGTERM, 5)))
    thread.start()
    thread.join()
    return ends


@app.task(name="proj.dispositions")
def dispositions():
    """What a program started by a task finds blocked and ignored."""
    return subprocess.run(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], stdout=-1, text=True).stdout


@app.task(name="proj.own_handler")
def own_handler():
    """A handler that the task has set is the forked process's too."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    return at_once.run(signal.SIGTERM, 1)


@app.task(name="proj.comes_back")
def comes_back(how):
    """A forked process that comes out of the body, in each way; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "exits":
        sys.exit(3)
    if how == "raises":
        raise ValueError("in the forked process")
    return "in the forked process"
'''


@pytest.mark.row("PL23")
def test_forked_processes_hear_signals_as_any_other(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with place.worker("-c", "2", env={"LIB": lib}) as worker:
        worker.wait_for_line(READY)

        def ask(name: str, *args: object) -> Any:
            return place.client.send_task(f"proj.{name}", args=args, queue="celery").get(timeout=60)

        assert [ask("pool") for _ in range(12)] == [[1, 4, 9]] * 12
        assert ask("pool_given_up") == "given up"
        assert [ask("terminated", library) for library in ("billiard", "multiprocessing")] == [-15, -15]
        # TERM, HUP, QUIT, USR1; INT raises KeyboardInterrupt, which ends them as the signal does.
        assert [ask("at_once", number, 30) for number in (15, 1, 3, 10)] == [[-15], [-1], [-3], [-10]]
        assert ask("in_a_thread") == [-15]
        assert ask("dispositions") == _dispositions()
        assert ask("own_handler") == [7]
        assert [ask("comes_back", how) for how in ("returns", "exits", "raises")] == [0, 3, 1]
        worker.terminate()
        assert worker.wait(60) == 0
    assert "died" not in worker.output


def _dispositions() -> str:
    """What a program finds that any Python program starts; HUP, INT and QUIT may be ignored where the tests run."""
    code = (
        "import signal, subprocess; [signal.signal(number, signal.SIG_DFL) for number in (1, 2, 3)]; "
        "subprocess.run(['grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status'])"
    )
    return subprocess.run([sys.executable, "-c", code], stdout=-1, text=True, check=True).stdout
