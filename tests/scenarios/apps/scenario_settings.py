"""Settings that workers and clients of the scenarios share. Celery and turbo import it, so it imports neither."""

from __future__ import annotations

from typing import Any

DEAD = "dead"
#: Whatever is rejected is found in the queue ``dead`` afterwards.
_LETTERS = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
CLIENTS = ("celery", "turbo")
HOLD = {client: f"hold-{client}" for client in CLIENTS}


def _queue(exchange: str, key: str, kind: str = "direct", **arguments: Any) -> dict[str, Any]:
    return {
        "exchange": exchange,
        "exchange_type": kind,
        "routing_key": key,
        "queue_arguments": {**_LETTERS, **arguments},
    }


QUEUES: dict[str, dict[str, Any]] = {
    "scenarios": _queue("scenarios", "scenarios"),
    "prio": _queue("prio", "prio", **{"x-max-priority": 10}),
    "video": _queue("media", "video.#", "topic"),
    "image": _queue("media", "image.*", "topic"),
    **{queue: _queue(queue, queue) for queue in HOLD.values()},
}
SETTINGS: dict[str, Any] = {
    "accept_content": ["json", "pickle", "yaml", "msgpack"],
    "task_default_queue": "scenarios",
    "task_queues": QUEUES,
    "task_routes": {
        "s.encode": {"queue": "video", "routing_key": "video.hd.encode"},
        "s.thumb*": {"queue": "image", "routing_key": "image.small"},
    },
}
