"""What the parts of an app ask of the app and of its tasks, as Protocols.

``app.base.Turbo`` and ``app.task.Task`` implement them. Signatures, sending and the parts of a task use only these, so
that their modules do not import the two classes that are built of them. It must never hold code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from turbo.result.async_result import ResultApp

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from turbo.app.amqp import Amqp
    from turbo.app.conf.conf import Settings
    from turbo.app.tasks.context import Context
    from turbo.exceptions import Retry
    from turbo.policy.batching import Batch
    from turbo.result.async_result import AsyncResult
    from turbo.result.eager import EagerResult
    from turbo.result.group_result import GroupResult


class AppLike(ResultApp, Protocol):
    """An app, as signatures, tasks and sending use it."""

    conf: Settings
    amqp: Amqp

    @property
    def tasks(self) -> Mapping[str, TaskLike]:
        """All tasks by name."""

    def registered(self, name: str) -> TaskLike | None:
        """Return the task called ``name``, or None, without finalizing the app."""

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult:
        """Send a message for the task ``name``."""

    def send_event(
        self, kind: str, fields: Mapping[str, Any], retry: bool = True, retry_policy: Mapping[str, object] | None = None
    ) -> None:
        """Send an event to monitors."""

    def AsyncResult(self, task_id: str | uuid.UUID, **kwargs: Any) -> AsyncResult:
        """Return the handle of the call ``task_id``."""

    def GroupResult(
        self, id: str | uuid.UUID | None = None, results: Iterable[Any] | None = None, **kwargs: Any
    ) -> GroupResult:
        """Return the handle of the group ``id``, whose members have ``results``."""

    def pipeline(self) -> AbstractContextManager[None]:
        """Send this thread's messages without waiting for each by itself."""

    @property
    def pipelined(self) -> bool:
        """Whether this thread is inside a block of :meth:`pipeline`."""

    @property
    def thread_oid(self) -> str:
        """This thread's id as a caller: the name of its queue for rpc results."""

    def now(self) -> datetime:
        """The time, aware, in the app's zone."""


class TaskLike(Protocol):
    """A task, as signatures, sending and the ways to run it use it."""

    MaxRetriesExceededError: ClassVar[Any]

    name: str | None
    max_retries: int | None
    default_retry_delay: float
    override_max_retries: int | None
    ignore_result: bool | None
    store_errors_even_if_ignored: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    trail: bool
    batch: Batch | None

    @property
    def app(self) -> AppLike:
        """The app this task belongs to."""

    @property
    def request(self) -> Context:
        """The current request of this thread or coroutine."""

    @property
    def backend(self) -> Any:
        """The result store's client side."""

    # -- its body --------------------------------------------------------------------------------------------

    @property
    def __header__(self) -> Callable[..., object] | None:
        """What raises for wrong arguments; None where they are not checked."""

    @property
    def run(self) -> Callable[..., Any]:
        """The body."""

    @property
    def own_body(self) -> Callable[..., Any]:
        """The callable that a worker calls."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body in this process, as a function."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when the body returned."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the run ended in a retry."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the body raised."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called last, after success or failure."""

    # -- its calls -------------------------------------------------------------------------------------------

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | uuid.UUID | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send a message for this task to a worker."""

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult:
        """Run the task here and now as a worker would."""

    def retry(self, *, exc: Any = None, **options: Any) -> Retry:
        """Send this call again and end this run."""

    def AsyncResult(self, task_id: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Return the handle of this task's call ``task_id``."""

    def send_options(self) -> dict[str, Any]:
        """The options of every message of this task, unless the call overrides them."""
