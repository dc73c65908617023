"""Restarts of the pool under load, in which the old spawner, the new one, or a child is killed: nothing is lost."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker, wait_reachable
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo import Turbo

NODE = "restarted@here"
CHILDREN = 4
IMPORTS, REPLACES, DONE = "another process imports the app", "replacing the children", "The pool has restarted"
FAILED = "The pool is not restarted"
GATE = "gate"
#: Seconds that a worker must have run to start anew when its spawner has died.
STABLE = 6.0


class Drill:
    """A worker under load, and who of it is killed."""

    def __init__(self, worker: WorkerProcess, producer: Producer, oracle: Oracle, control: Turbo) -> None:
        self.worker = worker
        self.producer = producer
        self.oracle = oracle
        self.control = control
        self.directory = worker.directory
        #: While it exists, no import of the app ends, so that a victim is killed before that.
        self.gate = worker.directory / GATE
        self.early: list[str] = []
        self.late: list[str] = []
        self.killed: set[int] = set()
        self.random = random.Random(5)
        self._began = time.monotonic()

    def load(self) -> None:
        """Send short tasks of both kinds."""
        step = len(self.late)
        for kind, sent in (("early", self.early), ("late", self.late)):
            ids = [f"{kind}-{step}-{number}" for number in range(150)]
            self.producer.send((each, kind, ()) for each in ids)
            sent += ids

    def hold(self) -> Path:
        """Have a child run a task until the returned file exists, so that an old child is left for some time."""
        path = self.directory / f"go-{len(self.late)}"
        self.late.append(path.name)
        self.producer.send([(path.name, "wait_for_file", (str(path),))])
        self.oracle.wait_ids("start", [path.name])
        return path

    def restart(self, until: str, victim: Callable[[set[int]], int]) -> int:
        """Restart the pool; some time after the line ``until`` kill ``victim``; return the output's position then."""
        wait_until("the spawner of the last restart has left", lambda: len(self.spawners()) == 1, 60)
        before = {each.pid for each in self.spawners()}
        held = self.hold()
        self.load()
        if until == IMPORTS:
            self.gate.touch()
        mark = self.worker.mark()
        # A worker drops a request that is older than the time in which its answer would be read.
        self.control.control.broadcast("pool_restart", destination=[NODE], timeout=60)
        self.worker.wait_for_line(until, since=mark)
        time.sleep(self.random.random() * 0.3)
        wait_until("one is killed", lambda: self._kills(victim(before)), 60)
        time.sleep(self.random.random() * 0.3)
        self.gate.unlink(missing_ok=True)
        held.touch()
        return mark

    def _kills(self, pid: int) -> bool:
        """Whether this process was killed; an old child may have left by itself since it was chosen."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            self.killed.discard(pid)
            return False
        return True

    def spawners(self) -> list[psutil.Process]:
        return self.worker.children(r"fresh_spawner|:Spawner")

    def new_spawner(self, before: set[int]) -> int:
        found: set[int] = set()

        def there() -> bool:
            found.update({each.pid for each in self.spawners()} - before)
            return bool(found)

        wait_until("there is a new spawner", there, 60)
        return max(found)

    def old_spawner(self, before: set[int]) -> int:
        return min(before)

    def child(self, _before: set[int]) -> int:
        victim = self.random.choice(self.worker.children("ForkPoolWorker")).pid
        self.killed.add(victim)
        return victim

    def wait_stable(self, since: int) -> None:
        """Wait until the worker has started anew, and long enough ago to do so again."""
        self.worker.wait_for_line(READY, since=since)
        wait_reachable(self.control, NODE)
        self._began = time.monotonic()

    def wait_old_enough(self) -> None:
        wait_until("the worker is old enough", lambda: time.monotonic() - self._began > STABLE, 60)

    def interrupted(self) -> set[str]:
        """Return the tasks that killed children ran."""
        ended = {(trace.id, trace.pid) for trace in self.oracle.traces("end")}
        starts = {(trace.id, trace.pid) for trace in self.oracle.traces("start") if trace.pid in self.killed}
        return {identifier for identifier, _pid in starts - ended}


@pytest.mark.timeout(600)
@pytest.mark.row("RC25", "PL21", "P3")
@pytest.mark.parametrize("framework", ["turbo", "celery"])
def test_whoever_is_killed_in_a_restart_a_working_worker_is_left(
    framework: str, make_worker: MakeWorker, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ,
    vhost: str, producer: Producer,
) -> None:  # fmt: skip
    control = Turbo("drill", broker=vhost, set_as_current=False)
    options = ("-n", NODE, "-c", str(CHILDREN), "--", "pool_restarts=true")
    with make_worker(*options, env={"TORTURE_FRAMEWORK": framework, "TORTURE_IMPORT_GATE": GATE}) as worker:
        worker.wait_for_line(READY)
        wait_reachable(control, NODE)
        drill = Drill(worker, producer, oracle, control)

        mark = drill.restart(IMPORTS, drill.new_spawner)
        worker.wait_for_line(FAILED, since=mark)
        mark = drill.restart(REPLACES, drill.child)
        worker.wait_for_line(DONE, since=mark)
        mark = drill.restart(REPLACES, drill.old_spawner)
        worker.wait_for_line(DONE, since=mark)
        assert worker.output.count("Restarting the worker") == 0
        # The one that makes the children: now the worker has to start anew.
        drill.wait_old_enough()
        mark = drill.restart(*((REPLACES, drill.new_spawner) if framework == "turbo" else (IMPORTS, drill.old_spawner)))
        drill.wait_stable(mark)
        assert worker.output.count("Restarting the worker") == 1

        mark = worker.mark()
        drill.load()
        (reply,) = control.control.pool_restart(destination=[NODE], reply=True, timeout=60)
        assert reply == {NODE: {"ok": "reload started"}}
        worker.wait_for_line(DONE, since=mark)
        interrupted = drill.interrupted()
        oracle.wait_ids("end", {*drill.early, *drill.late} - interrupted, 120)
        check_queues_settled(rabbitmq, vhost, (QUEUE,), timeout=120)
        oracle.check_nothing_vanished(drill.late)
        oracle.check_nothing_vanished(drill.early, accounted=interrupted)
        oracle.check_started_once(drill.early)
        oracle.check_repeats_only(interrupted)
        oracle.check_no_overlap()
        assert not re.search(r"Traceback|CRITICAL.*(?<!starts anew)$", worker.output, re.M)
        wait_until("the spawner of the last restart has left", lambda: len(drill.spawners()) == 1, 60)
        leftovers.watch(worker.children())
        worker.terminate()
        assert worker.wait() == 0
    control.close()
