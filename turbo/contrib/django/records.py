"""What is kept of a call of a Django task, beside the result document.

Written by the client when the call is sent and again by the child when it runs; read by clients together with the
result document, which alone says how the call ended. Values only: nothing here talks to a store.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from turbo import states
from turbo.contrib.django.interface import Task, TaskError, TaskResult, TaskResultStatus

if TYPE_CHECKING:
    from turbo.backends.reader import Meta

#: The state under which a record is stored: one that no task ends in.
STATE: Final = "RECORD"


def record_id(result_id: str) -> str:
    """Under which id the record of the call ``result_id`` is stored."""
    return f"{result_id}-django"


@dataclass(slots=True)
class Record:
    """One call.

    Times are ISO 8601 in UTC; everything is as JSON has it, so that it travels as it is.
    """

    #: Where the task is, as module and name.
    path: str
    backend: str
    priority: int
    queue_name: str
    run_after: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    enqueued_at: str
    #: Written by the child.
    started_at: str | None = None
    last_attempted_at: str | None = None
    worker_ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, result: Any) -> Record:
        """The record of a ``TaskResult``."""
        task = result.task
        return cls(
            task.module_path, result.backend, task.priority, task.queue_name, _text(task.run_after),
            result.args, result.kwargs, _text(result.enqueued_at) or "", _text(result.started_at),
            _text(result.last_attempted_at), list(result.worker_ids),
        )  # fmt: skip

    def stored(self) -> dict[str, Any]:
        """The record as JSON has it; ``Record(**stored)`` is the way back."""
        return asdict(self)

    def result(self, result_id: str) -> Any:
        """The ``TaskResult`` of a call of which nothing else is known.

        Raises ImportError when there is no such task, and TypeError when what is there is none of Django's tasks.
        """
        task = import_string(self.path)
        if not isinstance(task, Task):
            raise TypeError(f"{self.path} is not one of Django's tasks")
        task = task.using(
            priority=self.priority, queue_name=self.queue_name, run_after=_time(self.run_after), backend=self.backend
        )
        return TaskResult(
            task=task, id=result_id, backend=self.backend, args=self.args, kwargs=self.kwargs,
            status=TaskResultStatus.RUNNING if self.started_at else TaskResultStatus.READY,
            enqueued_at=_time(self.enqueued_at), started_at=_time(self.started_at),
            last_attempted_at=_time(self.last_attempted_at), finished_at=None,
            errors=[], worker_ids=list(self.worker_ids),
        )  # fmt: skip

    def ended(self, result_id: str, outcome: Meta) -> Any:
        """The same, with what the result document says."""
        result = self.result(result_id)
        status = outcome["status"]
        if status not in states.READY_STATES:
            return result
        done = outcome.get("date_done")
        change(result, finished_at=_time(done) if isinstance(done, str) else done)
        if status == states.SUCCESS:
            change(result, status=TaskResultStatus.SUCCESSFUL, _return_value=outcome["result"])
        else:
            change(result, status=TaskResultStatus.FAILED)
            result.errors.append(
                TaskError(
                    exception_class_path=_path_of(outcome["result"]), traceback=str(outcome.get("traceback") or "")
                )
            )
        return result


def change(result: Any, **fields: Any) -> None:
    """Change fields of a ``TaskResult``, which is frozen for programs.

    Backends are meant to do so.
    """
    for name, value in fields.items():
        object.__setattr__(result, name, value)


def _path_of(raised: Any) -> str:
    """Where the class of a stored exception is."""
    if isinstance(raised, BaseException):  # the serializer is pickle
        return f"{type(raised).__module__}.{type(raised).__qualname__}"
    return f"{raised.get('exc_module') or 'builtins'}.{raised.get('exc_type') or 'Exception'}"


def _text(time: datetime | None) -> str | None:
    if time is None:
        return None
    aware = time if time.tzinfo is not None else timezone.make_aware(time)
    return aware.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    """A time as Django's settings want it: aware, or naive with USE_TZ off.

    A naive one is in the current zone.
    """
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if settings.USE_TZ:
        return time
    naive: datetime = timezone.make_naive(time)
    return naive
