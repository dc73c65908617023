"""Starts the spawner, and is the master's handle on it.

The command calls ``start_spawner`` before any loop, thread or socket exists. The master then requests children through
``Spawner``, which reports their exits. Only ``close`` and ``wait_ready`` may block. ``fresh_start`` starts a second
spawner, which imports the app anew.
"""

from __future__ import annotations

import array
import errno
import gc
import logging
import os
import select
import socket
from typing import TYPE_CHECKING

from turbo.exceptions import TurboError
from turbo.spawner import kernel
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
    Exited,
    Report,
    Spawned,
    SpawnFailed,
)
from turbo.spawner.process import SpawnerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_log = logging.getLogger("turbo.spawner")
_CONTROL_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


def start_spawner(child_main: Callable[[ChildBoot], None], *, title: Callable[[], None] | None = None) -> Spawner:
    """Fork the spawner.

    Call it after the app is imported and before any loop, thread or socket exists. ``child_main`` runs in each child
    until the child ends: returning means exit code 0, an exception a traceback on stderr and exit code 70. ``title`` is
    called once in the spawner, to name the process. The caller becomes a subreaper. Raises OSError.
    """
    threads = freeze_app()
    lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
    control, spawner_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def body() -> None:
        control.close()
        os.close(lifeline_write)
        if title is not None:
            title()
        SpawnerProcess(child_main, spawner_end, lifeline_read).run()

    kernel.become_subreaper()
    pid = fork(body)
    # After the fork, so for the master only: all large bodies pass through it, and children keep the usual malloc.
    kernel.keep_freed_memory()
    pidfd = os.pidfd_open(pid)
    spawner_end.close()
    os.close(lifeline_read)
    control.setblocking(False)
    return Spawner(pid, pidfd, control, lifeline_write, threads, lambda: os.waitpid(pid, 0)[1])


def freeze_app() -> int:
    """Prepare this process, which has imported the app, for forks.

    Returns its number of threads.
    """
    threads = kernel.threads()
    if threads > 1:
        _log.warning(
            "the app started %d thread(s) while it was imported; children do not have these threads, and a lock "
            "that one of them holds now stays locked in every child",
            threads - 1,
        )
    # Exclude all objects that exist now from garbage collection: collections in master, spawner and children would
    # write to, and thereby copy, the pages that they share.
    gc.collect()
    gc.freeze()
    return threads


class SpawnerGone(TurboError):
    """The spawner is dead, so no child can be started.

    The caller drains and restarts the worker.
    """


class Spawner:
    """The master's handle on the spawner process.

    Why this is correct. This process holds the only write end of the lifeline and the only master's end of the control
    socket, both close-on-exec. When they close, for whatever reason, every child ends. The spawner, which is the only
    reaper, opens a pidfd before it can reap the child, so a pidfd never names another process.
    """

    __slots__ = ("_control", "_lifeline_fd", "_reap", "gone", "lifeline_armed", "pid", "pidfd", "threads_at_fork")

    def __init__(
        self, pid: int, pidfd: int, control: socket.socket, lifeline_fd: int, threads_at_fork: int,
        reap: Callable[[], int],
    ) -> None:  # fmt: skip
        """``reap`` waits for the process and returns its wait status."""
        self.pid = pid
        self._reap = reap
        #: Readable once the spawner is dead.
        self.pidfd = pidfd
        self._control = control
        self._lifeline_fd = lifeline_fd
        #: Number of threads of this process at the fork; more than 1 if the app started some at import.
        self.threads_at_fork = threads_at_fork
        #: Whether the kernel ends children when the master dies; None until the spawner reports it.
        self.lifeline_armed: bool | None = None
        #: Whether the spawner's end of the socket is closed.
        self.gone = False

    def fileno(self) -> int:
        """Return the control socket's descriptor, readable when reports wait."""
        return self._control.fileno()

    def spawn(self, epoch: int, index: int, fds: Sequence[int]) -> None:
        """Request a child with these link descriptors; ``receive`` returns the answer.

        The caller may close ``fds`` at once. Raises SpawnerGone, and BlockingIOError if the spawner has hundreds of
        unread requests.
        """
        try:
            socket.send_fds(self._control, [REQUEST.pack(epoch, index)], list(fds))
        except (BrokenPipeError, ConnectionResetError) as error:
            self.gone = True
            raise SpawnerGone(str(error)) from error

    def kill(self, epoch: int) -> None:
        """Have the spawner kill a child and its group, unless it is reaped.

        The answer is the child's ``Exited``. Raises SpawnerGone.
        """
        try:
            self._control.send(REQUEST.pack(epoch, KILL))
        except (BrokenPipeError, ConnectionResetError) as error:
            self.gone = True
            raise SpawnerGone(str(error)) from error

    def receive(self) -> list[Report]:
        """Return the reports that have arrived, oldest first.

        Sets ``gone`` if the spawner is dead.
        """
        reports: list[Report] = []
        while not self.gone:
            try:
                data, controls, _, _ = self._control.recvmsg(
                    REPORT.size, _CONTROL_SPACE, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                break
            except ConnectionResetError:
                data, controls = b"", []
            if not data:
                self.gone = True
                break
            self._parse(data, received_fds(controls), reports)
        return reports

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until the spawner runs; return whether it does.

        For start-up only. Call it before the first ``spawn``, because it drops other reports.
        """
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while self.lifeline_armed is None and not self.gone:
            if not poll.poll(timeout * 1000):
                return False
            self.receive()
        return not self.gone

    def orphans(self) -> list[int]:
        """After the spawner's death: return its orphans' pids, now our children.

        The list is empty without a /proc.
        """
        return [pid for pid in _children_of(os.getpid()) if pid != self.pid]

    def adopted(self) -> list[int]:
        """Return the pids of the spawner's children.

        Once it has reported the end of all that it forked, these are processes that tasks have started and left.
        """
        return _children_of(self.pid)

    def reap_orphans(self, known: Collection[int]) -> list[Exited]:
        """After the spawner's death: reap its children, kill unreported ones.

        ``known`` holds the pids of living children that were reported; they continue. Call it again when the pidfd of
        a known child becomes readable. The epoch in the results is -1. The caller must have no other children, since
        they would be killed.
        """
        ended: list[Exited] = []
        for pid in [*self.orphans(), self.pid]:
            if pid not in known and pid != self.pid:
                kill_group(pid)
            try:
                reaped, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
            if reaped and pid != self.pid:
                ended.append(Exited(-1, pid, os.waitstatus_to_exitcode(status)))
        return ended

    def reap_orphan(self, pid: int) -> int | None:
        """After the spawner's death: reap a child of its that has ended.

        Kills the rest of its group, as the spawner would. Returns the exit code, or minus the signal; None if the child
        is not this process's, or has not ended.
        """
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            if ended.si_code != os.CLD_EXITED or ended.si_status != 0:
                kill_group(pid)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            return None

    def release(self) -> None:
        """End the spawner and all remaining children. Idempotent.

        ``pidfd`` is readable when it has ended. In an orderly stop the children have ended before; those that are still
        alive are killed.
        """
        if self._lifeline_fd < 0:
            return
        self.gone = True
        self._control.close()
        os.close(self._lifeline_fd)
        self._lifeline_fd = -1

    def reap(self) -> int | None:
        """Reap the ended spawner; return its exit code.

        None if somebody else has reaped it.
        """
        os.close(self.pidfd)
        self.pidfd = -1
        try:
            return os.waitstatus_to_exitcode(self._reap())
        except ChildProcessError:
            return None

    def close(self, timeout: float = 5.0) -> int | None:
        """End the spawner and all remaining children.

        Wait up to ``timeout`` seconds for it. Idempotent. Returns the exit status, or None if it was closed before or
        did not end in time.
        """
        if self.pidfd < 0:
            return None
        self.release()
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if poll.poll(timeout * 1000):
            return self.reap()
        _log.error("the spawner (pid %d) did not end within %.1f s", self.pid, timeout)
        os.close(self.pidfd)
        self.pidfd = -1
        return None

    def _parse(self, data: bytes, fds: list[int], reports: list[Report]) -> None:
        kind, epoch, pid, value = REPORT.unpack(data)
        if kind == SPAWNED:
            if fds:
                reports.append(Spawned(epoch, pid, fds[0]))
                return
            # The master's descriptor table is full, and a child without a pidfd cannot be watched. Only its reaper, the
            # spawner, can kill it safely by its pid; its exit is reported as usual.
            self.kill(epoch)
            reports.append(SpawnFailed(epoch, errno.EMFILE))
        elif kind == EXITED:
            reports.append(Exited(epoch, pid, value))
        elif kind == FAILED:
            reports.append(SpawnFailed(epoch, value))
        elif kind == READY:
            self.lifeline_armed = bool(value)


def _children_of(pid: int) -> list[int]:
    """Return the pids of a process's children; an empty list without a /proc."""
    found: list[int] = []
    tasks = f"/proc/{pid}/task"
    if not os.path.isdir(tasks):  # noqa: PTH112
        return found
    for task in os.listdir(tasks):  # noqa: PTH208 - a path object has no advantage in /proc
        with open(f"{tasks}/{task}/children") as listing:  # noqa: PTH123
            found += map(int, listing.read().split())
    return found


def received_fds(controls: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors in the ancillary data of a recvmsg."""
    fds = array.array("i")
    for level, kind, data in controls:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
