"""What ``delay`` costs an ordinary process: calls of the no-op task, one after the other, in one thread.

Arguments: how many calls, and how: ``unconfirmed``, ``confirmed`` (each call waits for the broker) or ``pipeline``
(turbo's: the broker confirms all of them before the clock stops). Prints seconds, of the clock and of this process's
processor time.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import bench_tasks

#: Calls before the clock starts: connecting, declaring, and everything that is made once.
WARM_UP = 200


def main() -> None:
    """Send the messages and say how long that took."""
    count, how = int(sys.argv[1]), sys.argv[2]
    app = bench_tasks.app
    app.conf.broker_transport_options = {"confirm_publish": how != "unconfirmed"}
    delay = bench_tasks.noop.delay
    for _ in range(WARM_UP):
        delay()
    began, used = time.perf_counter(), time.process_time()
    with app.pipeline() if how == "pipeline" else contextlib.nullcontext():
        for _ in range(count):
            delay()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"seconds": seconds, "processor": processor, "sent": count + WARM_UP}))


if __name__ == "__main__":
    main()
