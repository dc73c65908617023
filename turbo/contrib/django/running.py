"""The two tasks of turbo that run Django's: for functions and coroutines.

Known to every app of a process in which ``contrib.django.tasks`` is imported; a worker imports it when the settings
name its backend. They run in a child. What a message names is imported, and run only if it is one of Django's tasks.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

from turbo.app.shared import shared_task
from turbo.contrib.django.interface import (
    TaskContext,
    TaskError,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from turbo.contrib.django.records import STATE, Record, change, record_id
from turbo.exceptions import TaskPredicate

if TYPE_CHECKING:
    from turbo.app.task import Task

FUNCTION: Final = "turbo.django.run"
COROUTINE: Final = "turbo.django.run_coroutine"


@shared_task(name=FUNCTION, bind=True, ignore_result=False)
def run(self: Task, stored: dict[str, Any]) -> Any:
    """Run one of Django's tasks that is a function.

    Return what it returned, as JSON has it.
    """
    result = _begin(self, stored, _earlier(self) if _may_have_run(self) else None)
    sender = type(result.task.get_backend())
    task_started.send(sender=sender, task_result=result)
    try:
        value = normalize_json(result.task.func(*_arguments(result), **result.kwargs))
    except TaskPredicate:
        raise
    except Exception as error:
        _failed(result, error)
        task_finished.send(sender=sender, task_result=result)
        raise
    _succeeded(result, value)
    task_finished.send(sender=sender, task_result=result)
    return value


@shared_task(name=COROUTINE, bind=True, ignore_result=False)
async def run_coroutine(self: Task, stored: dict[str, Any]) -> Any:
    """Run one of Django's tasks that is a coroutine.

    Return what it returned, as JSON has it.
    """
    earlier = await asyncio.to_thread(_earlier, self) if _may_have_run(self) else None
    result = _begin(self, stored, earlier)
    sender = type(result.task.get_backend())
    await task_started.asend(sender=sender, task_result=result)
    try:
        value = normalize_json(await result.task.func(*_arguments(result), **result.kwargs))
    except TaskPredicate:
        raise
    except Exception as error:
        _failed(result, error)
        await task_finished.asend(sender=sender, task_result=result)
        raise
    _succeeded(result, value)
    await task_finished.asend(sender=sender, task_result=result)
    return value


def _may_have_run(task: Task) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered"))


def _earlier(task: Task) -> Record | None:
    """What is known of the attempt before this one."""
    found = task.backend.get_task_meta(record_id(str(task.request.id)))
    return Record(**found["result"]) if found["status"] == STATE else None


def _begin(task: Task, stored: dict[str, Any], earlier: Record | None) -> Any:
    """Note, for whoever asks, that the call runs; return it as a ``TaskResult``."""
    request = task.request
    result_id = str(request.id)
    result = (earlier or Record(**stored)).result(result_id)
    now = timezone.now()
    change(result, status=TaskResultStatus.RUNNING, started_at=result.started_at or now, last_attempted_at=now)
    result.worker_ids.append(str(request.hostname))
    if result.task.get_backend().supports_get_result:
        task.update_state(record_id(result_id), STATE, Record.of(result).stored())
    return result


def _arguments(result: Any) -> list[Any]:
    """The positional arguments of the body."""
    return [TaskContext(task_result=result), *result.args] if result.task.takes_context else result.args


def _succeeded(result: Any, value: Any) -> None:
    change(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)


def _failed(result: Any, error: Exception) -> None:
    change(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
    kind = type(error)
    result.errors.append(
        TaskError(
            exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
            traceback="".join(traceback.format_exception(error)),
        )
    )
