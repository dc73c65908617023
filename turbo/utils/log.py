"""Celery's import path of ``get_task_logger``."""

from turbo.log_format import get_task_logger as get_task_logger
