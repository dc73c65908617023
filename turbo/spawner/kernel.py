"""Linux facilities that the standard library lacks.

They are subreaper, lifeline, descriptors and malloc settings. This module is beneath the spawner; it runs once in the
master, and in the spawner and children at their start. It must never run user code or wait.
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

#: Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Blocks above this many bytes are mapped from the kernel and returned to it when freed.
MMAP_THRESHOLD = 4 * 1024 * 1024
#: Most descriptors to test one by one if the kernel does not list them.
_MOST_TRIED = 65_536
#: The mark of an open file that existed in the spawner: a signal that no library uses.
_MARK = signal.SIGRTMAX
#: Bytes of free memory at the heap's end above which it is returned to the kernel.
TRIM_THRESHOLD = 8 * 1024 * 1024


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that it can reap them.

    Not inherited by fork.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(code)}")


def keep_freed_memory() -> None:
    """Let malloc reuse the memory of large bodies.

    Processes that are forked later inherit the setting. By default glibc returns a freed megabyte to the kernel, and
    the next one is mapped and cleared page by page: in a virtual machine that takes several times as long as copying a
    body into it. Does nothing if malloc is tuned by the environment, or without glibc.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def arm_lifeline(read_fd: int, owner: int, signum: int) -> int:
    """Have the kernel send a signal when the pipe's last writer closes.

    ``owner`` is a pid, or minus a group. Returns a new descriptor of the pipe's read end, which must stay open: signal
    settings belong to the open file description, and all processes share the one behind ``read_fd``. Raises OSError.
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
    """Whether the pipe's last writer has closed.

    Checked once after arming, in case that happened before.
    """
    poll = select.poll()
    poll.register(read_fd, 0)
    return bool(poll.poll(0))


def lifeline_works() -> bool:
    """Test a lifeline on this process with a harmless blocked signal.

    Return whether the signal comes.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    fd = -1
    try:
        fd = arm_lifeline(read_fd, os.getpid(), signal.SIGURG)
        os.close(write_fd)
        write_fd = -1
        # The kernel sends the signal during the close; the wait takes time only if lifelines do not work.
        return signal.sigtimedwait([signal.SIGURG], 0.1) is not None
    except OSError:
        return False
    finally:
        for each in (fd, read_fd, write_fd):
            if each >= 0:
                os.close(each)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_descriptors() -> list[int]:
    """Return this process's open descriptors, ascending."""
    found: Iterable[int]
    try:
        with os.scandir("/proc/self/fd") as entries:
            # The scan's own descriptor is among them; it is closed by now.
            found = sorted(int(entry.name) for entry in entries)
    except OSError:
        # Without /proc, test every number up to a high one.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        found = range(_MOST_TRIED if most == resource.RLIM_INFINITY else min(most, _MOST_TRIED))
    return [fd for fd in found if _is_open(fd)]


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process; None if it has ended.

    Raises OSError.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 - asked of every child twice a second
            return int(file.read().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        return None


def threads() -> int:
    """Return the number of threads of this process.

    Includes those of C libraries if there is a /proc.
    """
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - a path object has no advantage in /proc
    except OSError:
        return threading.active_count()


@dataclass(frozen=True, slots=True)
class Inherited:
    """The app's descriptors above 2 in the spawner, which a new child inherits.

    ``files``: files, directories and devices, which stay usable in children, for example log files. ``channels``:
    descriptors that two processes must not share: sockets, pipes, epoll and the like.
    """

    files: frozenset[int]
    channels: frozenset[int]


def inherited(own: Set[int]) -> Inherited:
    """Classify this process's open descriptors, except ``own``, and mark the channels.

    A child must not share those. The mark is on the open file. By :func:`is_marked` a child finds out whether a number
    still stands for the same file as at the fork: libraries with fork handlers close their descriptors in the new
    process and open others, which often get the same numbers. The mark is the signal of O_ASYNC, which has no effect
    without that flag.
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
    """Whether the descriptor's open file existed in the spawner.

    A new one has no such signal.
    """
    return bool(fcntl.fcntl(fd, fcntl.F_GETSIG))


def blank_out(fds: Set[int]) -> None:
    """Replace descriptors by /dev/null, so that their numbers stay in use.

    Python objects of the app still hold these numbers. If they were free, the next opened file would get one, and such
    an object could write to it or close it.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)
    os.close(null)


def release_inherited(inherited: Inherited, keep: Set[int]) -> None:
    """In a new child: release the descriptors that it shares with the spawner.

    It keeps ``keep`` and the app's files. The app's channels become /dev/null; the spawner's own descriptors are
    closed. An unmarked descriptor was opened in this process by a fork handler of the app's libraries, so it stays.
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
