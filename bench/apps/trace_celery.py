"""What Celery's tracer costs a pool process for one no-op task: bodies decoded and traced, one after another.

Reads a captured message from standard input, as ``bench.trace`` writes it, and prints seconds: of decoding and tracing
alone, and with the pickles that a pool process reads its job from and writes its two answers in.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import uuid

from celery import Celery
from celery.app.trace import build_tracer, fast_trace_task, setup_worker_optimizations

#: Messages between two looks at the clock; as many as turbo's side has on its ring.
BATCH = 50


def noop() -> None:
    """Nothing."""


def main() -> None:
    """Trace the messages and say how long that took."""
    order = json.load(sys.stdin)
    app = Celery("bench_trace", broker="memory://")
    app.task(name=order["task"], ignore_result=True)(noop)
    setup_worker_optimizations(app, "here")
    task = app.tasks[order["task"]]
    task.__trace__ = build_tracer(task.name, task, app.loader, "here", app=app)
    whole = seconds = 0.0
    reader, writer = os.pipe()
    for _ in range(order["count"] // BATCH):
        jobs = []
        for _ in range(BATCH):
            identifier = str(uuid.uuid4())
            request = {**order["request"], "id": identifier, "root_id": identifier}
            arguments = (order["task"], identifier, request, order["body"], "application/json", "utf-8")
            jobs.append(pickle.dumps((2, (7, None, fast_trace_task, arguments, {}))))
        began = time.process_time()
        unpickled = [pickle.loads(job)[1][3] for job in jobs]
        traced = time.process_time()
        results = [fast_trace_task(*arguments) for arguments in unpickled]
        ended = time.process_time()
        for result in results:
            os.write(writer, pickle.dumps((0, (7, None, ended, 4711, None))))
            os.write(writer, pickle.dumps((1, (7, None, (True, result), None))))
        whole += time.process_time() - began
        seconds += ended - traced
        os.read(reader, 1 << 16)
        if any(failed for failed, *_ in results):
            sys.exit("a task failed")
    print(json.dumps({"seconds": seconds, "whole": whole, "count": order["count"] // BATCH * BATCH}))


if __name__ == "__main__":
    main()
