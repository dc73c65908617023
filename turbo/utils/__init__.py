"""Celery's import paths for things that live elsewhere here."""

from turbo.app.new_id import uuid

gen_unique_id = uuid

__all__ = ["gen_unique_id", "uuid"]
