"""Becomes a spawner in a process that the master has executed.

The other side of ``fresh_start``. It runs before and around the import of the app. From the first moment the process
ends with the master: the kernel kills it while it imports, and from then on it is a spawner like any other. Every way
out tells the master why. It must never return.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from turbo import failpoint
from turbo.spawner import kernel
from turbo.spawner.child_start import EXIT_MASTER_GONE, ignore_without_inheritance
from turbo.spawner.fresh_start import FAILED, READY
from turbo.spawner.handle import freeze_app
from turbo.spawner.process import SpawnerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.spawner.messages import ChildBoot

    #: Takes the brief; returns what runs in each child, and what the master is told of the app.
    SetUp = Callable[[bytes], tuple[Callable[[ChildBoot], None], bytes]]

#: The longest error text in bytes.
_LONGEST = 4_000


def become_spawner(descriptors: Sequence[str], set_up: SetUp) -> NoReturn:
    """Set the app up, answer, and serve as a spawner until the master is gone.

    ``descriptors``: those that ``fresh_start`` has passed.
    """
    brief_fd, answer_fd, control_fd, lifeline_fd = fds = tuple(map(int, descriptors))
    for fd in fds:
        os.set_inheritable(fd, False)
    failpoint.set_role("fresh")
    ignore_without_inheritance()
    armed = kernel.arm_lifeline(lifeline_fd, os.getpid(), signal.SIGKILL) if kernel.lifeline_works() else -1
    if kernel.writer_gone(lifeline_fd):
        os._exit(EXIT_MASTER_GONE)
    code = 1
    try:
        with os.fdopen(brief_fd, "rb") as file:
            brief = file.read()
        if failpoint.ENABLED:
            failpoint.hit("fresh.before_import")
        try:
            child_main, facts = set_up(brief)
        except BaseException as error:
            _answer(answer_fd, FAILED + _described(error))
            raise
        freeze_app()
        _answer(answer_fd, READY + facts)
        if armed >= 0:
            os.close(armed)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        SpawnerProcess(child_main, socket.socket(fileno=control_fd), lifeline_fd).run()
        code = 0
    except BaseException:  # noqa: BLE001 - this is the last frame of a process
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _answer(fd: int, answer: bytes) -> None:
    with os.fdopen(fd, "wb") as pipe:
        pipe.write(answer)


def _described(error: BaseException) -> bytes:
    """Return type and text of an error."""
    return f"{type(error).__name__}: {error}".encode(errors="replace")[:_LONGEST]
