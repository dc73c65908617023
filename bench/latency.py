"""From publish to the start of the task, at a steady rate, with an idle worker.

The publisher stamps each message with the monotonic clock just before it writes it to its socket; the task
compares that with the clock as its first act.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.messages import TIME, Template
from bench.statistics import percentile
from bench.workers import Marks

if TYPE_CHECKING:
    from bench.amqp import Wire
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

_WARM_UP = 100


def latency(stage: Stage, rates: tuple[int, ...], seconds: float, contender: Contender) -> Metrics:
    """One round of one contender: every rate (messages a second) for that many seconds, in milliseconds."""
    metrics: Metrics = {}
    with stage.wire() as wire, stage.wire() as publisher, Marks(width=2) as marks:
        template = stage.template(wire, contender, "stamp", (TIME,))
        stage.fresh_queue(wire, contender)
        with stage.worker(contender, marks) as worker:
            worker.wait_for("its consumer", lambda: wire.consumers(contender.queue) > 0, 60)
            sent = _publish(publisher, contender.queue, template, 100, _WARM_UP)
            worker.wait_count(sent, 30)
            for rate in rates:
                before = sent
                sent += _publish(publisher, contender.queue, template, rate, int(rate * seconds))
                worker.wait_count(sent, 30)
                waits = sorted((start - (at - TIME)) / 1e6 for at, start in marks.read()[before:])
                metrics[f"p50_ms_at_{rate}"] = percentile(waits, 50)
                metrics[f"p99_ms_at_{rate}"] = percentile(waits, 99)
        stage.check_drained(wire, contender, marks, sent)
        wire.delete(contender.queue)
    return metrics


def _publish(wire: Wire, queue: str, template: Template, rate: int, count: int) -> int:
    """Publish ``count`` messages evenly; how many."""
    due = time.monotonic()
    for _ in range(count):
        due += 1 / rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        wire.publish_now(queue, *template.stamped(time.monotonic_ns()))
    return count
