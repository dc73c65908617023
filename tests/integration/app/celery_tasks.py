"""Tasks of a real Celery worker that report how they were called. Only Celery imports this module."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery("celery_tasks", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND") or "rpc://")
app.conf.accept_content = ["json", "yaml", "pickle", "msgpack"]
app.conf.worker_hijack_root_logger = False


@app.task(bind=True, name="report")
def report(self: Any, *args: Any, **kwargs: Any) -> Any:
    request = self.request
    return {
        "args": list(args),
        "kwargs": kwargs,
        "types": [type(a).__name__ for a in args],
        "request": {
            name: getattr(request, name)
            for name in (
                "id root_id parent_id correlation_id reply_to retries eta expires timelimit group group_index shadow "
                "headers ignore_result origin argsrepr kwargsrepr stamps stamped_headers replaced_task_nesting"
            ).split()
        },
        "delivery_info": {k: request.delivery_info[k] for k in ("exchange", "routing_key", "priority")},
        "delivery_mode": request.properties["delivery_mode"],
    }


@app.task(name="fail")
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(name="followed")
def followed(value: Any, prefix: str) -> str:
    return f"{prefix}{value}"
