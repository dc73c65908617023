"""Children with tasks in threads, killed at random: each task goes by its own rule, in both kinds of app."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import billiard.exceptions
import pytest

from tests.harness.oracle import Oracle
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo import Turbo, exceptions

KILLS = int(os.environ.get("TURBO_TORTURE_KILLS", "8"))
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
#: Tasks for each kill.
BETWEEN = 100
LOST = (exceptions.WorkerLostError, billiard.exceptions.WorkerLostError)

TASKS = """
import os
import time

from {framework} import {kind}
from tests.harness.oracle_record import record

app = {kind}("killed", broker=os.environ["BROKER"], backend=os.environ["STORE"])


def body(self):
    record("start", self.request.id)
    time.sleep(0.02)
    record("end", self.request.id)


@app.task(name="early", bind=True)
def early(self):
    body(self)


@app.task(name="late", bind=True, acks_late=True, reject_on_worker_lost=True)
def late(self):
    body(self)
"""


@pytest.mark.timeout(300 + KILLS)
@pytest.mark.row("PL17", "PL24")
@pytest.mark.parametrize(("framework", "kind"), [("turbo", "Turbo"), ("celery", "Celery")])
def test_children_killed_among_many_threads_lose_nothing(
    framework: str, kind: str, tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle
) -> None:
    chance = random.Random(SEED)
    (tmp_path / "killed.py").write_text(TASKS.format(framework=framework, kind=kind))
    env = {"BROKER": vhost, "STORE": redis_db, **oracle.env}
    # A message may be in a child that is killed more often than a poisonous one would be tolerated.
    options = ("-A", "killed", "-P", "threads", "-c", "8", "--processes", "2", "-l", "error")
    names = [f"{kind}-{number}" for number in range(KILLS * BETWEEN // 2) for kind in ("early", "late")]
    with (
        Turbo("client", broker=vhost, backend=redis_db, set_as_current=False) as client,
        WorkerProcess(*options, "--", "task_max_deliveries=100", directory=tmp_path, env=env) as worker,
    ):
        wait_until("two children", lambda: len(worker.pool_pids()) == 2, 60)
        with client.pipeline():
            for name in names:
                client.send_task(name.split("-")[0], task_id=name)
        for killed in range(KILLS):
            # The next kill falls among tasks that have begun since the last.
            oracle.wait_count("end", killed * BETWEEN // 2 + chance.randrange(1, 40))
            os.kill(chance.choice(worker.pool_pids()), signal.SIGKILL)
            wait_until("two children", lambda: len(worker.pool_pids()) == 2, 60)
        lost = set()
        for name in names:
            try:
                client.AsyncResult(name).get(timeout=120)
            except LOST:
                lost.add(name)
        worker.terminate()
        assert worker.wait() == 0
    assert not {name for name in lost if name.startswith("late")}, f"they come back; seed {SEED}"
    starts = [name for name in oracle.ids("start") if name.startswith("early")]
    assert len(starts) == len(set(starts)), f"one that was acknowledged at its start began twice; seed {SEED}"
    ended = set(oracle.ids("end"))
    assert {name for name in names if name.startswith("late")} <= ended
    assert {name for name in names if name.startswith("early")} - ended <= lost
