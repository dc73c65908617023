"""A producer that sends ``proj.hold`` to the given queues and prints the ids, or waits for the results."""

from __future__ import annotations

import json
import sys

from proj.celery import app, hold

what, *arguments = json.loads(sys.argv[1])
if what == "send":
    queue, *rest = arguments
    print(hold.apply_async(rest, queue=queue).id)
else:
    print(app.AsyncResult(arguments[0]).get(timeout=90))
