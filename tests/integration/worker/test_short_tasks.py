"""Short tasks start without a signal of their own; a long one among them is acknowledged while it runs all the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.harness.processes import wait_until
from tests.integration.worker.site import READY, Site
from tests.integration.worker.tasks import CLASSIC


def _end_of(fifo: Path) -> int:
    """Open the FIFO for writing once the task reads it."""
    ends: list[int] = []

    def is_read() -> bool:
        try:
            ends.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return bool(ends)

    wait_until("the long task runs", is_read, 20)
    return ends[0]


@pytest.mark.row("CN4")
@pytest.mark.parametrize("multiplier", ["1", "4"])
def test_a_long_task_after_many_short_ones_is_acknowledged_when_it_starts(site: Site, multiplier: str) -> None:
    options = ("-c", "2", "--prefetch-multiplier", multiplier)
    with site.another(*options, app="tests.integration.worker.short_tasks") as worker:
        worker.wait_for_line(READY)
        for _ in range(5):
            for _ in range(100):
                site.send("noop")
            fifo = site.fifo()
            site.send("hold", str(fifo))
            end = _end_of(fifo)
            site.rabbitmq.wait_queue(CLASSIC, site.vhost, ready=0, unacked=0)
            os.close(end)
