"""What a worker costs before it does anything: memory when idle, and the time to its first task."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import meters
from bench.workers import Marks, Worker

if TYPE_CHECKING:
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

_MIB = 1 << 20
_WARM_UP = 1000


def memory(stage: Stage, more: int, contender: Contender) -> Metrics:
    """PSS of the whole process tree, with its concurrency and with ``more`` children on top, in MiB.

    ``idle``: connected and waiting, no task run yet. ``used``: idle again after a thousand no-op tasks. ``own``: what a
    process shares with no other, of the idle main process and, on average, of the others.
    """
    few = _idle(stage, contender)
    many = _idle(stage, replace(contender, concurrency=contender.concurrency + more))
    return {
        "idle_mib": few[0],
        "used_mib": few[1],
        "idle_mib_per_further_child": (many[0] - few[0]) / more,
        "used_mib_per_further_child": (many[1] - few[1]) / more,
        "main_own_mib": few[2],
        "others_own_mib": few[3],
    }


def _idle(stage: Stage, contender: Contender) -> tuple[float, float, float, float]:
    with stage.wire() as wire, Marks() as marks:
        template = stage.template(wire, contender, "noop", ())
        stage.fresh_queue(wire, contender)
        with stage.worker(contender, marks) as worker:
            worker.wait_for("its consumer", lambda: wire.consumers(contender.queue) > 0, 60)
            fresh = _settled(worker)
            main, *others = (each.uss for each in meters.memory(worker.pid).values())
            wire.publish(contender.queue, template.copies(_WARM_UP))
            worker.wait_count(_WARM_UP, 30)
            used = _settled(worker)
        stage.check_drained(wire, contender, marks, _WARM_UP)
        wire.delete(contender.queue)
    return fresh / _MIB, used / _MIB, main / _MIB, sum(others) / len(others) / _MIB


def _settled(worker: Worker) -> int:
    """PSS once it has stopped moving by more than a hundredth a second; after 10 s whatever it is."""
    last = meters.pss(worker.pid)
    for _ in range(10):
        time.sleep(1)
        now = meters.pss(worker.pid)
        if abs(now - last) <= last // 100:
            return now
        last = now
    return last


def startup(stage: Stage, contender: Contender) -> Metrics:
    """From the command's start to its first task done, with the message waiting; files cached."""
    with stage.wire() as wire, Marks() as marks:
        stage.fill(wire, contender, stage.template(wire, contender, "noop", ()), 1)
        with stage.worker(contender, marks) as worker:
            worker.wait_count(1, 60)
        ((done,),) = marks.read()
        stage.check_drained(wire, contender, marks, 1)
        wire.delete(contender.queue)
    return {"seconds_to_first_task": (done - worker.started) / 1e9}
