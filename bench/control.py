"""How soon a worker at full load answers `inspect ping`: from the request's write to the answer's arrival.

A queue of no-op tasks is drained meanwhile, and only pings before its end count. The client is pika's blocking one with
a reply queue that stands ready, so that the broker's way and the worker's are all that is measured.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

import pika

from bench.processes import BenchError
from bench.statistics import percentile
from bench.workers import Marks

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

_REPLIES = "reply.celery.pidbox"
#: Seconds for one answer.
_PATIENCE = 20.0
#: Seconds between an answer and the next request.
_PAUSE = 0.02


def control(stage: Stage, tasks: int, contender: Contender) -> Metrics:
    """One round of one contender: milliseconds to the answer while ``tasks`` are drained."""
    with stage.wire() as wire, Marks() as marks:
        template = stage.template(wire, contender, "noop", ())
        stage.fill(wire, contender, template, tasks)
        with (
            pika.BlockingConnection(pika.URLParameters(stage.servers.rabbitmq.url)) as connection,
            stage.worker(contender, marks) as worker,
        ):
            channel = connection.channel()
            queue = _reply_queue(channel)
            worker.wait_for("its first task", lambda: marks.count() > 0, 60)
            worker.wait_for("its first answer", lambda: _ping(channel, queue, 0.5) is not None, 60)
            waits = []
            while marks.count() < tasks * 0.95:
                waited = _ping(channel, queue, _PATIENCE)
                if waited is None:
                    raise BenchError(f"{contender.label}: no answer within {_PATIENCE:g} s")
                waits.append(waited * 1e3)
                connection.sleep(_PAUSE)
            worker.wait_count(tasks, 60)
        stage.check_drained(wire, contender, marks, tasks)
        wire.delete(contender.queue)
    waits.sort()
    if len(waits) < 5:
        raise BenchError(f"{contender.label}: {len(waits)} answers before the queue was empty: more tasks are needed")
    return {"ping_p50_ms": percentile(waits, 50), "ping_p99_ms": percentile(waits, 99), "pings": float(len(waits))}


def _reply_queue(channel: BlockingChannel) -> str:
    channel.exchange_declare(_REPLIES, "direct", durable=False)
    channel.exchange_declare("celery.pidbox", "fanout", durable=False)
    name = str(uuid.uuid4())
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, _REPLIES, name)
    return name


def _ping(channel: BlockingChannel, queue: str, patience: float) -> float | None:
    """Seconds to the answer; None when there is none."""
    ticket = str(uuid.uuid4())
    body = {
        "method": "ping",
        "arguments": {},
        "destination": None,
        "ticket": ticket,
        "reply_to": {"exchange": _REPLIES, "routing_key": queue},
    }
    properties = pika.BasicProperties(content_type="application/json", content_encoding="utf-8", headers={"clock": 1})
    began = time.monotonic()
    channel.basic_publish("celery.pidbox", "", json.dumps(body).encode(), properties)
    for _method, found, _answer in channel.consume(queue, auto_ack=True, inactivity_timeout=patience):
        if found is None:
            break
        if (found.headers or {}).get("ticket") == ticket:
            return time.monotonic() - began
    channel.cancel()
    return None
