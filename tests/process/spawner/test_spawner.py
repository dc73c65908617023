"""The spawner with real forks: what a child is given, what becomes of groups, and every order of dying."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from tests.process.ring.world import PATIENCE, readable, scaled
from tests.process.spawner.scenes import ANSWER, SCENES, python, wait_until, worker
from turbo.spawner.messages import Exited

pytestmark = PATIENCE


def gone(pid, seconds=60.0):
    """Wait until ``pid`` has ended (a zombie has); whether it did in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return readable(pidfd, seconds)
    finally:
        os.close(pidfd)


def grandchild_then(link, body):
    """Start a grandchild; then end as asked."""
    pid = os.fork()
    if pid == 0:
        if body == b"escape":
            os.setsid()
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        while True:
            time.sleep(1000)
    if body in (b"orderly", b"crash", b"kill9"):
        link.emit(ANSWER, 1, [b"%d" % pid])
        link.signal()
        if body == b"kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0 if body == b"orderly" else 3)
    return b"%d" % pid


def test_child_is_reported_watched_and_reaped():
    with worker(python) as it:
        pid = it.spawn(1)
        assert it.spawner.lifeline_armed is True
        assert it.ask(1, b"os.getpid()") == b"%d" % pid
        assert it.links[1].page.hello() == pid
        link = it.links[1]
        link.stage(1, [b"os._exit(5)"])
        link.commit()
        assert it.await_report(Exited, 1) == Exited(1, pid, 5)
        assert readable(it.pidfds[1], 1)
        assert not Path(f"/proc/{pid}").exists()
        second = it.spawn(2)
        os.kill(second, signal.SIGSEGV)
        assert it.await_report(Exited, 2).status == -signal.SIGSEGV
    assert it.spawner.close() is None


def test_uncaught_exception_is_a_traceback_and_70(capfd):
    with worker(python) as it:
        it.spawn(1)
        it.links[1].stage(1, [b"1/0"])
        it.links[1].commit()
        assert it.await_report(Exited, 1).status == 70
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_child_leads_its_own_session_with_signals_reset():
    with worker(python) as it:
        pid = it.spawn(1)
        assert it.ask(1, b"os.getsid(0), os.getpgid(0)") == repr((pid, pid)).encode()
        assert it.ask(1, b"signal.pthread_sigmask(signal.SIG_BLOCK, [])") == b"set()"
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, signum)
            os.kill(it.spawner.pid, signum)
        assert it.ask(1, b"signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL") == b"True"
        # What the child lets pass must still end the commands that a task runs.
        code = "import signal; print([signal.getsignal(s) != signal.SIG_IGN for s in (1, 2, 3, 15)])"
        run = f"subprocess.run([sys.executable, '-c', {code!r}], capture_output=True).stdout"
        assert it.ask(1, run.encode()) == repr(b"[True, True, True, True]\n").encode()
        assert not gone(it.spawner.pid, 0)


def test_what_the_app_dropped_at_import_costs_no_child_its_descriptors():
    dropped = [[socket.socketpair()] for _ in range(20)]
    for each in dropped:
        each.append(each)  # only the collector finds it, and closes it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.disable()
        try:
            del dropped, each
            with worker(python) as it:
                it.spawn(1)
                assert it.ask(1, b"1 + 1") == b"2"
        finally:
            gc.enable()


def test_process_forked_by_a_task_has_no_ring_mapped():
    def mapped(link, body):
        pid = os.fork()
        if pid == 0:
            os._exit(Path("/proc/self/maps").read_text().count("memfd:turbo"))
        _, status = os.waitpid(pid, 0)
        own = Path("/proc/self/maps").read_text().count("memfd:turbo")
        return b"%d %d" % (own, os.waitstatus_to_exitcode(status))

    with worker(mapped) as it:
        it.spawn(1)
        assert it.ask(1) == b"3 0"


@pytest.mark.parametrize("end", [b"crash", b"kill9"])
def test_group_of_a_crashed_child_is_gone_when_its_exit_is_reported(end):
    with worker(grandchild_then) as it:
        it.spawn(1)
        grandchild = int(it.ask(1, end))
        assert it.await_report(Exited, 1).status == (3 if end == b"crash" else -signal.SIGKILL)
        assert gone(grandchild)


def test_group_of_an_orderly_child_is_left_alone():
    with worker(grandchild_then) as it:
        it.spawn(1)
        grandchild = int(it.ask(1, b"orderly"))
        assert it.await_report(Exited, 1).status == 0
        assert not gone(grandchild, 0.1)
        os.kill(grandchild, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{grandchild}").exists(), "the spawner did not reap an orphan")


def test_escaped_grandchild_is_reaped_by_the_spawner():
    with worker(grandchild_then) as it:
        pid = it.spawn(1)
        escaped = int(it.ask(1, b"escape"))
        os.kill(pid, signal.SIGKILL)
        it.await_report(Exited, 1)
        wait_until(lambda: not Path(f"/proc/{escaped}").exists(), "the spawner did not reap an orphan")


def test_kill_by_epoch_takes_the_group():
    with worker(grandchild_then) as it:
        pid = it.spawn(1)
        grandchild = int(it.ask(1, b"stay"))
        it.spawner.kill(99)
        it.spawner.kill(1)
        assert it.await_report(Exited, 1) == Exited(1, pid, -signal.SIGKILL)
        assert gone(grandchild)


def test_many_recyclings_leak_nothing_in_the_spawner():
    with worker(python) as it:
        source = random.Random(3)
        counts = set()
        for epoch in range(1, scaled(40, 2_000)):
            pid = it.spawn(epoch)
            if source.random() < 0.5:
                # At any moment of its start, also before its session exists.
                time.sleep(source.random() / 500)
            os.kill(pid, signal.SIGKILL)
            assert it.await_report(Exited, epoch).status == -signal.SIGKILL
            it.links.pop(epoch).close()
            os.close(it.pidfds.pop(epoch))
            it.reports.clear()
            counts.add(len(os.listdir(f"/proc/{it.spawner.pid}/fd")))
            assert len(os.listdir(f"/proc/{it.spawner.pid}/task")) == 1, "the spawner has a second thread"
        assert len(counts) == 1


@pytest.mark.parametrize("scene", SCENES)
def test_scene_in_a_process_of_its_own(scene):
    """What these look at is the whole process, which here has servers and threads of other tests."""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.process.spawner.scenes", scene],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (0, f"{scene} holds\n"), run.stderr


@contextlib.contextmanager
def stand_in(count=3):
    """A master in another process with children and grandchildren, all killed at the end."""
    master = subprocess.Popen(
        [sys.executable, "-m", "tests.process.spawner.stand_in", str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = {"spawner": 0, "family": []}
    try:
        pids = json.loads(master.stdout.readline())
        assert len(pids["family"]) == 2 * count
        yield master, pids["spawner"], pids["family"]
    finally:
        master.kill()
        master.wait()
        master.stdout.close()
        for pid in filter(None, [pids["spawner"], *pids["family"]]):
            # Orphans come to this process, which became a subreaper with its first spawner.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def all_gone(pids, seconds=60.0):
    deadline = time.monotonic() + seconds
    return [pid for pid in pids if not gone(pid, max(0.0, deadline - time.monotonic()))]


def test_killed_master_takes_children_and_grandchildren_with_it():
    with stand_in() as (master, spawner, family):
        assert all_gone(family, 0.05) == family
        master.kill()
        assert all_gone([spawner, *family]) == []


def test_killed_master_with_a_stopped_spawner():
    with stand_in() as (master, spawner, family):
        os.kill(spawner, signal.SIGSTOP)
        wait_until(lambda: state(spawner) == "T")
        master.kill()
        assert all_gone([*family, spawner]) == []


def test_killed_master_after_its_spawner():
    with stand_in() as (master, spawner, family):
        os.kill(spawner, signal.SIGKILL)
        assert gone(spawner)
        assert all_gone(family, 0.1) == family, "children died with the spawner"
        master.kill()
        assert all_gone(family) == []


def test_killed_master_where_the_kernel_sends_nothing():
    """The spawner alone ends them: the lifelines are disarmed, as by a body that closes everything."""

    def disarm(link, body):
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe"):
                    os.close(fd)
        link.emit(ANSWER, 1, [b"%d" % os.getpid()])
        link.signal()
        while True:
            time.sleep(1000)

    with worker(disarm) as it:
        pid = it.spawn(1)
        assert it.ask(1) == b"%d" % pid
        # The lifeline would act first: keep its write end open beyond the control socket.
        kept = os.dup(it.spawner._lifeline_fd)
        it.spawner._control.shutdown(socket.SHUT_RDWR)
        assert gone(pid)
        assert gone(it.spawner.pid)
        os.close(kept)


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
