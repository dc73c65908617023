"""The few Linux facilities that the standard library lacks or that need an exact order.

What: subreaper, the kernel lifeline, closing descriptors, what malloc keeps. Place: beneath the spawner; runs in the
master once and in the spawner and children at their start. It must not run user code or wait.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import signal
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

_PR_SET_CHILD_SUBREAPER = 36

#: glibc's numbers for what mallopt sets.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Bytes. Larger blocks come from the kernel and go back to it when they are freed.
LARGEST_KEPT = 4 * 1024 * 1024
#: Descriptors that are tried one by one where the kernel does not list them.
_MOST_TRIED = 65_536
#: The mark of an open file that existed in the spawner: no library asks for this signal.
_MARK = signal.SIGRTMAX
#: Bytes of free memory at the heap's end from which on it is handed back.
MOST_KEPT = 8 * 1024 * 1024


def become_subreaper() -> None:
    """Make orphans below this process its own children, so that it can reap them. Not inherited by fork."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(code)}")


def keep_freed_memory() -> None:
    """Let malloc use the memory of one message's body for the next. Children that are forked later inherit it.

    By default glibc hands a freed megabyte back to the kernel, and the next one is mapped and cleared page by page:
    in a virtual machine that takes several times as long as to copy a body into it. Does nothing where somebody has
    tuned malloc by the environment, or where there is no glibc.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, MOST_KEPT)


def arm_lifeline(read_fd: int, owner: int, signum: int) -> int:
    """Have the kernel send ``signum`` to ``owner`` (a pid, or minus a group) when the pipe's last writer
    closes.

    Returns a descriptor of its own for the pipe's read end, which must stay open: signal settings belong to
    the open file description, and the one behind ``read_fd`` is shared by every process. Raises OSError.
    """
    fd = os.open(f"/proc/self/fd/{read_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_SETOWN, owner)
        fcntl.fcntl(fd, fcntl.F_SETSIG, signum)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    except OSError:
        os.close(fd)
        raise
    return fd


def writer_gone(read_fd: int) -> bool:
    """Whether the pipe's last writer has closed; asked once after arming, for a death before it."""
    poll = select.poll()
    poll.register(read_fd, 0)
    return bool(poll.poll(0))


def lifeline_works() -> bool:
    """Try a lifeline on this process with a harmless blocked signal; False where the kernel sends none."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    fd = -1
    try:
        fd = arm_lifeline(read_fd, os.getpid(), signal.SIGURG)
        os.close(write_fd)
        write_fd = -1
        # The kernel sends it during the close; the wait only matters where it does not work.
        return signal.sigtimedwait([signal.SIGURG], 0.1) is not None
    except OSError:
        return False
    finally:
        for each in (fd, read_fd, write_fd):
            if each >= 0:
                os.close(each)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_descriptors() -> list[int]:
    """Descriptors that this process has open, ascending."""
    found: Iterable[int]
    try:
        with os.scandir("/proc/self/fd") as entries:
            # The scan's own descriptor is among them and closed by now.
            found = sorted(int(entry.name) for entry in entries)
    except OSError:
        # No /proc: every number is tried, up to one that no process comes near.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        found = range(_MOST_TRIED if most == resource.RLIM_INFINITY else min(most, _MOST_TRIED))
    return [fd for fd in found if _is_open(fd)]


def threads() -> int:
    """Threads of this process; those of C libraries count too where there is a /proc."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - /proc, and a path object buys nothing
    except OSError:
        return threading.active_count()


@dataclass(frozen=True, slots=True)
class Inherited:
    """Descriptors above 2 that a new child inherits from the app, which is in the spawner.

    ``files``: files, directories and devices, which stay usable in children, as log files must. ``channels``:
    what two processes must not share: sockets, pipes, epoll and the like.
    """

    files: frozenset[int]
    channels: frozenset[int]


def inherited(own: Set[int]) -> Inherited:
    """Sort this process's open descriptors but for its ``own``, and mark those that a child must not share.

    The mark is on the open file, so that a child knows by :func:`is_marked` whether a number is still what it was at
    the fork: libraries that know about forks close theirs in the new process and open others, which often get the same
    numbers. The kernel's field for it, the signal of O_ASYNC, has no effect without that flag.
    """
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK)
    above = [fd for fd in open_descriptors() if fd > 2]
    files = frozenset(fd for fd in above if stat.S_IFMT(os.fstat(fd).st_mode) in kinds)
    channels = frozenset(above) - files
    for fd in channels:
        if not is_marked(fd):
            fcntl.fcntl(fd, fcntl.F_SETSIG, _MARK)
    return Inherited(files - own, channels - own)


def is_marked(fd: int) -> bool:
    """Whether it is an open file that existed in the spawner; a new one has no signal."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETSIG))


def blank_out(fds: Set[int]) -> None:
    """Replace descriptors by /dev/null, keeping their numbers taken.

    Python objects of the app still hold these numbers. Were they free, the next file opened would get one,
    and such an object would write to it or close it.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)
    os.close(null)


def let_go(inherited: Inherited, keep: Set[int]) -> None:
    """In a new child: give up what it shares with the spawner, but ``keep`` and the app's files.

    The app's channels become /dev/null, the spawner's own are closed. What is not marked was opened in this process,
    by what the app's libraries do at a fork: it stays.
    """
    gone = inherited.channels - keep
    present = [fd for fd in open_descriptors() if fd > 2 and fd not in keep and fd not in inherited.files]
    shared = frozenset(fd for fd in present if is_marked(fd))
    blank_out(shared & gone)
    for fd in shared - gone:
        os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True
