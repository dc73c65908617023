"""What more children cost: start-up, memory, and the master's and children's processor time per task.

One worker does three things in turn. First each child holds one task until all children have begun one: that is the
time to start them. Then no-op tasks, then tasks that wait 10 ms. The messages are published while the worker consumes,
so that a pool that is still starting is no part of the figures.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import meters
from bench.messages import TIME
from bench.waits import Waits
from bench.workers import Marks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.amqp import Wire
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage
    from bench.workers import Worker

_MIB = 1 << 20
#: Tasks that wait 10 ms and fill a second of one child.
_SECOND = 100
#: Numbers that a task that waits appends to the marks.
_WAITED = 4


def scale(stage: Stage, tasks: int, each: Contender) -> Metrics:
    """One round of one contender: so many no-op tasks, then up to half as many that wait."""
    children = each.concurrency
    waits = Waits(max(children, min(tasks // 2, children * _SECOND)), 0.01, 0.01)
    with stage.wire() as wire, Marks() as marks:
        meet = stage.template(wire, each, "meet", (children,))
        noop, wait = stage.template(wire, each, "noop", ()), stage.template(wire, each, "wait", (TIME,))
        stage.fill(wire, each, meet, children)
        with stage.worker(each, marks) as worker:
            worker.wait_count(children, 60)
            started = (max(record[0] for record in marks.read()) - worker.started) / 1e9
            memory = meters.pss(worker.pid)
            drained = _run(wire, each, worker, noop.copies(tasks), children, children + tasks)
            numbers = children + tasks + waits.tasks * _WAITED
            messages = (wait.stamped(nanoseconds) for nanoseconds in waits.nanoseconds())
            waited = _run(wire, each, worker, messages, children + tasks, numbers)
        stage.check_drained(wire, each, marks, numbers)
        wire.delete(each.queue)
    elapsed, cpu = drained
    return {
        "seconds_to_all_children": started,
        "mib_per_child": memory / _MIB / children,
        "tasks_per_s": tasks / elapsed,
        "master_cpu_us_per_task": cpu.root / tasks * 1e6,
        "children_cpu_us_per_task": cpu.rest / tasks * 1e6,
        "waiting_tasks_per_s": waits.tasks / waited[0],
        "waiting_cpu_us_per_task": waited[1].total / waits.tasks * 1e6,
    }


def _run(
    wire: Wire, each: Contender, worker: Worker, messages: Iterable[tuple[bytes, bytes]], before: int, after: int
) -> tuple[float, meters.Cpu]:
    """Publish these and wait for their ends; seconds, and the worker's processor time.

    ``before`` and ``after``: how many numbers the marks have then.
    """
    worker.wait_count(before, 60)
    cpu, began = worker.cpu(), time.monotonic()
    wire.publish(each.queue, messages)
    worker.wait_count(after, 60)
    return time.monotonic() - began, worker.cpu().since(cpu)
