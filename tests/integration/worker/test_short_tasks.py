"""Short tasks start without a signal of their own; a long one among them is acknowledged while it runs all the same."""

from __future__ import annotations

import os

import pytest

from tests.integration.worker.site import READY, Site, end_of_fifo
from tests.integration.worker.tasks import CLASSIC


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
            end = end_of_fifo(fifo)
            site.rabbitmq.wait_queue(CLASSIC, site.vhost, ready=0, unacked=0)
            os.close(end)
