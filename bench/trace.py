"""What a child pays to decode and trace one no-op task, with no broker and no pool around it.

The message is a real producer's. turbo's executor works on the record as the broker's delivery left it in the ring,
headers included; Celery's ``fast_trace_task`` on the body and a request that its master has made of the headers
already. Beside that stands each with what brings the task to the child and its end to the master: rings there, pickles
through pipes here.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from bench import environments
from bench.contenders import APPS, ROOT
from bench.processes import BenchError, clean_environment
from turbo.protocol.properties import decode_header

if TYPE_CHECKING:
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

_TASK = "noop"


def trace(stage: Stage, tasks: int, each: Contender) -> Metrics:
    """One round of one contender: microseconds of processor time a task, without and with the transport."""
    with stage.wire() as wire:
        template = stage.template(wire, each, _TASK, ())
    order = _order(template.header, template.body, template.id, tasks)
    if each.peer not in ("turbo", "celery"):
        raise BenchError(f"trace compares turbo and celery alone, not {each.peer}")
    python = environments.turbo_python() if each.peer == "turbo" else environments.python_of("celery")
    run = subprocess.run(
        [python, APPS / f"trace_{each.peer}.py"], env={**clean_environment(), "PYTHONPATH": str(ROOT)}, cwd=APPS,
        capture_output=True, text=True, check=False, timeout=300, input=json.dumps(order),
    )  # fmt: skip
    if run.returncode != 0:
        raise BenchError(f"tracing with {each.peer} failed:\n{run.stdout[-500:]}{run.stderr[-2000:]}")
    told = json.loads(run.stdout)
    per_task = 1e6 / told["count"]
    return {"us_per_task": told["seconds"] * per_task, "us_with_transport": told["whole"] * per_task}


def _order(header: bytes, body: bytes, identifier: bytes, count: int) -> dict[str, object]:
    """What the contender's process is told: the message, and the request that Celery's master makes of it."""
    properties, _ = decode_header(header)
    headers = properties.headers or {}
    request = {
        **headers,
        "properties": {"correlation_id": properties.correlation_id, "delivery_mode": 2, "priority": 0},
        "reply_to": properties.reply_to,
        "correlation_id": properties.correlation_id,
        "hostname": "here",
        "delivery_info": {"exchange": "bench", "routing_key": "bench", "priority": 0, "redelivered": False},
    }
    return {
        "task": headers["task"], "id": identifier.decode(), "header": header.hex(), "body": body.decode(),
        "request": request, "count": count,
    }  # fmt: skip
