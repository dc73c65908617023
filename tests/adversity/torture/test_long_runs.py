"""A worker that lives through many kills of its master, restarts of its broker, and tasks: nothing lost, memory flat.

Short here. `tox -e torture` makes 50 kills (TURBO_TORTURE_MASTERS), 20 restarts (TURBO_TORTURE_RESTARTS) and 200,000
tasks (TURBO_TORTURE_SOAK) of it. Each prints its figures.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
import redis

from tests.adversity.torture.load import QUEUE, Feeder, Producer, Progress, child_pids
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

MASTERS = int(os.environ.get("TURBO_TORTURE_MASTERS", "2"))
RESTARTS = int(os.environ.get("TURBO_TORTURE_RESTARTS", "1"))
SOAK = int(os.environ.get("TURBO_TORTURE_SOAK", "4000"))
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
CHILDREN = 2
READY = r"ready\.$"
#: Messages that a worker with a fixed prefetch holds at most.
WINDOW = 4 * CHILDREN
MEBIBYTE = 1 << 20

Make = Callable[..., WorkerProcess]


@pytest.fixture
def make(tmp_path: object, vhost: str, redis_db: str, oracle: Oracle) -> Make:
    """Makes a worker of the torture app, not started."""
    env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env}
    options = ("-A", "tests.adversity.torture.tasks", "-c", str(CHILDREN), "-l", "info")
    return lambda *more: WorkerProcess(*options, *more, directory=tmp_path, env=env)  # type: ignore[arg-type]


@pytest.fixture
def feeder(vhost: str, oracle: Oracle) -> Iterator[Feeder]:
    """Keeps the worker's queue full from when the test starts it."""
    feeder = Feeder(vhost, Progress(oracle.path), depth=2000)
    yield feeder
    feeder.finish()


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest's capturing."""

    def told(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text} (seed {SEED})")

    return told


@pytest.mark.timeout(400 + 60 * MASTERS)
@pytest.mark.row("CN1", "PL18")
def test_masters_killed_one_after_the_other(
    make: Make,
    feeder: Feeder,
    oracle: Oracle,
    rabbitmq: RabbitMQ,
    vhost: str,
    redis_db: str,
    report: Callable[[str], None],
) -> None:
    chance, began, fresh = random.Random(SEED), time.monotonic(), set()
    feeder.feed(500)
    feeder.start()
    for _ in range(MASTERS):
        with make("--prefetch", "fixed") as worker:
            worker.wait_for_line(READY)
            oracle.wait_count("end", len(oracle.ids("end")) + chance.randrange(50, 500), 60)
            leftovers = Leftovers()
            leftovers.watch(worker.children())
            died = Stopwatch()
            worker.kill()
            leftovers.check_orphans(died)
            # Before acknowledgements arrive, the broker sends no more than a window holds: so many may have been
            # started since one that has not arrived, with those that were here before.
            fresh.update(oracle.ids("start")[-2 * WINDOW :])
    feeder.finish()
    with make() as last:
        last.wait_for_line(READY)
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0, timeout=120)
        last.terminate()
        assert last.wait() == 0
    started, ended, failed = Counter(oracle.ids("start")), set(oracle.ids("end")), _failures(redis_db)
    early, late = ({f"{kind}-{number}" for number in range(feeder.each)} for kind in "el")
    cut = early - ended
    twice = {identifier for identifier in early if started[identifier] > 1}
    repeated = sum(started[identifier] > 1 for identifier in late)
    report(
        f"{MASTERS} masters killed in {time.monotonic() - began:.0f} s over {2 * feeder.each} tasks: of the early ones "
        f"{len(cut)} cut short, {len(twice)} run again; of the late ones {repeated} repeated, {len(late - ended)} lost"
    )
    assert not late - ended, f"late tasks vanished: {sorted(late - ended)[:5]}; stored: {failed}"
    assert cut <= started.keys(), "an early task that had not started vanished"
    assert len(cut) <= CHILDREN * MASTERS, "more early tasks were lost than children were running"
    assert not twice - fresh, "an early task ran twice that was acknowledged before the kill"
    assert repeated <= WINDOW * MASTERS, "late tasks repeat that no kill explains"
    assert not failed


@pytest.mark.timeout(400 + 60 * RESTARTS)
@pytest.mark.row("CN12", "P1")
def test_the_broker_restarted_again_and_again(
    make: Make, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, redis_db: str, report: Callable[[str], None]
) -> None:
    began, sent, outages = time.monotonic(), 0, []
    with make() as worker:
        worker.wait_for_line(READY)
        for _ in range(RESTARTS):
            sent = _send(vhost, sent, 600)
            oracle.wait_count("end", sent - 500, 60)
            mark = worker.mark()
            rabbitmq.stop()
            rabbitmq.start()
            back = time.monotonic()
            worker.wait_for_line("Consuming from", 60, since=mark)
            outages.append(time.monotonic() - back)
        sent = _send(vhost, sent, 600)
        oracle.wait_ids("end", [_identifier(number) for number in range(sent)], timeout=120)
        check_queues_settled(rabbitmq, vhost, [QUEUE], consumers=1)
        worker.terminate()
        assert worker.wait() == 0
    # What a task sends while the broker goes is published again when its confirm is lost: two messages of one id.
    oracle.check_no_overlap(but="c-")
    again = sum(count > 1 for count in Counter(oracle.ids("start")).values())
    report(
        f"the broker restarted {RESTARTS} times in {time.monotonic() - began:.0f} s over {sent} tasks: none lost, "
        f"{again} run again; consuming {max(outages, default=0):.1f} s after its return at most"
    )
    assert not _failures(redis_db)


@pytest.mark.timeout(400 + SOAK // 50)
@pytest.mark.row("P14")
def test_memory_is_flat_over_many_tasks_of_all_kinds(
    make: Make, oracle: Oracle, rabbitmq: RabbitMQ, vhost: str, redis_db: str, report: Callable[[str], None]
) -> None:
    began, sent, progress, sizes = time.monotonic(), 0, Progress(oracle.path), []
    with make() as worker:
        worker.wait_for_line(READY)
        # It is ready with its first child.
        wait_until("all children are there", lambda: len(_processes(worker)) == 2 + CHILDREN, 60)
        processes = _processes(worker)
        for _ in range(10):
            sent = _send(vhost, sent, SOAK // 10)
            ends = sent + sent // 10  # every tenth task sends another
            wait_until(f"{ends} tasks have ended", lambda ends=ends: progress.look() >= ends, 60 + SOAK // 100)
            rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
            sizes.append({name: process.memory_info().rss for name, process in processes.items()})
        lasted = time.monotonic() - began
        assert _processes(worker) == processes, "a process was replaced"
        worker.terminate()
        assert worker.wait() == 0
    grown = {name: (sizes[-1][name] - sizes[1][name]) / MEBIBYTE for name in processes}
    told = ", ".join(f"{name} {sizes[1][name] >> 20} MiB {growth:+.1f}" for name, growth in grown.items())
    report(f"{progress.ends} tasks in {lasted:.0f} s ({progress.ends / lasted:.0f}/s); from the fifth on: {told}")
    assert not _failures(redis_db)
    # Allocators settle in the first fifth; a leak of 40 bytes a task would be seen over 200,000.
    assert all(growth < 8 for growth in grown.values()), f"memory grows: {grown} MiB"


def _identifier(number: int) -> str:
    return f"{'p' if number % 10 == 0 else 'e' if number % 2 else 'l'}-{number}"


def _send(vhost: str, first: int, count: int) -> int:
    """Publish tasks of three kinds, on a connection of their own; how many there are now."""
    producer = Producer(vhost)
    names = {"p": "parent", "e": "early", "l": "late"}
    producer.send(
        (
            (identifier := _identifier(number), names[identifier[0]], (f"c-{number}",) if number % 10 == 0 else ())
            for number in range(first, first + count)
        ),
        delivery_mode=2,
    )
    producer.close()
    return first + count


def _processes(worker: WorkerProcess) -> dict[str, psutil.Process]:
    """Master, spawner and children by name."""
    (spawner,) = child_pids(worker.pid)
    pids = {"master": worker.pid, "spawner": spawner}
    pids |= {f"child {number}": pid for number, pid in enumerate(sorted(child_pids(spawner)), start=1)}
    return {name: psutil.Process(pid) for name, pid in pids.items()}


def _failures(url: str) -> dict[str, str]:
    """Every stored failure: id -> name of the exception."""
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match="celery-task-meta-*", count=1000))
        documents = [json.loads(text) for text in client.mget(keys)] if keys else []
    return {each["task_id"]: each["result"]["exc_type"] for each in documents if each["status"] == "FAILURE"}
