"""A child's life: attach the rings, take the signals, make the executor, serve, leave.

Runs in a child, called by the spawner with a ``ChildBoot``; returning means an orderly exit. Nothing of the
master's is here: no loop, no broker connection, no descriptor but the child's own.
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
from turbo.child.time_limits import SoftLimit
from turbo.ring.link import ChildLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from turbo.child.loop import Executor
    from turbo.ring.control_page import ChildPage
    from turbo.spawner.messages import ChildBoot

    #: Makes what runs the tasks, in a child that is set up but for saying hello.
    ExecutorMaker = Callable[[ChildBoot, ChildLink, SoftLimit], Executor]

logger = logging.getLogger(__name__)


def child_main(hostname: str, make_executor: ExecutorMaker) -> Callable[[ChildBoot], None]:
    """Bind the worker's name and its kind of app to the function that the spawner runs in each child."""

    def main(boot: ChildBoot) -> None:
        name = f"ForkPoolWorker-{boot.index}"
        log_format.enter_child(boot.index, name)
        setproctitle.setproctitle(f"[turbo: {hostname}:{name}]")
        random.seed()
        link = ChildLink.attach(boot.epoch, boot.fds, lifeline_fd=boot.lifeline_fd)
        _ignore_group_signals(link.page)
        soft = SoftLimit(link.page)
        soft.install()
        UsualSignals().register()
        executor = make_executor(boot, link, soft)
        link.page.hello(os.getpid())
        loop.run(link, executor, OwnSignals().put_back)

    return main


def _ignore_group_signals(page: ChildPage) -> None:
    """The master alone answers TERM, INT, HUP and QUIT, also when a whole group gets them.

    Handlers that do nothing, rather than SIG_IGN, which programs that a task starts would inherit. Only when the master
    terminates the task that runs here does the signal do what it does to any program.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if page.condemned():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, handle)
