"""The master's side in the spawner's tests, and scenes that need a process without other children or threads.

Run one as ``python -m tests.process.spawner.scenes NAME``; it says that it holds, or ends with a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.process.ring.world import readable
from turbo import failpoint
from turbo.ring.link import ChildLink, MasterLink
from turbo.spawner.handle import SpawnerGone, start_spawner
from turbo.spawner.messages import Exited, Spawned, SpawnFailed

ANSWER = 9


class Worker:
    """The master's side of a spawner, for one test."""

    def __init__(self, spawner):
        self.spawner = spawner
        self.links = {}
        self.reports = []
        self.pidfds = {}

    def spawn(self, epoch):
        """Spawn a child; return its pid."""
        link = self.links[epoch] = MasterLink(epoch)
        self.spawner.spawn(epoch, 0, link.child_fds())
        link.close_child_fds()
        report = self.await_report(Spawned, epoch)
        self.pidfds[epoch] = report.pidfd
        return report.pid

    def await_report(self, kind, epoch):
        while True:
            for report in self.reports:
                if isinstance(report, kind) and report.epoch == epoch:
                    return report
            assert readable(self.spawner.fileno()), f"no {kind.__name__} came"
            self.reports += self.spawner.receive()
            assert not self.spawner.gone

    def ask(self, epoch, body=b""):
        """Give the child one record; return its answer."""
        link = self.links[epoch]
        link.stage(1, [body])
        link.commit()
        return self.answer(epoch)

    def answer(self, epoch):
        assert readable(self.links[epoch].outcome_fd), "no answer came"
        ((_, _, answer),) = self.links[epoch].drain()
        return answer

    def close(self):
        for link in self.links.values():
            link.close()
        for pidfd in self.pidfds.values():
            os.close(pidfd)
        return self.spawner.close()


@contextlib.contextmanager
def worker(act, **options):
    """Make a worker whose children run ``act(link, body) -> bytes`` for each record."""

    def child_main(boot):
        link = ChildLink.attach(boot.epoch, boot.fds, lifeline_fd=boot.lifeline_fd)
        link.page.hello(os.getpid())
        while True:
            record = link.claim()
            if record is None:
                link.wait()
                continue
            link.emit(ANSWER, record[1], [act(link, record[2])])
            link.signal()

    it = Worker(start_spawner(child_main, **options))
    assert it.spawner.wait_ready(60)
    try:
        yield it
    finally:
        it.close()


def python(link, body):
    """Evaluate the record as a Python expression, for remote control of a child."""
    return repr(eval(body, {"os": os, "signal": signal, "subprocess": subprocess, "sys": sys})).encode()


def wait_until(condition, message="it did not come to that"):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, message
        select.select([], [], [], 0.002)


def children_outlive_the_spawner_and_the_master_reaps_them():
    with worker(python) as it:
        pid = it.spawn(1)
        os.kill(it.spawner.pid, signal.SIGKILL)
        assert readable(it.spawner.pidfd)
        wait_until(lambda: it.spawner.receive() == [] and it.spawner.gone)
        with pytest.raises(SpawnerGone):
            it.spawner.spawn(2, 0, ())
        assert it.ask(1, b"os.getppid()") == b"%d" % os.getpid()
        assert pid not in [report.pid for report in it.spawner.reap_orphans({pid})]
        assert it.ask(1, b"6 * 7") == b"42"
        signal.pidfd_send_signal(it.pidfds[1], signal.SIGKILL)
        assert readable(it.pidfds[1])
        assert Exited(-1, pid, -signal.SIGKILL) in it.spawner.reap_orphans({pid})


def an_unreported_child_of_a_dead_spawner_is_killed():
    failpoint.configure("spawner.after_fork=kill9:spawner")
    with worker(python) as it:
        failpoint.configure("")
        link = it.links[1] = MasterLink(1)
        it.spawner.spawn(1, 0, link.child_fds())
        assert readable(it.spawner.pidfd)
        ended = []
        wait_until(lambda: ended.extend(it.spawner.reap_orphans(())) or ended)
        assert [report.status for report in ended] == [-signal.SIGKILL]


def threads_of_the_app_are_warned_of():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with worker(python) as it:
            assert it.spawner.threads_at_fork == 2
    finally:
        stop.set()
        thread.join()
    assert [line for line in lines if "started 1 thread(s)" in line], lines
    wait_until(lambda: len(os.listdir("/proc/self/task")) == 1, "the joined thread stays in the kernel's list")
    with worker(python) as it:
        assert it.spawner.threads_at_fork == 1
    assert len(lines) == 1, lines


def a_child_has_its_descriptors_and_the_apps_files_only():
    ours, theirs = socket.socketpair()
    read_fd, write_fd = os.pipe()
    with tempfile.NamedTemporaryFile() as log, ours, theirs, worker(python) as it:
        it.spawn(1)
        listing = (
            b"{int(f): os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd')"
            b" if os.path.lexists('/proc/self/fd/' + f)}"
        )
        fds = eval(it.ask(1, listing))
        assert fds[log.fileno()] == log.name
        for channel in (ours.fileno(), theirs.fileno(), read_fd, write_fd):
            assert fds[channel] == "/dev/null"
        rest = {fd: what for fd, what in fds.items() if fd > 2 and not what.startswith("/dev/null")}
        kinds = sorted(what.split(":")[0] for what in rest.values())
        files = [what for what in rest.values() if what.startswith("/") and "memfd" not in what]
        assert kinds.count("socket") == 1, "the child may hold its link's channel and no other socket"
        assert kinds.count("anon_inode") == 3, "three eventfds: of its tasks, of its outcomes, of the master's answers"
        # The lifeline's read end and the child's own description of it.
        assert kinds.count("pipe") == 2
        assert len(rest) - len(files) == 1 + 3 + 2 + 3, rest
        # Nobody but this process holds the ends whose closing means its death.
        lifeline = os.readlink(f"/proc/self/fd/{it.spawner._lifeline_fd}")
        channel_of_spawner = os.readlink(f"/proc/self/fd/{it.spawner.fileno()}")
        for pid in (it.spawner.pid, it.reports[0].pid):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    what = os.readlink(f"/proc/{pid}/fd/{fd}")
                    flags = int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()[3], 8)
                except FileNotFoundError:
                    continue  # open for a moment only, as for a look into /proc, and closed since it was listed
                assert what != lifeline or flags & os.O_ACCMODE == os.O_RDONLY
                assert what != channel_of_spawner
    os.close(read_fd)
    os.close(write_fd)


def no_room_for_a_childs_descriptors_is_a_failed_spawn():
    with worker(python) as it:
        held = len(os.listdir(f"/proc/{it.spawner.pid}/fd"))
        _, hard = resource.prlimit(it.spawner.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(it.spawner.pid, resource.RLIMIT_NOFILE, (held + 2, hard))
        with contextlib.closing(MasterLink(7)) as link:
            it.spawner.spawn(7, 0, link.child_fds())
            assert it.await_report(SpawnFailed, 7).errno == errno.EMFILE
        resource.prlimit(it.spawner.pid, resource.RLIMIT_NOFILE, (hard, hard))
        it.spawn(8)
        assert it.ask(8, b"7") == b"7"


SCENES = {
    scene.__name__: scene
    for scene in (
        a_child_has_its_descriptors_and_the_apps_files_only,
        no_room_for_a_childs_descriptors_is_a_failed_spawn,
        children_outlive_the_spawner_and_the_master_reaps_them,
        an_unreported_child_of_a_dead_spawner_is_killed,
        threads_of_the_app_are_warned_of,
    )
}


if __name__ == "__main__":
    SCENES[sys.argv[1]]()
    sys.stdout.write(f"{sys.argv[1]} holds\n")
