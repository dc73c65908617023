"""Celery's import path of the functions that programs use for logging."""

from logging import getLogger as get_logger

from turbo.log_format import get_task_logger

__all__ = ["get_logger", "get_task_logger"]
