"""A window that grew with short tasks holds nothing back behind long ones."""

from __future__ import annotations

import os
import re

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.worker.site import READY, Site, end_of_fifo, ends_of_fifos
from tests.integration.worker.tasks import CLASSIC, QUORUM

APP = "tests.integration.worker.short_tasks"
ADAPTIVE = ("--prefetch-multiplier", "1", "--prefetch", "adaptive")


def _grow(site: Site, worker: WorkerProcess, queue: str) -> None:
    """Send short tasks until the worker's window is wide."""
    since = worker.mark()

    def wide() -> bool:
        # On a busy machine some of them take as long as long ones, for which no window grows.
        for _ in range(300):
            site.send("noop", queue=queue)
        site.rabbitmq.wait_queue(queue, site.vhost, ready=0, unacked=0)
        lines = worker.output.splitlines()[since:]
        return any(re.search(r"Prefetch window from \d+ to ([3-9]\d|\d{3})\b", line) for line in lines)

    wait_until("the window is wide", wide, 120)


@pytest.mark.row("CN2")
@pytest.mark.parametrize("queue", [CLASSIC, QUORUM])
@pytest.mark.parametrize("late", [False, True])
def test_what_waits_behind_long_tasks_goes_to_a_free_worker(site: Site, late: bool, queue: str) -> None:
    env = {"SHORT_LATE": "1"} if late else {}
    with site.another("-c", "2", *ADAPTIVE, app=APP, level="debug", env=env) as busy:
        busy.wait_for_line(READY)
        _grow(site, busy, queue)
        held = [site.fifo() for _ in range(2)]
        for fifo in held:
            site.send("hold", str(fifo), queue=queue)
        ends = [end_of_fifo(fifo) for fifo in held]
        wanted = site.fifo()
        for _ in range(20):
            site.send("noop", queue=queue)
        site.send("hold", str(wanted), queue=queue)
        site.rabbitmq.wait_queue(queue, site.vhost, ready=0, unacked=23 if late else 21)
        with site.another("-c", "2", *ADAPTIVE, app=APP, env=env) as free:
            free.wait_for_line(READY)
            ends.append(end_of_fifo(wanted))
            site.rabbitmq.wait_queue(queue, site.vhost, ready=0)
            for end in ends:
                os.close(end)
            site.rabbitmq.wait_queue(queue, site.vhost, ready=0, unacked=0)


@pytest.mark.row("CN2")
def test_after_the_long_tasks_both_children_work_again(site: Site) -> None:
    with site.another("-c", "2", *ADAPTIVE, app=APP, level="debug", env={"SHORT_LATE": "1"}) as worker:
        worker.wait_for_line(READY)
        _grow(site, worker, CLASSIC)
        fifos = [site.fifo() for _ in range(6)]
        for fifo in fifos:
            site.send("hold", str(fifo))
        while fifos:
            # Each child may have the next one ready, so they need not run in their order.
            ends = ends_of_fifos(fifos, 2)
            for fifo, end in ends.items():
                os.close(end)
                fifos.remove(fifo)
        for _ in range(50):
            site.send("noop")
        site.rabbitmq.wait_queue(CLASSIC, site.vhost, ready=0, unacked=0)
