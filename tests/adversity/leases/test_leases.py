"""Tasks longer than the broker's consumer timeout start once, are settled once, and come back when they are lost."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.adversity.leases.conftest import READY, TIMEOUT, MakeWorker
from tests.adversity.leases.tasks import DEAD, LEASE, QUEUE
from tests.harness.oracle import Oracle
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo.protocol.building import build
from turbo.protocol.content import encode

TORTURE = os.environ.get("TURBO_TORTURE") == "1"
ON_A_LEASE = "continues as .* on a lease"


def send(url: str, tasks: list[tuple[str, tuple[Any, ...]]], **options: Any) -> list[str]:
    """Send tasks to the queue, which a worker has declared; their ids."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    ids = []
    for name, arguments in tasks:
        ids.append(str(uuid.uuid4()))
        headers, body, _ = build(ids[-1], name, arguments, **options)
        data, content_type, encoding = encode(body, "json")
        properties = pika.BasicProperties(
            content_type=content_type, content_encoding=encoding, headers=headers, delivery_mode=2,
            correlation_id=ids[-1],
        )  # fmt: skip
        channel.basic_publish(QUEUE, QUEUE, data, properties)
    connection.close()
    return ids


def queues_of(broker: RabbitMQ, url: str) -> dict[str, int]:
    """Every queue of a virtual host, and what is in it."""
    return {name: facts.ready + facts.unacked for name, facts in broker.queues(url).items()}


def wait_leased(worker: WorkerProcess, count: int) -> None:
    """Wait until so many tasks are on a lease."""
    wait_until(f"{count} tasks are on a lease", lambda: len(re.findall(ON_A_LEASE, worker.output)) >= count, 60)


@pytest.mark.timeout(240)
@pytest.mark.row("CN22", "P12")
def test_a_task_longer_than_the_consumer_timeout_starts_once_and_is_settled_once(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str
) -> None:
    count = 12
    with make_worker("-c", str(count), settings=("worker.prefetch_multiplier=1",)) as worker:
        worker.wait_for_line(READY)
        lengths = [TIMEOUT * (0.25 + 2.0 * number / count) for number in range(count)]
        ids = send(vhost, [("long", (seconds,)) for seconds in lengths])
        oracle.wait_ids("end", ids, timeout=90)
        impatient.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        assert re.search(ON_A_LEASE, worker.output), "no task was moved, so this shows nothing"
        assert "lost the connection" not in worker.output
        assert "over:" not in worker.output, "the broker closed a channel"
        worker.terminate()
        assert worker.wait() == 0
    oracle.check_started_once(ids)
    left = queues_of(impatient, vhost)
    assert not any(left.values()), left
    assert not [name for name in left if name.startswith("turbo.lease.")], "a lease queue outlives its worker"


@pytest.mark.timeout(300)
def test_a_leased_task_comes_back_at_once_when_its_worker_is_killed(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str, gate: Path
) -> None:
    second = make_worker("-c", "2", "-n", "other@here")
    with make_worker("-c", "2") as first, contextlib.closing(second):
        first.wait_for_line(READY)
        ids = send(vhost, [("gated", (str(gate),))])
        oracle.wait_ids("start", ids)
        wait_leased(first, 1)
        second.start().wait_for_line(READY)
        first.kill()
        lost = Stopwatch()
        wait_until("the other has begun it", lambda: oracle.ids("start") == ids * 2, 60)
        assert lost.seconds < LEASE / 2
        gate.touch()
        oracle.wait_ids("end", ids)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "framework"), [("classic", "celery"), ("quorum", "turbo")])
def test_a_rejected_task_on_a_lease_is_dead_lettered_by_its_own_queue(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str, framework: str
) -> None:
    with make_worker("-c", "2", LEASE_FRAMEWORK=framework) as worker:
        worker.wait_for_line(READY)
        channel = pika.BlockingConnection(pika.URLParameters(vhost)).channel()
        channel.queue_declare(DEAD, durable=True)
        (identifier,) = send(vhost, [("failing", (1.5 * LEASE,))])
        worker.wait_for_line(ON_A_LEASE)
        facts = impatient.wait_queue(DEAD, vhost, ready=1)
        assert facts.ready == 1
        _method, properties, _body = channel.basic_get(DEAD, auto_ack=True)
        assert properties.headers["id"] == identifier
        assert [death["reason"] for death in properties.headers["x-death"] if death["queue"] == QUEUE] == ["rejected"]
        impatient.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        channel.connection.close()
    oracle.check_started_once([identifier])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["classic"])
def test_leased_tasks_let_nothing_in_to_wait_behind_them(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str, gate: Path
) -> None:
    with make_worker("-c", "2", settings=("worker.prefetch_multiplier=1",)) as worker:
        worker.wait_for_line(READY)
        ids = send(vhost, [("gated", (str(gate),))] * 2)
        oracle.wait_ids("start", ids)
        waiting = send(vhost, [("long", (0.0,))] * 4)
        wait_leased(worker, 2)
        facts = impatient.wait_queue(QUEUE, vhost, unacked=0)
        assert facts.ready == 4, "a message waits behind a long task that another worker could run"
        gate.touch()
        oracle.wait_ids("end", [*ids, *waiting])
    oracle.check_started_once()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["classic"])
@pytest.mark.parametrize("place", ["single", "exclusive", "auto_delete"])
def test_a_window_full_of_leases_costs_no_consumer_its_place(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str, place: str, gate: Path
) -> None:
    """No other worker becomes the active consumer, and no queue is deleted with its messages."""
    settings = ("worker.prefetch_multiplier=1",)
    second = make_worker("-c", "2", "-n", "other@here", settings=settings, LEASE_KIND=place)
    with make_worker("-c", "2", settings=settings, LEASE_KIND=place) as first, contextlib.closing(second):
        first.wait_for_line(READY)
        running = send(vhost, [("gated", (str(gate),))] * 2)
        oracle.wait_ids("start", running)
        waiting = send(vhost, [("long", (0.0,))] * 6)
        if place == "single":
            second.start().wait_for_line(READY)
        wait_leased(first, 2)
        waiting += send(vhost, [("long", (0.0,))] * 2)
        facts = impatient.queue(QUEUE, vhost)
        assert facts is not None, "the broker has deleted the queue with its only consumer"
        assert facts.ready + facts.unacked >= len(waiting) - 2, "its messages are gone"
        gate.touch()
        oracle.wait_ids("end", [*running, *waiting], timeout=90)
        impatient.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        assert " received" not in second.output, "another worker took over the queue"
        if place != "exclusive":
            # The whole window is back: more tasks than it are here while both children are busy.
            again = send(vhost, [("long", (2.0,))] * 4)
            oracle.wait_ids("end", again)
    oracle.check_started_once()


def pids_of(worker: WorkerProcess) -> set[int]:
    """The pids of a worker's processes."""
    return {process.pid for process in worker.children()}


@pytest.mark.timeout(900 if TORTURE else 400)
@pytest.mark.parametrize("kind", ["classic", "quorum"] if TORTURE else ["quorum"])
def test_what_is_killed_comes_back_and_nothing_else_is_repeated(
    make_worker: MakeWorker, oracle: Oracle, impatient: RabbitMQ, vhost: str
) -> None:
    count, children, kills = (200, 12, 40) if TORTURE else (16, 8, 5)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    workers = [make_worker("-c", str(children // 2), "-n", f"w{number}@here").start() for number in range(2)]
    try:
        for worker in workers:
            worker.wait_for_line(READY)
        ids = send(vhost, [("long", (TIMEOUT * chance.uniform(0.5, 4.0),)) for _ in range(count)])
        dead: set[int] = set()
        for number in range(kills):
            time.sleep(chance.uniform(0.5, TIMEOUT / 2))
            victim = chance.randrange(2)
            runners = workers[victim].children("ForkPoolWorker")
            if number % 3 == 2:
                dead.update(process.pid for process in runners)
                workers[victim].kill()
                workers[victim].close()
                # It may have made another child just before.
                dead.update({trace.pid for trace in oracle.traces()} - pids_of(workers[1 - victim]))
                workers[victim] = make_worker("-c", str(children // 2), "-n", f"w{victim}@here").start()
            elif runners:
                one = chance.choice(runners)
                dead.add(one.pid)
                os.kill(one.pid, signal.SIGKILL)
        oracle.wait_ids("end", ids, timeout=700 if TORTURE else 200)
        impatient.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        for worker in workers:
            worker.terminate()
            assert worker.wait() == 0, worker.output[-2000:]
    finally:
        for worker in workers:
            worker.close()
    starts = oracle.traces("start")
    excused = {trace.id for trace in starts if trace.pid in dead}
    repeated = {identifier for identifier, times in Counter(trace.id for trace in starts).items() if times > 1}
    assert repeated <= excused, f"repeated though nothing of theirs was killed (seed {seed}): {repeated - excused}"
    assert not any(queues_of(impatient, vhost).values())
