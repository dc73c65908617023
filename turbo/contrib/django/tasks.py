"""``TurboBackend``: sends Django's own tasks, and reads their results.

Named in Django's settings: ``TASKS = {"default": {"BACKEND": "turbo.contrib.django.tasks.TurboBackend"}}``. Runs
in clients, and in children for tasks that send tasks. A call is a message for one of the tasks of
``contrib.django.running``; its id is the message's. It must never run a task itself.
"""

from __future__ import annotations

import functools
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.utils import timezone

from turbo import current
from turbo.app.conf.loading import resolve
from turbo.backends.url import store_kind
from turbo.contrib.django.interface import (
    DEFAULT_QUEUE,
    MAX_PRIORITY,
    MIN_PRIORITY,
    BaseTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from turbo.contrib.django.records import STATE, Record, record_id
from turbo.contrib.django.running import COROUTINE, FUNCTION

if TYPE_CHECKING:
    from turbo.app.base import Turbo


class TurboBackend(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Django's tasks on turbo's workers.

    The option ``app`` (``module:attribute``) names the app, where it is not the current one. Tasks of the queue
    ``default`` go where the app sends tasks of no queue, unless the app has a queue of this name; ``task_routes`` know
    them by module and name. Results can be read when the app keeps them in Redis. Priorities need
    ``task_queue_max_priority``, on whose scale they are mapped.
    """

    supports_defer = True
    supports_async_task = True

    @property
    def app(self) -> Turbo:
        """The app that sends, and whose worker runs."""
        found: Turbo = self._named or current.current_app()
        return found

    @functools.cached_property
    def _named(self) -> Turbo | None:
        """The app that the option names, imported once: every call asks several times."""
        found: Turbo | None = resolve(self.options.get("app"))
        return found

    @property
    def supports_get_result(self) -> bool:
        """Whether every process can read results."""
        return store_kind(self.app.conf["result_backend"]) == "redis"

    @property
    def supports_priority(self) -> bool:
        """Whether the app's queues have priorities."""
        return bool(self.app.conf["task_queue_max_priority"])

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Send one call; return a ``TaskResult``.

        Raises InvalidTask for what this backend cannot do, TypeError for arguments that are not JSON, and
        ``turbo.exceptions.OperationalError`` when the broker or the store cannot be reached.
        """
        self.validate_task(task)
        result = TaskResult(
            task=task, id=str(uuid4()), backend=self.alias, args=args, kwargs=kwargs, status=TaskResultStatus.READY,
            enqueued_at=timezone.now(), started_at=None, finished_at=None, last_attempted_at=None,
            errors=[], worker_ids=[],
        )  # fmt: skip
        record = Record.of(result)
        runner = self.app.tasks[COROUTINE if iscoroutinefunction(task.func) else FUNCTION]
        if self.supports_get_result:
            # First, so that no worker can be faster.
            runner.update_state(record_id(result.id), STATE, record.stored())
        runner.apply_async(
            (record.stored(),), task_id=result.id, eta=task.run_after, shadow=task.module_path,
            route_name=task.module_path, argsrepr=repr(tuple(result.args)), kwargsrepr=repr(result.kwargs),
            **self._destination(task),
        )  # fmt: skip
        task_enqueued.send(type(self), task_result=result)
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """:meth:`enqueue` for programs on asyncio.

        It sends from another thread; within a task, the master sends.
        """
        if current.in_worker_child():
            return self.enqueue(task, args, kwargs)
        return await super().aenqueue(task, args, kwargs)

    def get_result(self, result_id: str) -> Any:
        """Return what is known of a call as a ``TaskResult``.

        Raises TaskResultDoesNotExist for an unknown id, and NotImplementedError where results cannot be read.
        """
        if not self.supports_get_result:
            return super().get_result(result_id)
        store = self.app.backend
        found = store.get_task_meta(record_id(result_id))
        if found["status"] != STATE:
            raise TaskResultDoesNotExist(result_id)
        return Record(**found["result"]).ended(result_id, store.get_task_meta(result_id))

    # -- inside ------------------------------------------------------------------------------------------

    def _destination(self, task: Any) -> dict[str, Any]:
        """The options of the call that say where it goes, and before what."""
        options: dict[str, Any] = {}
        if task.queue_name != DEFAULT_QUEUE or DEFAULT_QUEUE in self.app.sending.router.queues:
            options["queue"] = task.queue_name
        highest = self.app.conf["task_queue_max_priority"]
        if highest:
            options["priority"] = _on_scale(task.priority, highest)
        return options


def _on_scale(priority: int, highest: int) -> int:
    """One of Django's priorities, from 0 to ``highest``."""
    share: float = (priority - MIN_PRIORITY) / (MAX_PRIORITY - MIN_PRIORITY)
    return round(share * highest)
