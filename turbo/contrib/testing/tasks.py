"""A task that tests of workers can call."""

from __future__ import annotations

from turbo.app.shared import shared_task


@shared_task(name="celery.ping")
def ping() -> str:
    """Return ``"pong"``."""
    return "pong"
