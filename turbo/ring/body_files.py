"""The master's files for bodies too large for a ring, kept from one body to the next.

What: writing such bodies, and keeping the files. Place: between the master's links, which share one :class:`BodyFiles`,
and ``oversize``, by which a file's descriptor goes to a child. Used by the master's loop alone; it must never block.

A new file costs a page of fresh memory for every 4 KiB, more than the copying itself. So a file whose body was read is
kept, mapped, and the next body that fits is copied into it.

Why it is right. A file is written only while no record names it: it comes back when the outcome of its record was
handled, so its reader has copied it long since, or when the record was taken back, so nobody has claimed it and nobody
will. A descriptor that is left in a child's queue from then is of a lower ticket than any that follows, and is closed
unread. Files are sealed against growing and, once mapped here, against every other writer; that they can be cut to
nothing frees the memory of one that is given up while such a descriptor remains. Readers copy with ``pread``, which a
cut file ends with an error and not with a signal. *The master killed:* the files go with their last holder. *A child
killed:* its link closes what it held, without keeping it.
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

#: Bodies above this size, in bytes, get a file of their own that is not kept.
LARGEST_KEPT: Final = 4 * 1024 * 1024
#: Bytes of all files that wait for a body, over all children.
MOST_KEPT: Final = 16 * 1024 * 1024
#: Sizes of kept files are multiples of this.
_STEP: Final = 64 * 1024


class BodyFile:
    """One body on its way to a child. ``mapping`` is None for a file that is not kept."""

    __slots__ = ("capacity", "fd", "mapping")

    def __init__(self, fd: int, mapping: mmap.mmap | None, capacity: int) -> None:
        self.fd = fd
        self.mapping = mapping
        self.capacity = capacity

    def close(self, *, unread: bool) -> None:
        """Let go of it; ``unread``: a descriptor may wait in a child's queue, so free the memory at once."""
        if self.mapping is not None:
            self.mapping.close()
        if unread:
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


class BodyFiles:
    """See the module."""

    __slots__ = ("_kept", "_size")

    def __init__(self) -> None:
        #: Files that wait for a body, the one used last at the end.
        self._kept: list[BodyFile] = []
        self._size = 0

    def fill(self, parts: Sequence[bytes], size: int) -> BodyFile:
        """Write ``parts``, ``size`` bytes together, one after the other. Raises OSError when memory is short."""
        if size > LARGEST_KEPT:
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
        """Nobody will read this body any more; ``unread``: nor has anybody."""
        if file.mapping is None:
            file.close(unread=unread)
            return
        self._kept.append(file)
        self._size += file.capacity
        while self._size > MOST_KEPT:
            oldest = self._kept.pop(0)
            self._size -= oldest.capacity
            oldest.close(unread=True)

    def close(self) -> None:
        """Let go of all that wait."""
        while self._kept:
            self._kept.pop().close(unread=True)
        self._size = 0

    def _find(self, size: int) -> BodyFile | None:
        for index in range(len(self._kept) - 1, -1, -1):
            if self._kept[index].capacity >= size:
                file = self._kept.pop(index)
                self._size -= file.capacity
                return file
        return None


def _make(capacity: int) -> BodyFile:
    fd = os.memfd_create("turbo-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, capacity)
        # All of it now or an error now: a page missing later would be a signal.
        os.posix_fallocate(fd, 0, capacity)
        mapping = memory.map_shared(fd, capacity, writable=True)
        memory.refuse_new_writers(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, oversize.SEALS_FROM_MASTER)
    except RingUnavailable as error:
        # For one body, not for the child's rings: its message waits and is tried again.
        os.close(fd)
        raise OSError(errno.ENOMEM, str(error)) from error
    except BaseException:
        os.close(fd)
        raise
    return BodyFile(fd, mapping, capacity)
