"""A directory and servers for an app with a library that hooks into Celery."""

from __future__ import annotations

from tests.integration.adopted.conftest import place

__all__ = ["place"]
