"""turbo: a fast, hard-to-kill worker for Celery messages, and an API for tasks.

The names are those of Celery's package, so that ``from celery import …`` becomes ``from turbo import …``. Importing
this package loads no broker library and no result-store library.
"""

from __future__ import annotations

from turbo.app.base import Celery, Turbo
from turbo.app.new_id import uuid
from turbo.app.publish.entities import Broadcast, Exchange, Queue, binding
from turbo.app.shared import current_app, current_task, shared_task
from turbo.app.task import Task
from turbo.app.tasks.batches import BatchRequest
from turbo.app.tasks.context import Context
from turbo.canvas import Signature, chain, chord, chunks, group, maybe_signature, signature, xmap, xstarmap
from turbo.policy.batching import Batch
from turbo.result.async_result import AsyncResult
from turbo.result.group_result import GroupResult, ResultSet

subtask = signature

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Batch",
    "BatchRequest",
    "Broadcast",
    "Celery",
    "Context",
    "Exchange",
    "GroupResult",
    "Queue",
    "ResultSet",
    "Signature",
    "Task",
    "Turbo",
    "binding",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]
