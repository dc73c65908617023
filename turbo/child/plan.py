"""What running a task needs to know, computed once per task and child.

Used in a child by the executor and its parts, for every message of the task. It must hold nothing of a single message.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from turbo.app.tasks.handlers import Handlers, has_own_request
from turbo.policy.settling import Ending, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.task import Task
    from turbo.policy.task_options import TaskOptions


class Plan:
    """A task with everything about it that is the same for all its messages."""

    __slots__ = (
        "after_return",
        "batches",
        "before_start",
        "beside",
        "body",
        "deduplicates",
        "early",
        "has_failure_hooks",
        "has_retry_hooks",
        "has_success_hooks",
        "ignore_result",
        "in_thread",
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

    def __init__(self, task: Task, options: TaskOptions, *, threads: bool = False) -> None:
        """``threads``: functions run in threads."""
        self.task = task
        self.name = options.name
        self.options = options
        self.early = not options.acks_late
        self.ignore_result = options.ignore_result
        self.keep_errors = options.store_errors_even_if_ignored
        self.success_verb = settle(Ending.SUCCESS, options.ack_options())
        self.track_started = bool(task.track_started)
        self.throws: tuple[type[BaseException], ...] = tuple(task.throws or ())
        self.deduplicates = _deduplicates(task, options)
        kind = type(task)
        #: A class that overrides ``__call__`` is called itself; all others run ``run`` directly.
        self.body: Callable[..., Any] = task.own_body
        #: The body is ``async def``; it runs beside others on the child's event loop.
        self.is_coroutine = inspect.iscoroutinefunction(self.body) or inspect.iscoroutinefunction(kind.__call__)
        #: The body takes a list of requests.
        self.batches = options.batch is not None
        #: The body is a function that runs in a thread.
        self.in_thread = threads and not self.is_coroutine
        #: It runs beside others.
        self.beside = threads or self.is_coroutine
        self.before_start = _overridden(task, "before_start")
        self.on_success = _overridden(task, "on_success")
        self.on_failure = _overridden(task, "on_failure")
        self.on_retry = _overridden(task, "on_retry")
        self.after_return = _overridden(task, "after_return")
        #: The task has a request class of its own. Its requests live in the master, so every end is reported there.
        self.own_request = has_own_request(task)
        #: The next three: the task has a handler or a request to call after this kind of end is stored.
        self.has_success_hooks = bool(self.own_request or self.on_success or self.after_return)
        self.has_failure_hooks = bool(self.own_request or self.on_failure or self.after_return)
        self.has_retry_hooks = bool(self.own_request or self.on_retry)


def _deduplicates(task: Task, options: TaskOptions) -> bool:
    """Whether redelivered messages are looked up before they run.

    That needs late acks, and a store that can be read.
    """
    conf = task.app.conf
    backend = str(conf["result_backend"] or "")
    return bool(
        options.acks_late
        and conf["worker_deduplicate_successful_tasks"]
        and backend
        and not backend.startswith(("rpc", "disabled"))
    )


def _overridden(task: Task, name: str) -> Any:
    """Return the task's handler, or None for the empty default."""
    return None if getattr(type(task), name) is getattr(Handlers, name) else getattr(task, name)
