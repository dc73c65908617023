"""Children for ring tests, forked by the test itself, with a lifeline."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from turbo import failpoint
from turbo.ring.link import ChildLink, MasterLink, PostMortem
from turbo.spawner import kernel
from turbo.spawner.forking import fork

TORTURE = bool(os.environ.get("TURBO_TORTURE"))
#: The suite's limit, or an hour for the long forms.
PATIENCE = pytest.mark.timeout(3600 if TORTURE else 400)
DONE = 4
STARTED = 3
TASK = 1


def scaled(short: int, torture: int) -> int:
    """Return the number of rounds: few in the suite, many with TURBO_TORTURE=1."""
    return torture if TORTURE else short


def readable(fd: int, seconds: float = 60.0) -> bool:
    """Wait until ``fd`` is readable; return False if it is not within ``seconds``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@dataclass
class Child:
    """A child forked by the test: the master's end of its link, its pid and pidfd."""

    link: MasterLink
    pid: int
    pidfd: int
    lifeline_write: int
    outcomes: list[tuple[int, int, bytes]] = field(default_factory=list)

    def publish(self, *bodies: bytes) -> list[int]:
        seqs = []
        for body in bodies:
            seq = self.link.stage(TASK, [body])
            assert seq is not None
            seqs.append(seq)
        self.link.commit()
        return seqs

    def collect(self, count: int, seconds: float = 60.0) -> list[tuple[int, int, bytes]]:
        """Drain the ring until ``count`` outcomes have arrived in total."""
        while len(self.outcomes) < count:
            assert readable(self.link.outcome_fd, seconds), f"{len(self.outcomes)} of {count} outcomes came"
            self.drain()
        return self.outcomes

    def drain(self, *, early: bool = False) -> list[tuple[int, int, bytes]]:
        records = self.link.drain_early() if early else self.link.drain()
        for kind, seq, _ in records:
            if kind == DONE:
                self.link.release(seq)
        self.outcomes += records
        return records

    def kill(self, signum: int = signal.SIGKILL) -> None:
        signal.pidfd_send_signal(self.pidfd, signum)

    def let_go(self) -> None:
        """Close the lifeline, as the death of the master would. Idempotent."""
        if self.lifeline_write >= 0:
            os.close(self.lifeline_write)
            self.lifeline_write = -1

    def reap(self) -> int:
        """Wait for the end; return the exit code, or minus the signal."""
        assert readable(self.pidfd), "the child did not end"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def post_mortem(self) -> PostMortem:
        found = self.link.post_mortem(final_kinds=(DONE,))
        self.outcomes += found.outcomes
        return found


@contextlib.contextmanager
def forked(
    main: Callable[[ChildLink], None], *, failpoints: str = "", epoch: int = 1, **link_options: int
) -> Iterator[Child]:
    """Fork a child that runs ``main(link)``; it is killed at the end, and if the test process dies."""
    link = MasterLink(epoch, **link_options)
    lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)

    def body() -> None:
        os.setsid()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.close(lifeline_write)
        kernel.arm_lifeline(lifeline_read, -os.getpid(), signal.SIGKILL)
        failpoint.configure(failpoints)
        failpoint.set_role("child")
        # Expected refusals would fill the report.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", closefd=False)
        main(ChildLink.attach(epoch, link.child_fds(), lifeline_fd=lifeline_read))

    pid = fork(body)
    os.close(lifeline_read)
    link.close_child_fds()
    child = Child(link, pid, os.pidfd_open(pid), lifeline_write)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(child.pidfd)
        child.let_go()
        link.close()


def echo(link: ChildLink) -> None:
    """Answer every record with DONE and the same body."""
    while True:
        record = link.claim()
        if record is None:
            link.wait()
            continue
        _, seq, body = record
        link.emit(DONE, seq, [body])
        link.signal()


def like_a_worker(link: ChildLink) -> None:
    """Send DONE of a record and STARTED of the next with one signal, as the child's loop does."""
    while True:
        record = link.claim()
        if record is None:
            link.signal()
            link.wait()
            continue
        _, seq, body = record
        link.emit(STARTED, seq, [])
        link.signal_start()
        link.page.enter_body(seq)
        link.page.leave_body()
        link.emit(DONE, seq, [body])
        link.page.finished()
