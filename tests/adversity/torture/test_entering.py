"""Tasks that were acknowledged at their start, and whose child dies before their body: another child runs them."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.adversity.torture.census import Kills
from tests.adversity.torture.entering_tasks import DAWDLE
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.harness.worker import WorkerProcess

KILLS = int(os.environ.get("TURBO_TORTURE_KILLS", "60"))
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
CHILDREN = 2
#: Children that one message may kill: ``task_max_deliveries``.
MOST = 5
KINDS = [("turbo", "function"), ("turbo", "coroutine"), ("celery", "function")]

Make = Callable[..., WorkerProcess]


@pytest.fixture
def make(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> Make:
    """Make a worker of such tasks, not started."""

    def worker(framework: str, children: int = CHILDREN, **env: str) -> WorkerProcess:
        options = ("-A", "tests.adversity.torture.entering_tasks", f"-c{children}", "-l", "info")
        surroundings = {
            "TORTURE_FRAMEWORK": framework, "TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db, **oracle.env, **env
        }  # fmt: skip
        return WorkerProcess(*options, directory=tmp_path, env=surroundings)

    return worker


@pytest.mark.parametrize(("framework", "name"), KINDS)
@pytest.mark.row("P3")
def test_random_kills_before_bodies(
    framework: str,
    name: str,
    make: Make,
    producer: Producer,
    vhost: str,
    redis_db: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(SEED)
    kills = Kills()
    sent: set[str] = set()
    with make(framework) as worker:
        worker.wait_for_line(r"ready\.$")
        while kills.count < KILLS:
            if len(sent) - len(set(oracle.ids("end"))) < 100:
                more = [(f"t-{len(sent) + n}", name, ()) for n in range(200)]
                producer.send(more)
                sent |= {identifier for identifier, _name, _arguments in more}
            busy = oracle.wait_count("before", len(oracle.traces("before")) + 1)[-1].pid
            time.sleep(chance.random() * DAWDLE)
            kills.kill(busy)
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0, timeout=60)
        failed: dict[str, str] = {}

        def accounted() -> bool:
            failed.update(_failures(redis_db))
            return sent <= set(oracle.ids("end")) | failed.keys()

        wait_until("every task has ended or failed", accounted, 60)
        worker.terminate()
        assert worker.wait() == 0
    begun = Counter(oracle.ids("start"))
    twice = [identifier for identifier, count in begun.items() if count > 1]
    tries = Counter(oracle.ids("before"))
    again = sum(count > 1 for count in tries.values())
    waited = {(trace.id, trace.pid) for trace in oracle.traces("waited")}
    last_child = {trace.id: trace.pid for trace in oracle.traces("before")}
    # After MOST deaths a task is given up; a child may die before it records that it waits, but hardly twice.
    never = {identifier for identifier in sent - begun.keys() if tries[identifier] < MOST - 2}
    # A kill between the end of the wait and the body's first line may come too late to hand the task on.
    dropped = [identifier for identifier in never if (identifier, last_child.get(identifier)) not in waited]
    with capsys.disabled():
        print(f"\nseed {SEED}: {kills.count} kills, {again} tasks handed on, {len(failed)} cut short")
    assert not twice, f"ran twice: {twice[:5]}"
    assert again > KILLS // 4, "hardly any kill fell before a body"
    assert not dropped, f"not handed on: {sorted(dropped)[:5]}"
    assert len(failed) <= kills.count


@pytest.mark.parametrize(("framework", "name"), KINDS)
def test_a_message_whose_child_always_dies_before_the_body_is_given_up(
    framework: str, name: str, make: Make, producer: Producer, redis_db: str, oracle: Oracle, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with make(framework, 1, TORTURE_GATE=str(gate)) as worker:
        producer.send([("t", name, ())])
        for death in range(1, MOST + 1):
            last = oracle.wait_count("before", death)[-1]
            psutil.Process(last.pid).kill()
        wait_until("it has failed", lambda: _failures(redis_db) == {"t": "WorkerLostError"}, 60)
        worker.terminate()
        assert worker.wait() == 0
    assert oracle.ids("before") == ["t"] * MOST
    assert not oracle.ids("start")


@pytest.mark.parametrize(("framework", "name"), KINDS)
@pytest.mark.parametrize("how", ["cold", "warm"])
def test_a_worker_that_ends_gives_it_back(
    how: str,
    framework: str,
    name: str,
    make: Make,
    producer: Producer,
    vhost: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    tmp_path: Path,
) -> None:
    """It is acknowledged, so that the broker has it no more: it is published again."""
    gate = tmp_path / "gate"
    gate.touch()
    with make(framework, 1, TORTURE_GATE=str(gate)) as worker:
        producer.send([("t", name, ())])
        accepted = oracle.wait_count("before", 1)[-1]
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        if how == "cold":
            worker.send_signal(signal.SIGQUIT)
        else:
            worker.terminate()
            worker.wait_for_line("TERM: warm shutdown")
            psutil.Process(accepted.pid).kill()
            # A worker that has not cancelled its consumers yet has another child for it.
            gate.unlink()
        assert worker.wait() == (1 if how == "cold" else 0)
    left = rabbitmq.wait_queue(QUEUE, vhost, unacked=0).ready
    assert left == (1 if how == "cold" else 1 - len(oracle.ids("end")))
    gate.unlink(missing_ok=True)
    with make(framework, 1) as worker:
        worker.wait_for_line(r"ready\.$")  # the first one may have run it: then nothing else is waited for
        oracle.wait_ids("end", {"t"})
        worker.terminate()
        assert worker.wait() == 0
    assert oracle.ids("start") == ["t"]


@pytest.mark.parametrize(("framework", "name"), KINDS)
def test_a_lost_connection_does_not_take_it_away(
    framework: str,
    name: str,
    make: Make,
    producer: Producer,
    vhost: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    tmp_path: Path,
) -> None:
    """What waits for a child when the broker goes belongs to the broker, but not what was acknowledged."""
    gate = tmp_path / "gate"
    gate.touch()
    with make(framework, 1, TORTURE_GATE=str(gate)) as worker:
        producer.send([("t", name, ())])
        accepted = oracle.wait_count("before", 1)[-1]
        rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
        mark = worker.mark()
        assert rabbitmq.close_all_connections(vhost_of(vhost))
        worker.wait_for_line("lost with", since=mark)
        psutil.Process(accepted.pid).kill()
        gate.unlink()
        oracle.wait_ids("end", {"t"})
        worker.terminate()
        assert worker.wait() == 0
    assert oracle.ids("start") == ["t"]


def _failures(url: str) -> dict[str, str]:
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match="celery-task-meta-*", count=1000))
        documents = [json.loads(text) for text in client.mget(keys)] if keys else []
    return {document["task_id"]: document["result"]["exc_type"] for document in documents}
