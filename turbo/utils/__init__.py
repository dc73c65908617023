"""Celery's import paths for things that live elsewhere here."""

from uuid import uuid4


def uuid() -> str:
    """Return a new id, as tasks have one."""
    return str(uuid4())


gen_unique_id = uuid
