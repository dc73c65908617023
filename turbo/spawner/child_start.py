"""A child's first steps, before any code of the user's or of the child's loop runs in it.

What: session, lifeline, descriptors, signals, in that order. Place: between the spawner's fork and
``child_main``. It must not return to the spawner's stack: ``forking`` ends the process after it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.spawner import kernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from turbo.spawner.messages import ChildBoot

#: The child found its master gone before it had armed its lifeline.
EXIT_MASTER_GONE = 77

#: Signals that a terminal or a supervisor sends to a whole group; only the master handles them.
_GROUP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: The interpreter ignores these so that a write fails with an error instead; that must stay.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def become_child(boot: ChildBoot, child_main: Callable[[ChildBoot], None], inherited: kernel.Inherited) -> None:
    """Turn a fresh fork of the spawner into a child and run ``child_main`` in it.

    ``inherited``: what the app has open in the spawner, the channels marked. Starts with all signals blocked and
    unblocks them just before ``child_main``.
    """
    failpoint.set_role("child")
    # First of all, so that from here on the group exists and can be killed as one; a session leader cannot
    # leave its group again.
    os.setsid()
    keep = {boot.lifeline_fd, *boot.fds}
    try:
        keep.add(kernel.arm_lifeline(boot.lifeline_fd, -os.getpid(), signal.SIGKILL))
    except OSError as error:
        # The spawner's end-of-file still works; start_spawner has reported whether the kernel's way does.
        sys.stderr.write(f"turbo child {os.getpid()}: no kernel lifeline: {error}\n")
    if kernel.writer_gone(boot.lifeline_fd):
        os._exit(EXIT_MASTER_GONE)
    kernel.let_go(inherited, keep)
    _reset_signals()
    if failpoint.ENABLED:
        failpoint.hit("child.before_main")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    child_main(boot)


def ignore_without_inheritance() -> None:
    """Ignore group signals in this process, without its subprocesses inheriting that.

    It sets a handler, not SIG_IGN: ignored signals stay ignored across exec, and a command that a task starts must end
    on SIGTERM.
    """
    for signum in _GROUP_SIGNALS:
        signal.signal(signum, _pass)


def _reset_signals() -> None:
    """Undo the spawner's and the app's handlers; group signals pass until ``child_main`` sets its own."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if signum in (signal.SIGKILL, signal.SIGSTOP, *_IGNORED_BY_PYTHON, *_GROUP_SIGNALS):
            continue
        # None is a handler that C code of the app installed (faulthandler's, say); it stays.
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):
            signal.signal(signum, signal.SIG_DFL)
    ignore_without_inheritance()


def _pass(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing."""
