"""The master, or the spawner, killed with -9 under load: the broker has everything back, nobody is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.torture.load import QUEUE, Feeder, Producer, Progress
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ

CHILDREN = 4
#: Messages that a worker here holds at most: its prefetch is fixed, at four for each child.
WINDOW = 4 * CHILDREN


@pytest.fixture
def feeder(vhost: str, oracle: Oracle) -> Iterator[Feeder]:
    """Keeps the worker's queue full from when the test starts it."""
    made = Feeder(vhost, Progress(oracle.path), depth=2000)
    yield made
    made.finish()


@pytest.mark.row("CN1", "PL18")
def test_a_killed_master_leaves_its_messages_to_the_next_worker(
    make_worker: MakeWorker,
    producer: Producer,
    feeder: Feeder,
    oracle: Oracle,
    leftovers: Leftovers,
    rabbitmq: RabbitMQ,
    vhost: str,
    tmp_path: Path,
) -> None:
    go, progress = tmp_path / "go", Progress(oracle.path)
    with make_worker("-c", str(CHILDREN), "--prefetch", "fixed") as worker:
        worker.wait_for_line(READY)
        producer.send([("running", "wait_for_file", (str(go),))])
        oracle.wait_count("start", 1)
        feeder.start()
        wait_until("tasks have ended", lambda: progress.look() >= 2500, 60)
        leftovers.watch(worker.children())
        died = Stopwatch()
        worker.kill()
        wait_until("nothing unacknowledged", lambda: rabbitmq.queue(QUEUE, vhost).unacked == 0, 60)
        assert died.seconds < 1.0 + 0.5, "the broker took long to notice: somebody held the socket"
        leftovers.check_orphans(died)
    feeder.finish()
    count = feeder.each
    before = oracle.ids("start")
    go.touch()
    with make_worker("-c", str(CHILDREN)) as second:
        second.wait_for_line(READY)
        check_queues_settled(rabbitmq, vhost, [QUEUE])
        second.terminate()
        assert second.wait() == 0
    early = {identifier for identifier in before if identifier.startswith("e-")}
    assert early, "no early task had started before the kill, so this shows nothing"
    # Before acknowledgements arrive, the broker sends no more than a window holds: so many may have been started since
    # one that has not arrived, with those that were here before.
    fresh = set(before[-2 * WINDOW :])
    settled = [f"e-{number}" for number in range(count) if f"e-{number}" in early - fresh]
    assert settled, "every early task was too fresh, so this shows nothing"
    oracle.check_started_once(settled)
    ended = set(oracle.ids("end"))
    lost = {f"l-{number}" for number in range(count)} - ended
    assert not lost, f"late tasks vanished: {sorted(lost)[:5]}"
    unended = {f"e-{number}" for number in range(count)} - ended
    assert unended <= early, "an early task that had not started vanished"
    assert len(unended) <= CHILDREN, "more early tasks were lost than children were running"


def test_a_worker_whose_spawner_was_killed_starts_anew_after_its_running_tasks(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ, vhost: str
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send([("long", "pause", (6.0,)), *((f"p-{number}", "pause", (0.1,)) for number in range(4))])
        oracle.wait_count("end", 4)
        leftovers.watch(worker.children())
        (spawner,) = worker.children("Spawner")
        mark = worker.mark()
        os.kill(spawner.pid, signal.SIGKILL)
        worker.wait_for_line("Restarting the worker", since=mark)
        assert "long" in oracle.ids("end"), "the running task was not waited for"
        worker.wait_for_line(READY, since=mark)
        leftovers.check()
        producer.send([("after", "late", ())])
        oracle.wait_ids("end", ["after"])
        worker.terminate()
        assert worker.wait() == 0, "signals reach the new worker as they reached the old"
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 0
    oracle.check_started_once()


def test_a_killed_spawner_ends_a_young_worker_after_its_running_tasks(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ, vhost: str
) -> None:
    # So slow a start that the worker is older than one that starts anew.
    with make_worker("-c", "2", env={"TURBO_FAILPOINTS": "child.before_main=sleep(6000):child"}) as worker:
        worker.wait_for_line(READY)
        producer.send((f"p-{number}", "pause", (0.5,)) for number in range(6))
        oracle.wait_count("start", 1)
        leftovers.watch(worker.children())
        (spawner,) = worker.children("Spawner")
        os.kill(spawner.pid, signal.SIGKILL)
        assert worker.wait() == 1
    leftovers.check()
    assert sorted(oracle.ids("start")) == sorted(oracle.ids("end"))
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 6 - len(oracle.ids("end"))
