"""Creates, seals and maps anonymous shared memory.

It uses memfds, because a killed process would leave names in /dev/shm behind. It is beneath the rings; it runs in the
master when a child is created and in the child at its start. It must never leave a page unallocated: missing memory
raises RingUnavailable now, instead of a SIGBUS in the middle of a record.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os

from turbo.ring.layout import RingCorrupt, RingUnavailable

#: Linux 5.1: existing mappings stay writable, new ones and write(2) are refused. Not in Python 3.11's fcntl.
F_SEAL_FUTURE_WRITE = 0x0010
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def create(name: str, size: int) -> int:
    """Return a memfd of ``size`` bytes.

    All its pages are allocated and its size is sealed. The pages count as the caller's memory. Raises RingUnavailable
    if there is no memory or no descriptor.
    """
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise RingUnavailable(f"no descriptor for {name}: {error}") from error
    try:
        os.ftruncate(fd, size)
        # ftruncate does not allocate; this does, or fails now.
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _FIXED_SIZE)
    except OSError as error:
        os.close(fd)
        raise RingUnavailable(f"no memory for {name} ({size} bytes): {error}") from error
    return fd


def map_shared(fd: int, size: int, *, writable: bool) -> mmap.mmap:
    """Map a memfd of ``create``.

    Raises RingUnavailable if there is no address space or memory.
    """
    prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    try:
        return mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, prot)
    except (OSError, ValueError) as error:
        raise RingUnavailable(f"cannot map {size} bytes: {error}") from error


def refuse_new_writers(fd: int) -> None:
    """Seal ``fd`` so that only existing mappings can write.

    Does nothing on kernels before 5.1.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)


def forget_after_fork(mapping: mmap.mmap) -> None:
    """Exclude ``mapping`` from processes that this one forks.

    An access there is a fault.
    """
    mapping.madvise(mmap.MADV_DONTFORK)


def check_size(fd: int, size: int) -> None:
    """Raise RingCorrupt unless the memfd has ``size`` bytes and is sealed."""
    if os.fstat(fd).st_size != size or fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _FIXED_SIZE != _FIXED_SIZE:
        raise RingCorrupt(f"a shared memory descriptor does not have the announced size of {size} bytes, sealed")
