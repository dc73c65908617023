"""Writes bodies too large for a ring into files in memory, and reuses the files.

The master's links share one :class:`BodyFiles`; ``oversize`` sends a file's descriptor to a child. Used by the master's
loop only; it must never block.

A new file costs a page of fresh memory for every 4 KiB, which takes longer than copying the body. So a file whose body
was read stays mapped, and the next body that fits is copied into it.

Why this is correct. A file is written only while no record names it. It is returned when the outcome of its record was
handled, so the reader has copied it long ago, or when the record was taken back, so nobody has claimed or will claim
it. A descriptor that then remains in a child's queue has a lower ticket than all later ones and is closed unread. Files
are sealed against growing and, once mapped here, against every other writer. They are not sealed against shrinking:
truncating a discarded file frees its memory while such a descriptor remains. Readers copy with ``pread``, which fails
with an error on a truncated file instead of a signal. *The master killed:* the files vanish with their last holder. *A
child killed:* its link closes the files that it held and does not reuse them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from turbo.ring import memory, oversize
from turbo.ring.layout import RingUnavailable

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

#: Bodies above this size, in bytes, get a file that is not reused.
LARGEST_REUSED: Final = 4 * 1024 * 1024
#: Most bytes of all unused files, over all children.
MOST_UNUSED = 16 * 1024 * 1024
#: Sizes of reused files are multiples of this.
_STEP: Final = 64 * 1024


class BodyFile:
    """The file of one body. ``mapping`` is None for a file that is not reused."""

    __slots__ = ("capacity", "fd", "mapping")

    def __init__(self, fd: int, mapping: mmap.mmap | None, capacity: int) -> None:
        self.fd = fd
        self.mapping = mapping
        self.capacity = capacity

    def close(self, *, unread: bool) -> None:
        """Close the file.

        ``unread``: a child's queue may still hold a descriptor, so truncate the file to free its memory.
        """
        if self.mapping is not None:
            self.mapping.close()
        if unread:
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


class BodyFiles:
    """The unused files of a master; fills one for each oversize body."""

    __slots__ = ("_size", "_unused")

    def __init__(self) -> None:
        #: Unused files, the one used last at the end.
        self._unused: list[BodyFile] = []
        self._size = 0

    def fill(self, parts: Sequence[bytes], size: int) -> BodyFile:
        """Return a file with ``parts`` one after the other, ``size`` bytes in all.

        Raises OSError without memory.
        """
        if size > LARGEST_REUSED:
            return BodyFile(oversize.create(parts, oversize.SEALS_FROM_MASTER | fcntl.F_SEAL_WRITE), None, size)
        file = self._find(size) or _make(-(-size // _STEP) * _STEP)
        mapping, at = file.mapping, 0
        assert mapping is not None
        for part in parts:
            end = at + len(part)
            mapping[at:end] = part
            at = end
        return file

    def give_back(self, file: BodyFile, *, unread: bool) -> None:
        """Return a file whose body nobody will read any more; ``unread``: nor has anybody."""
        if file.mapping is None:
            file.close(unread=unread)
            return
        self._unused.append(file)
        self._size += file.capacity
        while self._size > MOST_UNUSED:
            oldest = self._unused.pop(0)
            self._size -= oldest.capacity
            oldest.close(unread=True)

    def close(self) -> None:
        """Close all unused files."""
        while self._unused:
            self._unused.pop().close(unread=True)
        self._size = 0

    def _find(self, size: int) -> BodyFile | None:
        for index in range(len(self._unused) - 1, -1, -1):
            if self._unused[index].capacity >= size:
                file = self._unused.pop(index)
                self._size -= file.capacity
                return file
        return None


def _make(capacity: int) -> BodyFile:
    fd = os.memfd_create("turbo-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, capacity)
        # Allocate everything now or fail now: a page that is missing later would be a SIGBUS.
        os.posix_fallocate(fd, 0, capacity)
        mapping = memory.map_shared(fd, capacity, writable=True)
        memory.refuse_new_writers(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, oversize.SEALS_FROM_MASTER)
    except RingUnavailable as error:
        # Only this body fails, not the child's rings: its message waits and is tried again.
        os.close(fd)
        raise OSError(errno.ENOMEM, str(error)) from error
    except BaseException:
        os.close(fd)
        raise
    return BodyFile(fd, mapping, capacity)
