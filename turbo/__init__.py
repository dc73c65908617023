"""turbo: a fast, hard-to-kill worker for Celery messages, and the API to write and call its tasks."""

from __future__ import annotations

__version__ = "0.1.0"
