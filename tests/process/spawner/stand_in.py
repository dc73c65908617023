"""A stand-in for the master: starts a spawner and children with a grandchild each, prints their pids, waits.

Run as ``python -m tests.process.spawner.stand_in COUNT``; writes one JSON line, then sleeps.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import NoReturn

from turbo.ring.link import ChildLink, MasterLink
from turbo.spawner.handle import start_spawner
from turbo.spawner.messages import ChildBoot, Spawned


def child_main(boot: ChildBoot) -> None:
    """Fork a grandchild that blocks all signals, report its pid, then stay in a long call."""
    link = ChildLink.attach(boot.epoch, boot.fds, lifeline_fd=boot.lifeline_fd)
    grandchild = os.fork()
    if grandchild == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        sleep_for_ever()
    link.page.hello(os.getpid())
    link.emit(9, 0, [b"%d" % grandchild])
    link.signal()
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    sleep_for_ever()


def sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(1000)


def main() -> None:
    count = int(sys.argv[1])
    spawner = start_spawner(child_main)
    if not spawner.wait_ready(60):
        raise SystemExit("the spawner did not come up")
    links = [MasterLink(epoch) for epoch in range(1, count + 1)]
    for index, link in enumerate(links):
        spawner.spawn(link.epoch, index, link.child_fds())
        link.close_child_fds()
    pids: list[int] = []
    while len(pids) < count:
        select.select([spawner], [], [])
        pids += [report.pid for report in spawner.receive() if isinstance(report, Spawned)]
    for link in links:
        select.select([link.outcome_fd], [], [])
        pids += [int(body) for _, _, body in link.drain()]
    sys.stdout.write(json.dumps({"spawner": spawner.pid, "family": pids}) + "\n")
    sys.stdout.flush()
    sleep_for_ever()


if __name__ == "__main__":
    main()
