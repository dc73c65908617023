"""The documents of these tests, as a worker stores them."""

from __future__ import annotations

import json


def document(task_id: str, status: str = "SUCCESS", result: object = 42) -> bytes:
    """One document in JSON."""
    return json.dumps(
        {"status": status, "result": result, "traceback": None, "children": [], "date_done": None,
         "task_id": task_id}
    ).encode()  # fmt: skip
