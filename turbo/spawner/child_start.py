"""Turns a fresh fork of the spawner into a child.

User code and the child's loop run afterwards.

It sets up session, lifeline, descriptors and signals, in that order, between the spawner's fork and ``child_main``. It
must never return to the spawner's stack: ``forking`` ends the process after it.
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

#: Exit code: the master was gone before the child had armed its lifeline.
EXIT_MASTER_GONE = 77

#: Signals that a terminal or a supervisor sends to a whole group; only the master handles them.
_GROUP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Python ignores these so that a write raises an error instead; that must stay.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def become_child(boot: ChildBoot, child_main: Callable[[ChildBoot], None], inherited: kernel.Inherited) -> None:
    """Turn a fresh fork of the spawner into a child and run ``child_main`` in it.

    ``inherited`` holds the app's open descriptors in the spawner, with the channels marked. It starts with all signals
    blocked and unblocks them just before ``child_main``.
    """
    failpoint.set_role("child")
    # This comes first: from here on the group exists and can be killed as a whole, and a session leader cannot leave
    # its group.
    os.setsid()
    keep = {boot.lifeline_fd, *boot.fds}
    try:
        keep.add(kernel.arm_lifeline(boot.lifeline_fd, -os.getpid(), signal.SIGKILL))
    except OSError as error:
        # The spawner still ends this child when the master is gone. The spawner has reported whether lifelines work.
        sys.stderr.write(f"turbo child {os.getpid()}: no kernel lifeline: {error}\n")
    # The master may have died before the lifeline was armed; then no signal comes.
    if kernel.writer_gone(boot.lifeline_fd):
        os._exit(EXIT_MASTER_GONE)
    kernel.release_inherited(inherited, keep)
    _reset_signals()
    if failpoint.ENABLED:
        failpoint.hit("child.before_main")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    child_main(boot)


def ignore_without_inheritance() -> None:
    """Ignore group signals in this process, but not in its subprocesses.

    It sets a handler instead of SIG_IGN: ignored signals stay ignored after exec, and a command that a task starts must
    end on SIGTERM.
    """
    for signum in _GROUP_SIGNALS:
        signal.signal(signum, _pass)


def _reset_signals() -> None:
    """Remove the handlers of spawner and app.

    Ignore group signals until ``child_main`` sets handlers.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if signum in (signal.SIGKILL, signal.SIGSTOP, *_IGNORED_BY_PYTHON, *_GROUP_SIGNALS):
            continue
        # None means a handler installed by C code of the app, for example faulthandler; it stays.
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):
            signal.signal(signum, signal.SIG_DFL)
    ignore_without_inheritance()


def _pass(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing."""
