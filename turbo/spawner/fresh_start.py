"""Starts a second spawner: a new Python that imports the app beside the first.

The master's side; ``fresh_process`` is the other. The master has a loop, threads and sockets and must not fork a
spawner, so this one is executed. It gets a brief (bytes) in a file in memory, and answers once through a pipe: with
what the app has, or why it could not be imported. It must never block.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Final

from turbo.exceptions import TurboError
from turbo.spawner.handle import Spawner

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The first byte of an answer: the rest is what the app has, or the text of the error.
READY: Final = b"+"
FAILED: Final = b"-"


class FreshStartFailed(TurboError):
    """The process did not become a spawner."""


class FreshStart:
    """A process that is to become a spawner, until it has answered."""

    def __init__(self, command: Sequence[str], brief: bytes) -> None:
        """Execute ``command`` with the numbers of four descriptors behind it.

        Raises OSError.
        """
        answer, answer_end = os.pipe2(os.O_CLOEXEC)
        lifeline_end, lifeline = os.pipe2(os.O_CLOEXEC)
        control, control_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        brief_fd = os.memfd_create("turbo-brief", os.MFD_CLOEXEC)
        passed = (brief_fd, answer_end, control_end.fileno(), lifeline_end)
        try:
            os.write(brief_fd, brief)
            os.lseek(brief_fd, 0, os.SEEK_SET)
            process = subprocess.Popen([*command, *map(str, passed)], pass_fds=passed, stdin=subprocess.DEVNULL)
        except OSError:
            os.close(answer)
            os.close(lifeline)
            control.close()
            raise
        finally:
            control_end.close()
            for fd in (brief_fd, answer_end, lifeline_end):
                os.close(fd)
        os.set_blocking(answer, False)
        control.setblocking(False)
        self._answer_fd = answer
        self._answer = bytearray()
        self._process = process
        #: The handle on the spawner that it becomes.
        self.spawner = Spawner(process.pid, os.pidfd_open(process.pid), control, lifeline, 1, self._wait)

    def fileno(self) -> int:
        """Return the descriptor that is readable while the answer comes in."""
        return self._answer_fd

    def receive(self) -> bytes | None:
        """Return the answer's rest if it is complete, else None.

        Raises FreshStartFailed with the reason.
        """
        while True:
            try:
                read = os.read(self._answer_fd, 65_536)
            except BlockingIOError:
                return None
            if not read:
                break
            self._answer += read
        kind, rest = bytes(self._answer[:1]), bytes(self._answer[1:])
        if kind == READY:
            return rest
        if kind == FAILED:
            raise FreshStartFailed(rest.decode(errors="replace"))
        raise FreshStartFailed("the process ended while it imported the app")

    def answered(self) -> None:
        """Close the pipe of the answer. Idempotent."""
        if self._answer_fd >= 0:
            os.close(self._answer_fd)
            self._answer_fd = -1

    def kill(self) -> None:
        """Kill the process, if it has not ended; its children end too.

        The caller reaps it.
        """
        self.answered()
        self._process.send_signal(signal.SIGKILL)

    def _wait(self) -> int:
        self._process.wait()
        code = self._process.returncode
        return -code if code < 0 else code << 8
