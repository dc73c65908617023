"""Django's own tasks, ``django.tasks`` or the package ``django-tasks``.

Django has them from version 6; the package is the same for older ones.

The one place that knows which of the two it is. Imported by the rest of ``contrib.django`` that is about them.
"""

from __future__ import annotations

try:
    from django import tasks
    from django.tasks import base, exceptions, signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.utils.json import normalize_json
except ImportError:  # before Django 6
    import django_tasks as tasks
    from django_tasks import base, exceptions, signals
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.utils import normalize_json

DEFAULT_QUEUE = tasks.DEFAULT_TASK_QUEUE_NAME
MAX_PRIORITY = base.TASK_MAX_PRIORITY
MIN_PRIORITY = base.TASK_MIN_PRIORITY
Task = base.Task
TaskContext = base.TaskContext
TaskError = base.TaskError
TaskResult = base.TaskResult
TaskResultStatus = base.TaskResultStatus
TaskResultDoesNotExist = exceptions.TaskResultDoesNotExist
task_enqueued = signals.task_enqueued
task_started = signals.task_started
task_finished = signals.task_finished

__all__ = [
    "DEFAULT_QUEUE", "MAX_PRIORITY", "MIN_PRIORITY", "BaseTaskBackend", "Task", "TaskContext", "TaskError",
    "TaskResult", "TaskResultDoesNotExist", "TaskResultStatus", "normalize_json", "task_enqueued", "task_finished",
    "task_started",
]  # fmt: skip
