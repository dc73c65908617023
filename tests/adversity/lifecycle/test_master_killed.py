"""The master, or the spawner, killed with -9 under load: the broker has everything back, nobody is left behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ


@pytest.mark.row("CN1", "PL18")
def test_a_killed_master_leaves_its_messages_to_the_next_worker(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ, vhost: str
) -> None:
    count = 6000
    with make_worker("-c", "4") as worker:
        worker.wait_for_line(READY)
        producer.send((f"{kind[0]}-{number}", kind, ()) for number in range(count // 2) for kind in ("early", "late"))
        producer.send([("running", "pause", (60.0,))])
        oracle.wait_count("end", 2500)  # the first of them are older than any acknowledgement on its way
        leftovers.watch(worker.children())
        killed, died = time.monotonic(), Stopwatch()
        worker.kill()
        wait_until("nothing unacknowledged", lambda: rabbitmq.queue(QUEUE, vhost).unacked == 0, 30)
        assert died.seconds < 1.0 + 0.5, "the broker took long to notice: somebody held the socket"
        leftovers.check_orphans(died)
    before = oracle.ids("start")
    rabbitmq.evaluate("ok.")
    with make_worker("-c", "4", "--time-limit", "0.5") as second:
        second.wait_for_line(READY)
        wait_until("an empty queue", lambda: _empty(rabbitmq, vhost), 30)
        second.terminate()
        assert second.wait(10) == 0
    early = {identifier for identifier in before if identifier.startswith("e-")}
    assert early, "no early task had started before the kill, so this shows nothing"
    # An acknowledgement that the master had not written when it was killed, the broker never got: such a start is at
    # most a few milliseconds old. Allowed for a machine that is late: a quarter of a second.
    fresh = {trace.id for trace in oracle.traces("start") if trace.mono_ns / 1e9 > killed - 0.25}
    settled = [f"e-{number}" for number in range(count // 2) if f"e-{number}" in early - fresh]
    assert settled, "every early task was too fresh, so this shows nothing"
    oracle.check_started_once(settled)
    ended = set(oracle.ids("end"))
    lost = {f"l-{number}" for number in range(count // 2)} - ended
    assert not lost, f"late tasks vanished: {sorted(lost)[:5]}"
    unended = {f"e-{number}" for number in range(count // 2)} - ended
    assert unended <= early, "an early task that had not started vanished"
    assert len(unended) <= 4, "more early tasks were lost than children were running"


def _empty(rabbitmq: RabbitMQ, vhost: str) -> bool:
    facts = rabbitmq.queue(QUEUE, vhost)
    return facts.ready == 0 and facts.unacked == 0


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
        worker.wait_for_line(READY, since=worker.mark())
        leftovers.check()
        producer.send([("after", "late", ())])
        oracle.wait_ids("end", ["after"])
        worker.terminate()
        assert worker.wait(10) == 0, "signals reach the new worker as they reached the old"
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 0
    oracle.check_started_once()


def test_a_killed_spawner_ends_a_young_worker_after_its_running_tasks(
    make_worker: MakeWorker, producer: Producer, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ, vhost: str
) -> None:
    with make_worker("-c", "2") as worker:
        worker.wait_for_line(READY)
        producer.send((f"p-{number}", "pause", (1.0,)) for number in range(6))
        oracle.wait_count("start", 2)
        leftovers.watch(worker.children())
        (spawner,) = worker.children("Spawner")
        os.kill(spawner.pid, signal.SIGKILL)
        assert worker.wait(10) == 1
    leftovers.check()
    assert sorted(oracle.ids("start")) == sorted(oracle.ids("end"))
    assert rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready == 6 - len(oracle.ids("end"))
