"""A place for an app with one of the libraries that hook into Celery."""

from __future__ import annotations

from tests.integration.adopted.conftest import place

__all__ = ["place"]
