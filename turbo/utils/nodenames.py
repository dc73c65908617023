"""Celery's import path of ``worker_direct``, the queue of one worker's own."""

from turbo.app.publish.queues import direct_queue as worker_direct

__all__ = ["worker_direct"]
