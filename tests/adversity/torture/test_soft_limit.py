"""Tasks that end beside their soft limit. Short here, a hundred thousand of them by TURBO_TORTURE_SOFT."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.adversity.torture.limits import SOFT_LIMIT
from tests.adversity.torture.load import QUEUE, Producer, child_pids
from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

TASKS = int(os.environ.get("TURBO_TORTURE_SOFT", "3000"))
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
JITTER = 0.0002
#: Seconds after the limit at which the signal may arrive: the master's timer counts in milliseconds.
LATE = 0.0012
#: Published and not yet done: the queue is never empty, so children always hold work ahead.
BATCH = 1000


class Stored(threading.Thread):
    """Hears of every document at the moment it is stored, through the channel on which it is announced."""

    def __init__(self, url: str) -> None:
        super().__init__(name="stored", daemon=True)
        self._client = redis.Redis.from_url(url)
        self._channel = self._client.pubsub()
        self._channel.psubscribe("*celery-task-meta-*")
        self._channel.get_message(timeout=5)  # the confirmation
        self._halt = threading.Event()
        #: (id, status, name of the exception or "") -> how often.
        self.seen: Counter[tuple[str, str, str]] = Counter()
        self.count = 0

    def run(self) -> None:
        while not self._halt.is_set():
            message = self._channel.get_message(timeout=0.1)
            if message is None or message["type"] != "pmessage":
                continue
            document = json.loads(message["data"])
            error = "" if document["status"] == "SUCCESS" else document["result"]["exc_type"]
            self.seen[document["task_id"], document["status"], error] += 1
            self.count += 1

    def close(self) -> None:
        """Stop listening."""
        self._halt.set()
        self.join(5)
        self._channel.close()
        self._client.close()


@pytest.fixture
def stored(redis_db: str) -> Iterator[Stored]:
    listener = Stored(redis_db)
    listener.start()
    yield listener
    listener.close()


@pytest.fixture
def worker(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> Iterator[WorkerProcess]:
    """A worker of two children that logs nothing but what must not happen."""
    env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env}
    options = ("-A", "tests.adversity.torture.tasks", "-c", "2", "-l", "critical")
    with WorkerProcess(*options, directory=tmp_path, env=env) as process:
        yield process


def _pair(number: int, chance: random.Random) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    duration = SOFT_LIMIT + chance.uniform(0, LATE) + chance.uniform(-JITTER, JITTER)
    yield f"s-{number}", "straddle", (duration, chance.random() < 0.5)
    yield f"b-{number}", "bystander", ()


@pytest.mark.timeout(300 + TASKS // 50)
@pytest.mark.row("P8", "PL6")
def test_the_soft_limit_hits_its_own_task_or_nobody(
    worker: WorkerProcess,
    stored: Stored,
    vhost: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    producer = Producer(vhost)
    chance = random.Random(SEED)
    producer.send([("b-first", "bystander", ())])
    wait_until("the worker works", lambda: stored.count == 1, 60)
    (spawner,) = child_pids(worker.pid)
    wait_until("two children", lambda: len(child_pids(spawner)) == 2, 60)
    children = child_pids(spawner)
    began = time.monotonic()
    for first in range(0, TASKS, BATCH):
        numbers = range(first, min(first + BATCH, TASKS))
        wait_until("room for the next batch", lambda before=first: stored.count >= 2 * (before - BATCH) + 1, 120)  # type: ignore[misc]
        producer.send(message for number in numbers for message in _pair(number, chance))
    wait_until("every outcome is stored", lambda: stored.count >= 2 * TASKS + 1, 120 + TASKS / 100)
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    lasted = time.monotonic() - began
    assert child_pids(spawner) == children, "a child ended"
    producer.close()
    worker.terminate()
    assert worker.wait() == 0

    kinds = Counter((identifier[0], status, error) for identifier, status, error in stored.seen)
    done, soft = kinds["s", "SUCCESS", ""], kinds["s", "FAILURE", "SoftTimeLimitExceeded"]
    with capsys.disabled():
        print(f"\n{TASKS} tasks beside their soft limit in {lasted:.0f} s (seed {SEED}): {done} done, {soft} stopped")
    assert set(kinds) <= {("b", "SUCCESS", ""), ("s", "SUCCESS", ""), ("s", "FAILURE", "SoftTimeLimitExceeded")}, kinds
    assert done + soft == TASKS
    assert kinds["b", "SUCCESS", ""] == TASKS + 1
    assert max(stored.seen.values()) == 1, "an outcome was stored twice"
    assert min(done, soft) > TASKS / 20, "the durations do not straddle the limit"
    failed = {identifier for identifier, status, _ in stored.seen if status == "FAILURE"}
    raised = oracle.ids("soft")
    assert len(raised) == len(set(raised)), "raised twice in one body"
    assert set(raised) <= failed, "raised in a body, and not its outcome"
    assert "Traceback" not in worker.output, worker.output[-3000:]
