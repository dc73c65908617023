"""Chords whose parts run in children, or under masters, that are killed at random: none hangs, no sum is wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.adversity.torture.census import Kills
from tests.adversity.torture.load import child_pids
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo import Turbo, chord

CHORDS = int(os.environ.get("TURBO_TORTURE_CHORDS", "30"))
PARTS = 6
CHILDREN = 4
#: Mean seconds between kills of a child.
GAP = 0.03
SEED = random.randrange(1 << 32)
READY = r"ready\.$"


class Fleet:
    """A worker, one after the other, and what it has to do."""

    def __init__(self, vhost: str, redis_db: str, directory: Path) -> None:
        self.store = redis.Redis.from_url(redis_db)
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self._directory = directory
        self._env = {"TORTURE_BROKER": vhost, "TORTURE_BACKEND": redis_db}
        #: By the id of its body: the sum of each chord.
        self.sums: dict[str, int] = {}
        #: Those with parts that are acknowledged before they may be killed.
        self.fragile: set[str] = set()

    def worker(self, failpoints: str = "") -> WorkerProcess:
        """Another worker, not started."""
        options = ("-A", "tests.adversity.torture.chord_tasks", "-c", str(CHILDREN), "-l", "info")
        env = {**self._env, "TURBO_FAILPOINTS": failpoints}
        return WorkerProcess(*options, "--shutdown-timeout", "10", directory=self._directory, env=env)

    def send(self, *names: str, count: int = CHORDS) -> None:
        """Send chords, with parts of these kinds in turn."""
        part = self.client.signature
        for number in range(len(self.sums), len(self.sums) + count):
            header = [part(names[n % len(names)], args=(number * 1000 + n,)) for n in range(PARTS)]
            result = chord(header, part("body"), app=self.client).apply_async()
            self.sums[result.id] = sum(number * 1000 + n for n in range(PARTS))
            if "early_part" in names:
                self.fragile.add(result.id)

    def ended(self) -> dict[str, dict[str, Any]]:
        """The documents of the bodies that have ended."""
        found = self.store.mget([f"celery-task-meta-{each}" for each in self.sums])
        documents = [json.loads(each) for each in found if each is not None]  # type: ignore[union-attr]
        return {each["task_id"]: each for each in documents if each["status"] in ("SUCCESS", "FAILURE")}

    def wait(self) -> dict[str, dict[str, Any]]:
        """Wait until every body has ended."""
        wait_until(f"{len(self.sums)} bodies (seed {SEED})", lambda: len(self.ended()) == len(self.sums), 180)
        return self.ended()

    def check(self, ended: dict[str, dict[str, Any]]) -> None:
        """Each has its sum, or says which part was lost."""
        for identifier, total in self.sums.items():
            document = ended[identifier]
            if document["status"] == "FAILURE" and identifier in self.fragile:
                assert document["result"]["exc_type"] == "ChordError", document
                assert "WorkerLostError" in document["result"]["exc_message"][0]
            else:
                assert (document["status"], document["result"]) == ("SUCCESS", total)

    def close(self) -> None:
        self.client.close()
        self.store.close()


@pytest.fixture
def fleet(vhost: str, redis_db: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(vhost, redis_db, tmp_path)
    yield made
    made.close()


def kill_children(fleet: Fleet, spawner: int) -> None:
    """Kill random children while there is work."""
    chance, kills = random.Random(SEED), Kills()
    while kills.count < 5 or (len(fleet.ended()) < len(fleet.sums) * 9 // 10 and kills.count < CHORDS):
        time.sleep(chance.expovariate(1 / GAP))  # the fault's schedule, not a wait for an effect
        # A child killed just now may still be listed until it is reaped.
        alive = [pid for pid in child_pids(spawner) if pid not in kills.recent]
        if alive:
            kills.kill(chance.choice(alive))


@pytest.mark.timeout(400)
@pytest.mark.row("CV5", "CV7", "P16")
def test_children_are_killed(fleet: Fleet) -> None:
    fleet.send("late_part", "quiet_part")
    fleet.send("early_part", "late_part")
    with fleet.worker() as worker:
        worker.wait_for_line(READY, timeout=60)
        kill_children(fleet, child_pids(worker.pid)[0])
        ended = fleet.wait()
        worker.terminate()
        assert worker.wait() == 0
    fleet.check(ended)


@pytest.mark.timeout(400)
@pytest.mark.row("CV5", "CV7", "P16")
@pytest.mark.parametrize("site", ["counted", "body_sent", "confirmed", "closed"])
def test_children_are_killed_at_every_step(fleet: Fleet, site: str) -> None:
    fleet.send("late_part", "quiet_part", count=8)
    fleet.send("early_part", count=8)
    with fleet.worker(f"child.chord_{site}=kill9@{8 if site == 'counted' else 2}:child") as worker:
        ended = fleet.wait()
        worker.terminate()
        assert worker.wait() == 0
    assert "died with a task" in worker.output
    fleet.check(ended)


@pytest.mark.timeout(400)
@pytest.mark.row("CV5", "CV7", "P16")
def test_masters_are_killed(fleet: Fleet) -> None:
    fleet.send("late_part", "quiet_part")
    chance = random.Random(SEED)
    for _ in range(2):
        with fleet.worker() as worker:
            worker.wait_for_line(READY, timeout=60)
            time.sleep(chance.random() * 0.3)  # the fault's schedule
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
    with fleet.worker() as worker:
        ended = fleet.wait()
        worker.terminate()
        assert worker.wait() == 0
    fleet.check(ended)
