"""Celery's import path for adding remote control commands."""

from turbo.control.panel import Panel, control_command, inspect_command

__all__ = ["Panel", "control_command", "inspect_command"]
