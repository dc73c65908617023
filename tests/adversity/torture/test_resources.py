"""Descriptors and processes that run out while the worker works: it waits, tries again, and recovers."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.adversity.torture.load import QUEUE, Producer, child_pids
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

READY = r"ready\.$"
Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> Iterator[Start]:
    """Starts a worker of two children with more options and more environment."""
    with ExitStack() as stack:

        def run(*more: str, **variables: str) -> WorkerProcess:
            env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env, **variables}
            options = ("-A", "tests.adversity.torture.tasks", "-c", "2", "-l", "info", *more)
            worker = stack.enter_context(WorkerProcess(*options, directory=tmp_path, env=env))
            worker.wait_for_line(READY)
            return worker

        yield run


def spawner_of(worker: WorkerProcess) -> int:
    """The spawner's pid, once it has its two children."""
    (spawner,) = child_pids(worker.pid)
    wait_until("two children", lambda: len(child_pids(spawner)) == 2, 60)
    return spawner


def starve(pid: int) -> Callable[[], None]:
    """Allow a process no new descriptor, whichever it closes; returns what lifts that."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Descriptors that are open stay so; those below this number are in use for good.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before) and None


def both_work(producer: Producer, oracle: Oracle) -> None:
    """Wait until each of two children has run a task; one that was forked just now may not be ready for any yet."""
    numbers = itertools.count()
    before = len(oracle.traces())

    def done() -> bool:
        batch = {f"{before}-{next(numbers)}" for _ in range(10)}
        producer.send((each, "pause", (0.05,)) for each in batch)
        oracle.wait_ids("end", batch)
        return len({trace.pid for trace in oracle.traces()[before:]}) == 2

    wait_until("both children work", done, 60)


def cpu_share(pid: int, seconds: float) -> float:
    """Which part of a processor a process uses over some time. The time is the measure, not a wait."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


@pytest.mark.parametrize("who", ["master", "spawner"])
@pytest.mark.row("P29", "P30")
def test_no_descriptors_for_a_new_child(
    who: str, start: Start, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, leftovers: Leftovers
) -> None:
    worker = start()
    spawner = spawner_of(worker)
    victim, survivor = child_pids(spawner)
    # Both must be serving: a child whose first report finds no descriptor is another story.
    both_work(producer, oracle)
    feed = starve(worker.pid if who == "master" else spawner)
    mark = worker.mark()
    os.kill(victim, signal.SIGKILL)
    worker.wait_for_line(r"No memory or descriptors for a child's rings|Cannot fork a child", since=mark)
    # The other child works on, and the master does not spin.
    producer.send((f"l-{n}", "late", ()) for n in range(200))
    oracle.wait_ids("end", {f"l-{n}" for n in range(200)})
    assert {trace.pid for trace in oracle.traces() if trace.id[0] == "l"} == {survivor}
    # It may have the tasks' ends to settle yet.
    wait_until("the master does not spin", lambda: cpu_share(worker.pid, 0.5) < 0.2, 60)
    feed()
    wait_until("the slot has a child again", lambda: len(child_pids(spawner)) == 2, 60)
    both_work(producer, oracle)
    oracle.check_started_once()
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    leftovers.watch(worker.children())
    worker.terminate()
    assert worker.wait() == 0
    leftovers.check()


@pytest.mark.row("P29", "P30")
def test_no_descriptor_to_reconnect_with(start: Start, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str) -> None:
    worker = start()
    spawner_of(worker)
    feed = starve(worker.pid)
    mark = worker.mark()
    rabbitmq.close_all_connections(vhost.rpartition("/")[2])
    worker.wait_for_line("Too many open files", since=mark)
    wait_until("the master does not spin", lambda: cpu_share(worker.pid, 0.5) < 0.3, 60)
    feed()
    again = Producer(vhost)
    again.send((f"l-{n}", "late", ()) for n in range(100))
    again.close()
    oracle.wait_ids("end", {f"l-{n}" for n in range(100)})
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)


@pytest.mark.row("P29")
def test_forks_that_fail_are_tried_again(
    start: Start, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    # Forks one and two are the children of the start; then three in a row find no process free (EAGAIN).
    points = ";".join(f"spawner.before_fork=errno(11)@{number}:spawner" for number in (3, 4, 5))
    worker = start(TURBO_FAILPOINTS=points)
    spawner = spawner_of(worker)
    began = time.monotonic()
    os.kill(child_pids(spawner)[0], signal.SIGKILL)
    failed = "Cannot fork a child: Resource temporarily unavailable"
    wait_until("three forks have failed", lambda: worker.output.count(failed) == 3, 60)
    wait_until("the slot has a child again", lambda: len(child_pids(spawner)) == 2, 60)
    assert time.monotonic() - began > 0.69, "0.1, 0.2 and 0.4 seconds lie between the attempts"
    both_work(producer, oracle)
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)


@pytest.mark.row("P29")
def test_replacements_that_cannot_be_forked_leave_their_old_child_and_no_third(
    start: Start, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    # Each child runs twenty tasks; the first four replacements cannot be forked.
    points = ";".join(f"spawner.before_fork=errno(11)@{number}:spawner" for number in (3, 4, 5, 6))
    worker = start("--max-tasks-per-child", "20", TURBO_FAILPOINTS=points)
    spawner = spawner_of(worker)
    ids = [f"l-{n}" for n in range(400)]
    producer.send((identifier, "late", ()) for identifier in ids)
    oracle.wait_ids("end", ids, timeout=120)
    worker.wait_for_line("Cannot fork a child")
    oracle.check_started_once()
    per_child: dict[int, int] = {}
    for trace in oracle.traces("start"):
        per_child[trace.pid] = per_child.get(trace.pid, 0) + 1
    assert max(per_child.values()) <= 20
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    wait_until("two children are left", lambda: len(child_pids(spawner)) == 2, 60)
