"""What running one task takes, worked out once per task and child instead of once per message."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from turbo.app.tasks.handlers import Handlers, has_own_request
from turbo.child import duplicates
from turbo.policy.settling import Ending, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.task import Task
    from turbo.policy.task_options import TaskOptions


class Plan:
    """A task with everything about it that does not change from message to message."""

    __slots__ = (
        "after_return",
        "before_start",
        "body",
        "deduplicates",
        "early",
        "hears_failure",
        "hears_retry",
        "hears_success",
        "ignore_result",
        "is_coroutine",
        "keep_errors",
        "name",
        "on_failure",
        "on_retry",
        "on_success",
        "options",
        "own_request",
        "success_verb",
        "task",
        "throws",
        "track_started",
    )

    def __init__(self, task: Task, options: TaskOptions) -> None:
        self.task = task
        self.name = options.name
        self.options = options
        self.early = not options.acks_late
        self.ignore_result = options.ignore_result
        self.keep_errors = options.store_errors_even_if_ignored
        self.success_verb = settle(Ending.SUCCESS, options.ack_options())
        self.track_started = bool(task.track_started)
        self.throws: tuple[type[BaseException], ...] = tuple(task.throws or ())
        #: A redelivered message is looked up before it runs.
        self.deduplicates = duplicates.wanted(task, options)
        kind = type(task)
        #: A class that overrides ``__call__`` is called itself; all others run ``run`` directly.
        self.body: Callable[..., Any] = task.own_body
        #: The body is ``async def``; it runs beside others on the child's event loop.
        self.is_coroutine = inspect.iscoroutinefunction(self.body) or inspect.iscoroutinefunction(kind.__call__)
        self.before_start = _overridden(task, "before_start")
        self.on_success = _overridden(task, "on_success")
        self.on_failure = _overridden(task, "on_failure")
        self.on_retry = _overridden(task, "on_retry")
        self.after_return = _overridden(task, "after_return")
        #: The task's requests are of a class of its own; they live in the master, which is then told of every end.
        self.own_request = has_own_request(task)
        #: Somebody of the task's wants to hear of such an end, once it is stored.
        self.hears_success = bool(self.own_request or self.on_success or self.after_return)
        self.hears_failure = bool(self.own_request or self.on_failure or self.after_return)
        self.hears_retry = bool(self.own_request or self.on_retry)


def _overridden(task: Task, name: str) -> Any:
    """The task's handler, or None where it is the empty one."""
    return None if getattr(type(task), name) is getattr(Handlers, name) else getattr(task, name)
