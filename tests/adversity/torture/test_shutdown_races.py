"""A shutdown that comes while a child is on its way: nobody is forgotten, nobody waits for ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.adversity.torture.load import QUEUE, Producer, child_pids
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess


@pytest.mark.parametrize("site", ["spawner.before_fork", "spawner.after_fork", "child.before_main"])
def test_a_child_that_is_being_made_when_the_worker_is_asked_to_stop(
    site: str,
    tmp_path: Path,
    vhost: str,
    redis_db: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    leftovers: Leftovers,
) -> None:
    role = site.partition(".")[0]
    # Children count their passes from their own start, so all three of them are slow there.
    nth = "@3" if role == "spawner" else ""
    env = {
        "TORTURE_BROKER": vhost,
        "TORTURE_BACKEND": redis_db,
        "TURBO_FAILPOINTS": f"{site}=sleep(700){nth}:{role}",
        **oracle.env,
    }
    options = ("-A", "tests.adversity.torture.tasks", "-c", "2", "-l", "info")
    with WorkerProcess(*options, directory=tmp_path, env=env) as worker:
        worker.wait_for_line(r"ready\.$")
        (spawner,) = child_pids(worker.pid)
        wait_until("two children", lambda: len(child_pids(spawner)) == 2, 60)
        producer = Producer(vhost)
        producer.send((f"p-{n}", "pause", (0.05,)) for n in range(4))
        oracle.wait_count("end", 2)
        mark = worker.mark()
        os.kill(child_pids(spawner)[0], signal.SIGKILL)
        worker.wait_for_line(r"Child \d+ \(pid \d+\) died", since=mark)
        leftovers.watch(worker.children())
        worker.terminate()
        assert worker.wait() == 0
        leftovers.check()
        producer.close()
    left = rabbitmq.wait_queue(QUEUE, vhost, unacked=0)
    assert left.ready >= 4 - len(set(oracle.ids("end"))), "a message that did not run is gone"
