"""What is lost, what runs again and how long nothing new runs when a worker is killed with SIGKILL in mid-work.

``worker`` kills every process of the worker at once, as the end of a container does, and starts the worker again at
once. ``child`` kills one process that runs tasks, as the kernel does when memory is short, and leaves the rest to the
worker. Recovered is when a process that was not there before has ended a task.
"""

from __future__ import annotations

import os
import signal
import time
from statistics import median
from typing import TYPE_CHECKING

from bench.messages import TIME
from bench.processes import BenchError, family, wait_until
from bench.workers import Marks, Worker

if TYPE_CHECKING:
    from bench.amqp import Wire
    from bench.contenders import Contender
    from bench.messages import Template
    from bench.stage import Metrics, Stage

#: Seconds that a task takes.
_TASK = 0.02
#: Tasks that run between a recovery and the next kill.
_BETWEEN = 20
#: Tasks that wait in the queue or run, at least, until the last kill is over.
_AHEAD = 60
#: Seconds without a task, with nothing in the queue, after which no more are expected.
_QUIET = 3.0
VICTIMS = ("worker", "child")


class _Feed:
    """Keeps the queue filled while workers are killed: Celery's takes up to 5 s to replace a child."""

    def __init__(self, wire: Wire, queue: str, template: Template, marks: Marks) -> None:
        self.published = 0
        self._wire, self._queue, self._template, self._marks = wire, queue, template, marks

    def top_up(self) -> None:
        """Publish tasks, numbered from 0 on, if fewer than ``_AHEAD`` are left."""
        if self.published - self._marks.count() < _AHEAD:
            numbers = range(self.published, self.published + _AHEAD)
            self.published += self._wire.publish(self._queue, (self._template.stamped(each) for each in numbers))


def recover(stage: Stage, kills: int, victim: str, each: Contender) -> Metrics:
    """One round of one contender: ``kills`` kills, and what came of all tasks."""
    with stage.wire() as wire, Marks(width=4) as marks:
        template = stage.template(wire, each, "work", (TIME, _TASK))
        stage.fresh_queue(wire, each)
        feed = _Feed(wire, each.queue, template, marks)
        feed.top_up()
        recoveries = []
        with stage.worker(each, marks) as worker:
            for _ in range(kills):
                worker.wait_count(marks.count() + _BETWEEN, 60)
                feed.top_up()
                recoveries.append(_kill_once(worker, victim, marks, feed))
            _wait_for_rest(wire, worker, marks, feed.published)
            worker.stop()
        wait_until(f"{each.queue} has no consumer", lambda: wire.consumers(each.queue) == 0, 15)
        if left := wire.depth(each.queue):
            raise BenchError(f"{each.label}: {left} messages came back unacknowledged")
        ran = [record[0] for record in marks.read()]
        wire.delete(each.queue)
    different = len(set(ran))
    return {
        "recover_s": median(recoveries),
        "recover_worst_s": max(recoveries),
        "delivery_ratio": different / feed.published,
        "lost_per_kill": (feed.published - different) / kills,
        "ran_again_per_kill": (len(ran) - different) / kills,
        "tasks": float(feed.published),
    }


def _kill_once(worker: Worker, victim: str, marks: Marks, feed: _Feed) -> float:
    """Kill, and wait for the recovery; seconds from one to the other."""
    before = {member.pid for member in family(worker.pid)}
    known = marks.count()
    killed = time.monotonic_ns()
    if victim == "worker":
        worker.kill()
        worker.start()
    else:
        os.kill(_running(before, marks), signal.SIGKILL)
    ended = 0

    def recovered() -> bool:
        nonlocal ended
        feed.top_up()
        ended = next((end for _, _, end, pid in marks.read()[known:] if pid not in before), 0)
        return ended > 0

    worker.wait_for(f"a task in a new process after the kill of its {victim}", recovered, 60)
    return (ended - killed) / 1e9


def _running(members: set[int], marks: Marks) -> int:
    """The process that ended a task last, of those that live."""
    for *_, pid in reversed(marks.read()):
        if pid in members:
            return pid
    raise BenchError("no living process of the worker has run a task")


def _wait_for_rest(wire: Wire, worker: Worker, marks: Marks, tasks: int) -> None:
    """Wait until every task has run, or until none has for a while and the queue is empty."""
    seen, since = -1, time.monotonic()

    def over() -> bool:
        nonlocal seen, since
        records = marks.read()
        if len(records) != seen:
            seen, since = len(records), time.monotonic()
        if len({record[0] for record in records}) == tasks:
            return True
        return time.monotonic() - since > _QUIET and wire.depth(worker.contender.queue) == 0

    worker.wait_for("the rest of the tasks", over, 120, every=0.05)
