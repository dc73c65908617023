"""``uuid``: a new id for a task or group, by the name of Celery's function."""

from __future__ import annotations

from uuid import uuid4


def uuid() -> str:
    """Return a new id, as tasks have one."""
    return str(uuid4())
