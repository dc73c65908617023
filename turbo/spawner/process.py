"""The loop of the spawner process: forks children on request and reaps them.

It ends all children when the master is gone. Between the master's handle and each child's start. The process has one
thread, no event loop, and no socket but the control socket. It must never run user code after the import of the app.
"""

from __future__ import annotations

import array
import errno
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.spawner import kernel
from turbo.spawner.child_start import become_child, ignore_without_inheritance
from turbo.spawner.forking import fork, kill_group
from turbo.spawner.messages import (
    EXITED,
    FAILED,
    KILL,
    MAX_FDS,
    READY,
    REPORT,
    REQUEST,
    SPAWNED,
    ChildBoot,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROL_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
#: Seconds in which the spawner reaps the children that it killed after the master's death: in some containers the first
#: process reaps nothing, and zombies would remain.
_LAST_REAP = 1.0


class _MasterGone(Exception):
    """The control socket is closed."""


class SpawnerProcess:
    """The spawner.

    Why this is correct. It is the only reaper of its children, so an unreaped pid belongs to its child, and so does the
    group of that number: killing by either is safe until waitpid, which comes last. A group is killed while its leader
    is a zombie. The master's death, whatever the reason, closes the control socket. A stopped spawner cannot notice
    that, so the kernel continues it (SIGCONT through its own lifeline) and ends the children through theirs. *Killed at
    any line:* its children become the master's, which drains and restarts the worker.
    """

    __slots__ = (
        "_child_main", "_children", "_control", "_lifeline_fd", "_own", "_own_lifeline_fd", "_wakeup_read",
    )  # fmt: skip

    def __init__(
        self,
        child_main: Callable[[ChildBoot], None],
        control: socket.socket,
        lifeline_fd: int,
    ) -> None:
        self._child_main = child_main
        self._control = control
        self._lifeline_fd = lifeline_fd
        #: pid -> epoch of every child not yet reaped.
        self._children: dict[int, int] = {}
        self._own_lifeline_fd = -1
        self._wakeup_read = -1
        self._own: frozenset[int] = frozenset()

    def run(self) -> None:
        """Serve until the master is gone.

        It starts with all signals blocked, as ``fork`` leaves them.
        """
        failpoint.set_role("spawner")
        kernel.become_subreaper()
        ignore_without_inheritance()
        works = kernel.lifeline_works()
        if works:
            self._own_lifeline_fd = kernel.arm_lifeline(self._lifeline_fd, os.getpid(), signal.SIGCONT)
        self._wakeup_read, wakeup_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # This process's own descriptors. All others that are open between requests belong to the app.
        self._own = frozenset(
            (self._control.fileno(), self._lifeline_fd, self._own_lifeline_fd, self._wakeup_read, wakeup_write)
        )
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        # The wake-up descriptor is written only for signals with a handler; ``_reap`` does the work.
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        try:
            self._send(READY, 0, os.getpid(), int(works))
            self._serve()
        except _MasterGone:
            self._end_everything()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wakeup_read:
                    os.read(fd, 4096)
                else:
                    self._take_request()
            # After every wake-up, not only after SIGCHLD: without ended children it costs one system call.
            self._reap()

    def _take_request(self) -> None:
        try:
            data, controls, flags, _ = self._control.recvmsg(REQUEST.size, _CONTROL_SPACE, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError as error:
            raise _MasterGone from error
        if not data:
            raise _MasterGone
        fds = array.array("i")
        for level, kind, content in controls:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        epoch, index = REQUEST.unpack(data)
        try:
            if index == KILL:
                self._kill(epoch)
            elif flags & socket.MSG_CTRUNC:
                # The kernel drops descriptors when this process's table is full.
                self._send(FAILED, epoch, 0, errno.EMFILE)
            else:
                self._spawn(epoch, index, tuple(fds))
        finally:
            for fd in fds:
                os.close(fd)

    def _spawn(self, epoch: int, index: int, fds: tuple[int, ...]) -> None:
        boot = ChildBoot(epoch, index, fds, self._lifeline_fd)
        try:
            if failpoint.ENABLED:
                failpoint.hit("spawner.before_fork")
            inherited = kernel.inherited(self._own | frozenset(fds))
            pid = fork(lambda: become_child(boot, self._child_main, inherited))
        except OSError as error:
            self._send(FAILED, epoch, 0, error.errno or 0)
            return
        self._children[pid] = epoch
        if failpoint.ENABLED:
            failpoint.hit("spawner.after_fork")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            kill_group(pid)
            os.waitpid(pid, 0)
            del self._children[pid]
            self._send(FAILED, epoch, 0, error.errno or 0)
            return
        try:
            self._send(SPAWNED, epoch, pid, 0, [pidfd])
        finally:
            os.close(pidfd)

    def _kill(self, epoch: int) -> None:
        for pid, held in self._children.items():
            if held == epoch:
                kill_group(pid)

    def _reap(self) -> None:
        """Reap every process that has ended; report those that are children.

        WNOWAIT returns a zombie without reaping it, so that its group can still be killed by its number. Each one is
        reaped before the next call, so none can hide another.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._reap_one(ended.si_pid, orderly=ended.si_code == os.CLD_EXITED and ended.si_status == 0)

    def _reap_one(self, pid: int, *, orderly: bool) -> None:
        epoch = self._children.get(pid)
        if epoch is None:
            # A grandchild whose parent has ended; this process is its subreaper.
            os.waitpid(pid, 0)
            return
        if not orderly:
            # The child did not exit by itself with 0, so subprocesses of its task may still run.
            kill_group(pid)
        if failpoint.ENABLED:
            failpoint.hit("spawner.before_reap")
        _, status = os.waitpid(pid, 0)
        del self._children[pid]
        self._send(EXITED, epoch, pid, os.waitstatus_to_exitcode(status))

    def _send(self, kind: int, epoch: int, pid: int, value: int, fds: list[int] | None = None) -> None:
        """Send a report to the master. Blocks until the master reads or dies."""
        try:
            socket.send_fds(self._control, [REPORT.pack(kind, epoch, pid, value)], fds or [])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _MasterGone from error

    def _end_everything(self) -> None:
        """Kill all groups, then reap them for a short time."""
        for pid in self._children:
            kill_group(pid)
        poll = select.poll()
        poll.register(self._wakeup_read, select.POLLIN)
        deadline = time.monotonic() + _LAST_REAP
        while True:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for fd, _ in poll.poll(left * 1000):
                os.read(fd, 4096)
