"""Runs a child: attaches the rings, sets signals, serves, exits.

Runs in a child, called by the spawner with a ``ChildBoot``; returning means an orderly exit. It must never use anything
of the master's: no loop, no broker connection, no descriptor but the child's own.
"""

from __future__ import annotations

import logging
import os
import random
import signal
from typing import TYPE_CHECKING

import setproctitle

from turbo import log_format
from turbo.child import loop
from turbo.child.forked import UsualSignals
from turbo.child.own_signals import OwnSignals
from turbo.child.soft_limited_threads import ThreadSoftLimits
from turbo.child.time_limits import SoftLimit
from turbo.ring.link import ChildLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from turbo.child.loop import Executor
    from turbo.ring.control_page import ChildPage
    from turbo.spawner.messages import ChildBoot

    #: Makes the executor, in a child that is set up and has not said hello yet.
    ExecutorMaker = Callable[[ChildBoot, ChildLink, SoftLimit], Executor]

logger = logging.getLogger(__name__)


def child_main(hostname: str, make_executor: ExecutorMaker, *, threads: bool = False) -> Callable[[ChildBoot], None]:
    """Bind the worker's name and kind of app to the function of a child.

    The spawner runs it in each child. ``threads``: the children run functions in threads.
    """

    def main(boot: ChildBoot) -> None:
        name = f"ForkPoolWorker-{boot.index}"
        log_format.enter_child(boot.index, name)
        setproctitle.setproctitle(f"[turbo: {hostname}:{name}]")
        random.seed()
        link = ChildLink.attach(boot.epoch, boot.fds, lifeline_fd=boot.lifeline_fd)
        _ignore_group_signals(link.page)
        soft = ThreadSoftLimits(link.page) if threads else SoftLimit(link.page)
        soft.install()
        UsualSignals().register()
        executor = make_executor(boot, link, soft)
        link.page.hello(os.getpid())
        loop.run(link, executor, OwnSignals().restore)

    return main


def _ignore_group_signals(page: ChildPage) -> None:
    """Ignore TERM, INT, HUP and QUIT: only the master acts on them.

    The whole process group may get them. This installs handlers that do nothing instead of SIG_IGN, which programs that
    a task starts would inherit. When the master terminates the task that runs here, the signal has its default effect.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if page.condemned():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, handle)
