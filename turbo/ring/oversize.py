"""Sends bodies that are too large for a ring, each as a sealed memfd.

It creates, sends, receives and reads such bodies; ``body_files`` reuses the master's files. Both ends of a link use it,
in both directions, over the child's SOCK_SEQPACKET pair. It must never block: a full socket is reported to the caller.

Why this is correct. The descriptor of a body is sent, with a ticket that only grows, before the small record that names
the ticket is published; so the receiver of the record finds the descriptor in its queue. Descriptors of records that
were taken back remain there: the receiver skips lower tickets. Meanwhile the master uses the file for another body, or
has truncated it so that it holds no memory. A missing ticket, and a file that is not sealed or does not have the
announced size, are corruption. *Either side killed* between sending and publishing: the unused descriptor is freed with
the socket or by the next higher ticket.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from turbo.ring.layout import OVERSIZE_LIMIT, OVERSIZE_NOTE, RingCorrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

#: All seals: nothing in the file can change any more.
SEALS_FROM_CHILD = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
#: Once nobody can claim the body, the master may truncate the file or write another body into it.
SEALS_FROM_MASTER = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_CONTROL_SPACE = socket.CMSG_SPACE(array.array("i").itemsize)


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of one child's channel for descriptors.

    They are non-blocking and close-on-exec.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def create(parts: Sequence[bytes], seals: int) -> int:
    """Return a sealed memfd that holds ``parts`` one after the other.

    Raises OSError without memory.
    """
    fd = os.memfd_create("turbo-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                # In a statement of its own: mypyc evaluates a slice of a memoryview twice.
                written = os.write(fd, rest)
                rest = rest[written:]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


def send(channel: socket.socket, ticket: int, size: int, fd: int) -> bool:
    """Send one descriptor.

    Return False if the other side has too many unread or is gone.
    """
    try:
        socket.send_fds(channel, [OVERSIZE_NOTE.pack(ticket, size)], [fd], socket.MSG_DONTWAIT)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return False
    except OSError as error:
        # ETOOMANYREFS: the user's limit of descriptors in flight is reached; treat it as a full socket.
        if error.errno == errno.ETOOMANYREFS:
            return False
        raise
    return True


def read_body(fd: int, size: int, seals: int) -> bytes:
    """Return the bytes of a received body.

    Raises RingCorrupt unless it is sealed and has ``size`` bytes. A file that is sealed against shrinking has exactly
    this size; a file of the master may be larger than its body.
    """
    try:
        held = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise RingCorrupt(f"an oversize body is not a memfd: {error}") from error
    there = os.fstat(fd).st_size
    fits = there == size if seals & fcntl.F_SEAL_SHRINK else there >= size
    if held & seals != seals or size > OVERSIZE_LIMIT or not fits:
        raise RingCorrupt(f"an oversize body of {size} bytes is not sealed or has another size")
    pieces = []
    offset = 0
    while offset < size:
        piece = os.pread(fd, size - offset, offset)
        if not piece:
            raise RingCorrupt("an oversize body is truncated")
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Inbox:
    """One side's received descriptors, by ticket."""

    __slots__ = ("_channel", "_seals", "_waiting")

    def __init__(self, channel: socket.socket, seals: int) -> None:
        self._channel = channel
        self._seals = seals
        #: ticket -> (size, descriptor) of bodies whose record was not read yet.
        self._waiting: dict[int, tuple[int, int]] = {}

    def fetch(self, note: bytes) -> bytes:
        """Return the body that a record's note names.

        Raises RingCorrupt if it was not sent.
        """
        if len(note) != OVERSIZE_NOTE.size:
            raise RingCorrupt(f"an oversize note of {len(note)} bytes")
        ticket, size = OVERSIZE_NOTE.unpack(note)
        while ticket not in self._waiting:
            if not self._receive():
                raise RingCorrupt(f"no body came for ticket {ticket}")
        announced, fd = self._waiting.pop(ticket)
        self.discard_below(ticket)
        try:
            if announced != size:
                raise RingCorrupt(f"ticket {ticket} announced {announced} bytes, its record {size}")
            return read_body(fd, size, self._seals)
        finally:
            os.close(fd)

    def collect(self, live: int) -> None:
        """Read all messages from the socket and close tickets below ``live``.

        For an idle receiver.
        """
        while self._receive():
            pass
        self.discard_below(live)

    def discard_below(self, ticket: int) -> None:
        """Close the descriptors of lower tickets, whose records were taken back."""
        for stale in [held for held in self._waiting if held < ticket]:
            os.close(self._waiting.pop(stale)[1])

    def close(self) -> None:
        """Close all received descriptors."""
        self.discard_below(1 << 64)

    def _receive(self) -> bool:
        """Read one message from the socket; return False if there is none."""
        try:
            try:
                note, controls, _, _ = self._channel.recvmsg(OVERSIZE_NOTE.size + 1, _CONTROL_SPACE, _FLAGS)
            except ConnectionResetError:
                # The other side died with unread messages of ours. The kernel reports that once, before the messages
                # that the other side had sent, which are still there.
                note, controls, _, _ = self._channel.recvmsg(OVERSIZE_NOTE.size + 1, _CONTROL_SPACE, _FLAGS)
        except (BlockingIOError, ConnectionResetError):
            return False
        fds = array.array("i")
        for level, kind, data in controls:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not note and not fds:
            return False
        if len(note) != OVERSIZE_NOTE.size or len(fds) != 1:
            for fd in fds:
                os.close(fd)
            raise RingCorrupt(f"an oversize message of {len(note)} bytes with {len(fds)} descriptors")
        ticket, size = OVERSIZE_NOTE.unpack(note)
        if ticket in self._waiting:
            os.close(fds[0])
            raise RingCorrupt(f"ticket {ticket} came twice")
        self._waiting[ticket] = (size, fds[0])
        return True
