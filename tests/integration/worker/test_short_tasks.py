"""A long task among short ones, whose starts need no signal: it is acknowledged while it runs, and holds up nothing."""

from __future__ import annotations

import os

import pytest

from tests.harness.processes import wait_until
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


@pytest.mark.row("P10")
def test_no_message_waits_behind_a_long_task_while_newer_ones_run(site: Site) -> None:
    """There is always more to do, so no child is ever idle."""
    noted, fifo = site.directory / "noted", site.fifo()
    with site.another("-c", "2", app="tests.integration.worker.short_tasks") as worker:
        worker.wait_for_line(READY)
        site.rabbitmq.wait_queue(CLASSIC, site.vhost, consumers=1)
    for number in range(500):
        site.send("note", str(noted), number)
        if number == 100:
            site.send("hold", str(fifo))
    with site.another("-c", "2", app="tests.integration.worker.short_tasks") as worker:
        worker.wait_for_line(READY)
        end = end_of_fifo(fifo)
        wait_until("all are noted", lambda: noted.read_text().count("\n") == 500, 60)
        os.close(end)
    places = {int(number): place for place, number in enumerate(noted.read_text().splitlines())}
    assert max(place - number for number, place in places.items()) < 50
