"""Children killed at random instants under full load. Short here, ten thousand kills by TURBO_TORTURE_KILLS."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from tests.adversity.torture.census import Census, Kills
from tests.adversity.torture.load import QUEUE, Feeder, Progress, child_pids
from tests.harness.oracle import Leftovers, Oracle
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

KILLS = int(os.environ.get("TURBO_TORTURE_KILLS", "100"))
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
CHILDREN = 4
#: Descriptors that Celery's own result store may open in the master when the first task is lost.
RESULT_STORE = 4
#: Mean seconds between kills: each child lives about four times as long.
GAP = 0.03


@pytest.fixture(params=["turbo", "celery"])
def worker(
    request: pytest.FixtureRequest, tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle
) -> Iterator[WorkerProcess]:
    """A worker of four children, its tasks writing the oracle and its failures in Redis; an app of either kind."""
    env = {
        "TORTURE_FRAMEWORK": request.param,
        "TORTURE_BROKER": vhost,
        "TORTURE_BACKEND": redis_db,
        **oracle.env,
    }
    options = ("-A", "tests.adversity.torture.tasks", "-c", str(CHILDREN), "-l", "error")
    with WorkerProcess(*options, "--shutdown-timeout", "10", directory=tmp_path, env=env) as process:
        yield process


@pytest.fixture
def feeder(vhost: str, oracle: Oracle) -> Iterator[Feeder]:
    """Keeps the worker's queue full from when the test starts it."""
    feeder = Feeder(vhost, Progress(oracle.path), depth=4000)
    yield feeder
    feeder.finish()


@pytest.mark.timeout(300 + KILLS)
@pytest.mark.row("P3", "P5", "P16", "CN6", "CN8", "PL15", "PL17")
def test_random_kills_lose_nothing(
    worker: WorkerProcess,
    feeder: Feeder,
    vhost: str,
    redis_db: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    leftovers: Leftovers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    feeder.feed(1000)
    feeder.start()
    oracle.wait_count("end", 100)
    # Then each child has all its descriptors in the master.
    wait_until("all children work", lambda: len({trace.pid for trace in oracle.traces()}) == CHILDREN, 60)
    master = psutil.Process(worker.pid)
    spawner = psutil.Process(child_pids(worker.pid)[0])
    leftovers.watch(worker.children())
    kills = Kills()
    began = time.monotonic()
    before = _sizes(master, spawner)
    _kill_many(kills, KILLS // 10 or 1, spawner.pid)
    settled = _sizes(master, spawner)
    _kill_many(kills, KILLS - kills.count, spawner.pid)
    lasted = time.monotonic() - began
    feeder.finish()

    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0, timeout=120 + KILLS / 50)
    wait_until("all children are back", lambda: len(child_pids(spawner.pid)) == CHILDREN, 60)
    wait_until(
        f"the descriptors are no more than before: {before}",
        lambda: all(
            now.fds <= then.fds + RESULT_STORE for now, then in zip(_sizes(master, spawner), before, strict=True)
        ),
        60,
    )
    after = _sizes(master, spawner)
    assert master.is_running() and worker.process.poll() is None, "the master ended"
    leftovers.watch(worker.children())
    worker.terminate()
    assert worker.wait() == 0
    leftovers.check()
    # Celery's request logs each lost worker with its traceback; there must be no other.
    raised = set(re.findall(r"^([\w.]*(?:Error|Exception|Corrupt|Exit|Interrupt)\b.*)$", worker.output, re.MULTILINE))
    assert ("Traceback" in worker.output) == bool(raised)
    assert all(line.startswith("billiard.exceptions.WorkerLostError: ") for line in raised), raised

    census = Census(oracle.path, feeder.each, kills)
    failed = _failures(redis_db)
    _report(capsys, feeder, kills, census, failed, lasted, settled, after)
    lost = sorted(set(census.without_end("e") + census.without_end("l")) - failed.keys())
    assert not lost, f"{len(lost)} tasks vanished, such as {lost[:5]}"
    cut = set(census.cut("e"))
    assert len(cut) <= kills.count, "more tasks were cut short than children killed"
    wrong = {identifier: error for identifier, error in failed.items() if error != "WorkerLostError"}
    assert not wrong, f"failures other than a lost child: {list(wrong.items())[:5]}"
    assert not census.started_twice("e"), f"early-acknowledged tasks ran twice: {census.started_twice('e')[:5]}"
    assert not census.unexplained(), f"repeats that no kill explains: {census.unexplained()[:5]}"
    for name, then, now in zip(("master", "spawner"), settled, after, strict=True):
        # Allocators settle during the first hundreds of replacements; after that a megabyte per ten thousand.
        allowed = 8 * 1024 + kills.count // 10
        assert now.rss_kib - then.rss_kib < allowed, f"{name}: {then.rss_kib} KiB became {now.rss_kib} KiB"


def _kill_many(kills: Kills, count: int, spawner: int) -> int:
    """Kill random children at random instants; each must be noticed before the next round ends."""
    chance = random.Random(SEED + kills.count)
    target = kills.count + count
    clock = _Instants(chance)
    latest = Stopwatch()
    while kills.count < target:
        clock.next()
        # A child killed just now may still be listed until it is reaped.
        alive = [pid for pid in child_pids(spawner) if pid not in kills.recent]
        if alive:
            kills.kill(chance.choice(alive))
            latest = Stopwatch()
        assert latest.seconds < 10, "no child comes back"
    return count


class _Instants:
    """Random instants, a mean of GAP apart. The waiting is the fault's schedule, not a wait for an effect."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def next(self) -> None:
        time.sleep(self._chance.expovariate(1 / GAP))


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds."""

    fds: int
    rss_kib: int


def _sizes(*processes: psutil.Process) -> list[Size]:
    return [Size(each.num_fds(), each.memory_info().rss // 1024) for each in processes]


def _failures(url: str) -> dict[str, str]:
    """Every stored failure: id -> name of the exception."""
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match="celery-task-meta-*", count=1000))
        documents = [json.loads(text) for text in client.mget(keys)] if keys else []
    return {document["task_id"]: document["result"]["exc_type"] for document in documents}


def _report(
    capsys: pytest.CaptureFixture[str],
    feeder: Feeder,
    kills: Kills,
    census: Census,
    failed: dict[str, str],
    lasted: float,
    before: list[Size],
    after: list[Size],
) -> None:
    sent = 2 * feeder.each
    with capsys.disabled():
        print(
            f"\n{kills.count} kills in {lasted:.0f} s (seed {SEED}) over {sent} tasks ({sent / lasted:.0f}/s): "
            f"{len(census.cut('e'))} early ones cut short, {len(failed)} failures stored, "
            f"{len(census.repeats)} late ones repeated; master {after[0].fds} descriptors, "
            f"{before[0].rss_kib} -> {after[0].rss_kib} KiB; spawner {before[1].rss_kib} -> {after[1].rss_kib} KiB"
        )
