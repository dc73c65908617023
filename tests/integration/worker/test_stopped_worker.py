"""All processes of a worker are stopped for longer than the limits of what runs, and continued."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import wait_until
from tests.integration.worker.site import Site

#: Seconds.
LIMIT = 12.0
STOP = 14.0


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """A child for each task."""
    with site.running("-c", "6"):
        yield


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _stop_and_continue(site: Site) -> None:
    """Stop the spawner and the children, then the master; continue them the other way round."""
    pids = [each.pid for each in site.worker.children()]
    for pid in (*pids, site.worker.pid):
        os.kill(pid, signal.SIGSTOP)
    wait_until("all are stopped", lambda: all(_state(pid) == "T" for pid in (*pids, site.worker.pid)), 60)
    until = time.monotonic() + STOP
    wait_until("the stop is longer than the limits", lambda: time.monotonic() > until, 2 * STOP)
    for pid in (site.worker.pid, *reversed(pids)):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.row("PL6", "PL7")
def test_a_stop_costs_no_task_its_limit_and_the_limits_still_act(site: Site) -> None:
    hard, soft = {"time_limit": LIMIT, "soft_time_limit": 60}, {"time_limit": 60, "soft_time_limit": LIMIT}
    wait_until("all children are there", lambda: len(site.worker.pool_pids()) == 6, 60)
    fifos = [site.fifo(), site.fifo()]
    file = site.directory / "goes on"
    good = [
        site.send("early", "wait", str(fifos[0]), **hard),
        site.send("early", "wait", str(fifos[1]), **soft),
        site.send("coroutine", str(file), soft_time_limit=LIMIT),
    ]
    bad = {
        site.send("early", "wait", str(site.fifo()), **hard): ("FAILURE", "TimeLimitExceeded"),
        site.send("early", "wait", str(site.fifo()), **soft): ("FAILURE", "SoftTimeLimitExceeded"),
        site.send("coroutine", str(site.directory / "never"), soft_time_limit=LIMIT):
            ("FAILURE", "SoftTimeLimitExceeded"),
    }  # fmt: skip
    for identifier in (*good, *bad):
        site.wait_started(identifier)
    _stop_and_continue(site)
    continued = time.monotonic()
    site.worker.wait_for_line(r"The worker did not run for \d+\.\d s; it does not count this for time limits")
    # The children's own timers are over by now, if they would be.
    wait_until("the children ran again", lambda: time.monotonic() > continued + 0.6, 60)
    file.touch()
    for fifo in fifos:
        # Not blocking: where the reader was killed, this fails at once.
        way = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(way, b"in time")
        os.close(way)
    assert [site.wait_document(identifier)["result"] for identifier in good] == ["in time"] * 3
    for identifier, (status, error) in bad.items():
        document = site.wait_document(identifier)
        assert (document["status"], document["result"]["exc_type"]) == (status, error)
    site.wait_settled()
