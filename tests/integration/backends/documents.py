"""Result documents, as a worker stores them."""

from __future__ import annotations

import json


def document(task_id: str, status: str = "SUCCESS", result: object = 42) -> bytes:
    """Return a JSON document."""
    return json.dumps(
        {"status": status, "result": result, "traceback": None, "children": [], "date_done": None,
         "task_id": task_id}
    ).encode()  # fmt: skip
