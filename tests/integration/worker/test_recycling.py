"""Children are replaced by number of tasks and by memory, and the log shows the figures."""

from __future__ import annotations

import re
from collections import Counter

import psutil
import pytest

from tests.harness.oracle import Leftovers
from tests.harness.processes import Stopwatch, wait_until
from tests.integration.worker.site import Site


def _titles(site: Site) -> list[str]:
    return [" ".join(child.cmdline()) for child in site.worker.children()]


@pytest.mark.row("PL12", "PL28", "CL14")
def test_exactly_so_many_tasks_per_child(site: Site) -> None:
    with site.running("-c", "2", "--max-tasks-per-child", "10"):
        sent = [site.send("early", "return") for _ in range(200)]
        for identifier in sent:
            assert site.wait_document(identifier)["status"] == "SUCCESS"
        site.wait_settled()
    runs = Counter(trace.pid for trace in site.oracle.traces("start") if trace.id in set(sent))
    assert sum(runs.values()) == 200
    assert max(runs.values()) == 10
    # Two at most were still good for more when there was no more to do.
    assert sum(1 for count in runs.values() if count < 10) <= 2


@pytest.mark.row("PL13", "PL14", "P15", "CL14")
@pytest.mark.parametrize("limit", ["150MB", "153600"])
def test_a_grown_child_is_replaced_before_it_leaves_and_finishes_its_task(site: Site, limit: str) -> None:
    with site.running("-c", "1", "--max-memory-per-child", limit) as worker:
        fifo = site.fifo()
        growing = site.send("late", "grow", 200, str(fifo))
        grown = site.wait_started(growing)
        worker.wait_for_line(rf"Child 1 \(pid {grown}\) uses \d+ KiB, more than 153600, and is replaced")
        # The new child works before the old one has gone: it is the only slot there is.
        beside = site.send("late", "return")
        assert site.wait_document(beside)["status"] == "SUCCESS"
        assert site.wait_started(beside) != grown
        assert psutil.pid_exists(grown) and site.document(growing) is None
        fifo.write_text("enough")
        assert site.wait_document(growing)["status"] == "SUCCESS"
        wait_until("the grown child has left", lambda: not psutil.pid_exists(grown), 60)
        assert len(worker.children("ForkPoolWorker")) == 1
        site.wait_settled()
        assert site.starts(growing) == 1


@pytest.mark.row("PL13", "P15")
def test_a_child_past_the_hard_limit_is_killed_in_its_task(site: Site) -> None:
    with site.running("-c", "2", "--max-memory-per-child-hard", "150MB") as worker:
        fifo = site.fifo()
        growing = site.send("early", "grow", 200, str(fifo))
        document = site.wait_document(growing)
        assert (document["status"], document["result"]["exc_type"]) == ("FAILURE", "WorkerLostError")
        found = re.search(
            r"used (\d+) KiB, more than the hard limit of 153600 KiB", document["result"]["exc_message"][0]
        )
        assert found is not None, document["result"]["exc_message"]
        # It may be killed anywhere between the limit and the 200 MB that it asks for.
        assert int(found[1]) > 153600
        worker.wait_for_line(r"died with a task: memory .*peak memory \d{6,} KiB")
        wait_until("its slot is filled", lambda: len(worker.children("ForkPoolWorker")) == 2, 60)
        # One that comes back is given up like any other that kills its children.
        poison = site.send("late strict", "always grow", 200, str(fifo))
        dead = site.dead_letters(1)
        assert (dead[0].id, dead[0].headers["x-turbo-deliveries"]) == (poison, 5)
        assert "hard limit of 153600 KiB" in dead[0].headers["x-turbo-last-death"]
        site.wait_settled()


@pytest.mark.row("PL25", "PL2")
def test_every_process_says_what_it_is(site: Site) -> None:
    with site.running("-c", "2", "-n", "titled@%h") as worker:
        master = " ".join(psutil.Process(worker.pid).cmdline())
        assert re.search(r"\[turbo: titled@\S+:MainProcess\]", master), master
        # The worker is ready with its first child; the second may be a copy of the spawner still.
        wait_until("both have titles", lambda: sum("ForkPoolWorker" in title for title in _titles(site)) == 2, 60)
        wait_until("both children's titles", lambda: sum(":ForkPoolWorker-" in t for t in _titles(site)) == 2, 60)
        titles = _titles(site)
        for index in (1, 2):
            assert sum(f":ForkPoolWorker-{index}]" in title for title in titles) == 1, titles
        assert all("titled@" in title for title in titles), titles
        broker = {c.raddr.port for c in psutil.Process(worker.pid).net_connections() if c.raddr}
        assert site.rabbitmq.port in broker
        for child in worker.children():
            assert not [c for c in child.net_connections() if c.raddr], "a child has a connection"


@pytest.mark.row("CN1", "CN6", "PL18", "P20")
def test_what_a_killed_worker_had_comes_back(site: Site, leftovers: Leftovers) -> None:
    with site.running("-c", "2", "--prefetch-multiplier", "2") as worker:
        fifos = [site.fifo() for _ in range(2)]
        early = site.send("early", "wait", str(fifos[0]))
        late = site.send("late", "wait", str(fifos[1]))
        for identifier in (early, late):
            site.wait_started(identifier)
        reserved = [site.send("early", "return") for _ in range(3)]
        site.rabbitmq.wait_queue("classic", site.vhost, ready=0, unacked=4)
        children = worker.children()
        leftovers.watch(children)
        died = Stopwatch()
        worker.kill()
        worker.wait()
        site.rabbitmq.wait_queue("classic", site.vhost, ready=4, unacked=0)
        assert died.seconds < 1, "the broker took long to notice: somebody held the socket"
        leftovers.check_orphans(died)
    with site.running("-c", "2"):
        site.wait_started(late, 2)
        # Its second start returns what stands in the place that it waited at.
        fifos[1].write_text("again")
        assert site.wait_document(late)["result"] == "again"
        for identifier in reserved:
            assert site.wait_document(identifier)["status"] == "SUCCESS"
        site.wait_settled()
        assert site.document(early) is None, "acknowledged at its start: it is gone with the worker"
        assert (site.starts(early), site.starts(late)) == (1, 2)
