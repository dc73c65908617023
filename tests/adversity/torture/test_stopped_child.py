"""A child that is stopped in the middle of things: the others go on, its waiting work moves, nothing runs twice."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversity.torture.load import QUEUE, Producer, child_pids
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import HarnessError, Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

READY = r"ready\.$"


@pytest.fixture
def worker(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> Iterator[WorkerProcess]:
    """A worker of two children."""
    env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env}
    options = ("-A", "tests.adversity.torture.tasks", "-c", "2", "-l", "info", "--shutdown-timeout", "3")
    with WorkerProcess(*options, directory=tmp_path, env=env) as process:
        process.wait_for_line(READY)
        yield process


def children(worker: WorkerProcess) -> list[int]:
    """Pids of the two children."""
    (spawner,) = child_pids(worker.pid)
    wait_until("two children", lambda: len(child_pids(spawner)) == 2, 60)
    return child_pids(spawner)


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    wait_until("the child has stopped", lambda: _state(pid) == "T", 60, every=0.001)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_single_record_in_an_idle_stopped_child_is_moved(
    worker: WorkerProcess, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    stopped = children(worker)[0]
    stop(stopped)
    # Two messages, so that whichever child is first in turn one goes to the stopped one.
    sent = Stopwatch()
    producer.send((f"a-{n}", "late", ()) for n in range(2))
    oracle.wait_ids("end", {"a-0", "a-1"})
    assert sent.seconds < 1.5, "unclaimed work waited too long"
    assert {trace.pid for trace in oracle.traces()} == set(children(worker)) - {stopped}
    worker.wait_for_line(rf"Child \d+ \(pid {stopped}\) claims nothing")
    mark = worker.mark()
    os.kill(stopped, signal.SIGCONT)
    worker.wait_for_line(rf"Child \d+ \(pid {stopped}\) claims again", since=mark)
    numbers = itertools.count()

    def works() -> bool:
        batch = {f"b-{next(numbers)}" for _ in range(20)}
        producer.send((each, "pause", (0.01,)) for each in batch)
        oracle.wait_ids("end", batch)
        return stopped in {trace.pid for trace in oracle.traces()}

    wait_until("the child is given work again", works, 60)
    oracle.check_started_once()
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)


@pytest.mark.row("PL29")
def test_one_stopped_under_load_holds_up_nobody(
    worker: WorkerProcess, producer: Producer, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str
) -> None:
    stopped, other = children(worker)
    ids = [f"l-{n}" for n in range(3000)]
    producer.send((identifier, "late", ()) for identifier in ids)
    oracle.wait_count("end", 300)
    stop(stopped)
    # What it had claimed is its own; all the rest ends at the other.
    oracle.wait_count("end", len(ids) - 1)

    def unended() -> set[str]:
        return set(ids) - set(oracle.ids("end"))

    # The last may be the other's, which ends it now. One stopped between its claim and its first line shows nothing.
    with contextlib.suppress(HarnessError):
        wait_until(
            "the stopped child holds what is missing",
            lambda: unended() <= {trace.id for trace in oracle.traces("start") if trace.pid == stopped},
            3,
        )
    missing = unended()
    assert len(missing) <= 1
    assert all(trace.pid in (stopped, other) for trace in oracle.traces())
    os.kill(stopped, signal.SIGCONT)
    oracle.wait_ids("end", ids)
    oracle.check_started_once()
    assert all(trace.pid == stopped for trace in oracle.traces("end") if trace.id in missing)
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)


def test_shutdown_meets_its_deadline_beside_a_child_stopped_in_a_task(
    worker: WorkerProcess,
    producer: Producer,
    oracle: Oracle,
    rabbitmq: RabbitMQ,
    vhost: str,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    producer.send([("w-0", "wait_for_file", (str(tmp_path / "never"),))])
    (begun,) = oracle.wait_count("start", 1)
    stop(begun.pid)
    leftovers.watch(worker.children())
    worker.terminate()
    assert worker.wait() != 0
    leftovers.check()
    # Its message is the broker's again.
    rabbitmq.wait_queue(QUEUE, vhost, ready=1, unacked=0)


def test_shutdown_does_not_wait_for_a_stopped_child_that_runs_nothing(
    tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle, leftovers: Leftovers
) -> None:
    env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env}
    options = ("-A", "tests.adversity.torture.tasks", "-c", "2", "-l", "info")
    with WorkerProcess(*options, directory=tmp_path, env=env) as worker:
        worker.wait_for_line(READY)
        stop(children(worker)[0])
        leftovers.watch(worker.children())
        worker.terminate()
        assert worker.wait() == 0
        leftovers.check()
