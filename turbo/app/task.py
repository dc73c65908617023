"""``Task``: a unit of work, its options, and the ways to call it.

Every decorated function becomes an instance of a subclass of this. Clients call ``delay`` and
``apply_async``; in a child the executor runs ``run`` and the handlers. It must never talk to a broker
itself: sending is ``app.publish.sending``'s, storing states the app's backend's.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from turbo import current, exceptions
from turbo.app.publish.options import check_options
from turbo.app.registry import restore_task
from turbo.app.tasks import retrying
from turbo.app.tasks.async_calls import AsyncCalls, P, R
from turbo.app.tasks.calls import TaskCalls
from turbo.app.tasks.context import Context
from turbo.app.tasks.handlers import Handlers
from turbo.app.tasks.results import TaskResults

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from turbo.app.base import Turbo
    from turbo.app.tasks.models import Models
    from turbo.exceptions import Retry
    from turbo.policy.batching import Batch
    from turbo.result.async_result import AsyncResult


class _FromConf:
    """An option that defaults to a setting of the app."""

    __slots__ = ("setting",)

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __get__(self, task: Task | None, owner: type[Task]) -> Any:
        return None if task is None else task.app.conf[self.setting]


def _from_conf(setting: str) -> Any:
    return _FromConf(setting)


#: Options that are settings of the app when they are None.
FROM_CONF: dict[str, str] = {
    "serializer": "task_serializer",
    "compression": "task_compression",
    "rate_limit": "task_default_rate_limit",
    "priority": "task_default_priority",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
    "track_started": "task_track_started",
    "acks_late": "task_acks_late",
    "acks_on_failure_or_timeout": "task_acks_on_failure_or_timeout",
    "acks_on_failure": "task_acks_on_failure",
    "acks_on_timeout": "task_acks_on_timeout",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "retry_on_worker_lost": "task_retry_on_worker_lost",
    "ignore_result": "task_ignore_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
}

#: Options of the task that are also options of each of its messages.
_SEND_OPTIONS = (
    "queue",
    "routing_key",
    "exchange",
    "priority",
    "expires",
    "serializer",
    "delivery_mode",
    "compression",
    "time_limit",
    "soft_time_limit",
    "mandatory",
    "immediate",
    "ignore_result",
)


class Task(Handlers, TaskCalls, TaskResults, AsyncCalls[P, R]):
    """Base class of tasks. Subclass it and write ``run``, or let ``@app.task`` do so.

    For type checkers, ``Task[P, R]`` is a task whose body takes ``P`` and returns ``R``; ``Task`` alone takes and
    returns anything.

    Limits and delays are in seconds. ``max_retries=None`` means no limit. Handlers are called in the child,
    in the order before_start, run, on_success or on_failure or on_retry, after_return; see ``Handlers``.
    """

    MaxRetriesExceededError: ClassVar = exceptions.MaxRetriesExceededError
    OperationalError: ClassVar = exceptions.OperationalError

    _app: Turbo | None = None
    _default_request: Context | None = None
    _send_options: dict[str, Any] | None = None
    #: Its open options have been filled.
    _is_settled: bool = False
    #: The limit that ``retry`` was last given, for retries on the program's behalf.
    override_max_retries: int | None = None
    #: Calls with wrong arguments raise here; None where the arguments are not checked.
    __header__: Callable[..., object] | None = None
    #: Converts by the pydantic models in the body's signature; None for a task made without ``pydantic=True``.
    __models__: Models | None = None
    #: The body's first parameter is the task.
    __bound__: bool = True

    name: str | None = None
    abstract: bool = True
    typing: bool | None = None
    max_retries: int | None = 3
    default_retry_delay: float = 180
    rate_limit: str | None = _from_conf("task_default_rate_limit")
    ignore_result: bool | None = _from_conf("task_ignore_result")
    trail: bool = True
    send_events: bool = True
    store_errors_even_if_ignored: bool | None = _from_conf("task_store_errors_even_if_ignored")
    serializer: str | None = _from_conf("task_serializer")
    compression: str | None = _from_conf("task_compression")
    time_limit: float | None = _from_conf("task_time_limit")
    soft_time_limit: float | None = _from_conf("task_soft_time_limit")
    track_started: bool | None = _from_conf("task_track_started")
    acks_late: bool | None = _from_conf("task_acks_late")
    acks_on_failure_or_timeout: bool | None = _from_conf("task_acks_on_failure_or_timeout")
    acks_on_failure: bool | None = _from_conf("task_acks_on_failure")
    acks_on_timeout: bool | None = _from_conf("task_acks_on_timeout")
    reject_on_worker_lost: bool | None = _from_conf("task_reject_on_worker_lost")
    retry_on_worker_lost: bool | None = _from_conf("task_retry_on_worker_lost")
    throws: tuple[type[BaseException], ...] = ()
    expires: Any = None
    priority: int | None = _from_conf("task_default_priority")
    resultrepr_maxsize: int = 1024
    #: The body takes a list of requests, which are collected by this size and interval.
    batch: Batch | None = None

    # -- belonging to an app ---------------------------------------------------------------------------------

    @property
    def app(self) -> Turbo:
        """The app this task belongs to: its own, or the current one."""
        app = self._app
        if app is None:
            app = current.current_app()
        return app

    def belong_to(self, app: Turbo) -> None:
        """Bind the task to ``app``, with its options still open."""
        self._app = app
        # As its function has one: a class keeps this name for itself.
        self.__dict__.setdefault("__name__", type(self).__name__)

    def bind(self, app: Turbo) -> None:
        """Give the task to ``app`` and fill the options left open with its settings.

        Repeating it changes
        nothing.

        Before this, open options are looked up in the settings each time they are read.
        """
        self._app = app
        if "_bound_to" in self.__dict__ and self.__dict__["_bound_to"] is app:
            return
        self.__dict__["_bound_to"] = app
        for name, value in app.annotations_of(self):
            setattr(self, name, value)
        for name, setting in FROM_CONF.items():
            if getattr(self, name) is None or isinstance(inspect.getattr_static(self, name), _FromConf):
                setattr(self, name, app.conf[setting])
        both = self.acks_on_failure_or_timeout
        for name in ("acks_on_failure", "acks_on_timeout"):
            if getattr(self, name) is None:
                setattr(self, name, True if both is None else both)
        if self.typing is None:
            self.typing = app.strict_typing
        self._send_options = None
        self._is_settled = True
        self.on_bound(app)

    def on_bound(self, app: Turbo) -> None:
        """Called when the task has been given to ``app``."""

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The body."""
        raise NotImplementedError("Tasks must define the run method.")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here, as a function: ``request.called_directly`` is true."""
        frame = current.top()
        if (
            frame is not None
            and frame.task is self
            and type(self).__call__ is not Task.__call__
            and frame.request.claim_call()
        ):
            # A worker runs a task whose class wraps __call__: this is super().__call__, not a call of its
            # own.
            wrapped: R = self.run(*args, **kwargs)
            return wrapped
        token = current.push(self, Context(args=args, kwargs=kwargs))
        try:
            result: R = self.run(*args, **kwargs)
            return result
        finally:
            current.pop(token)

    @property
    def own_body(self) -> Callable[..., Any]:
        """What a worker calls: ``run``, or the task if it overrides ``__call__``."""
        return self.run if type(self).__call__ is Task.__call__ else self

    @property
    def request(self) -> Context:
        """The current request of this thread or coroutine; an empty one outside of tasks."""
        request: Context | None = current.request_of(self)
        if request is None:
            request = self._default_request
            if request is None:
                request = self._default_request = Context()
        return request

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Make ``Context(*args, **kwargs)`` the current request, as in tests."""
        current.push(self, Context(*args, **kwargs))

    def pop_request(self) -> None:
        """Undo :meth:`push_request`."""
        current.drop(self)

    # -- calling ---------------------------------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a message with these arguments and no options."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | uuid.UUID | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send a message for this task to a worker.

        ``options`` are those of ``Turbo.send_task``. Raises TypeError for arguments that ``run`` would not take and for
        options that there are not, EncodeError for arguments that cannot be serialized, OperationalError when the
        broker cannot be reached.
        """
        check_options(options)
        if self._send_options is None:
            self.bind(self.app)
        if self.soft_time_limit and self.time_limit and self.soft_time_limit > self.time_limit:
            raise ValueError("soft_time_limit must be less than or equal to time_limit")
        check = self.__header__
        if check is not None and self.typing is not False:
            check(*(args or ()), **(kwargs or {}))
        if self.__models__ is not None and (options.get("serializer") or self.serializer) != "pickle":
            args, kwargs = self.__models__.sendable(args, kwargs, bound=self.__bound__)
        if not options.get("shadow"):
            options["shadow"] = self.shadow_name(args, kwargs, options)
        app = self.app
        if app.sends_itself and not app.conf["task_always_eager"]:
            options = {**self.send_options(), **options}
            return app.send_task(self.name or "", args, kwargs, task_id=task_id, task_type=self, **options)
        return app.sending.send(self.name or "", args, kwargs, task_id, self, options)

    @property
    def sends_itself(self) -> bool:
        """Whether code of the program takes part in sending, as its ``apply_async``."""
        kind = type(self)
        return (
            kind.apply_async is not _APPLY_ASYNC
            or kind.shadow_name is not _SHADOW_NAME
            or "apply_async" in self.__dict__
            or self.app.sends_itself
        )

    def shadow_name(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str | None:
        """Return a name for logs and monitors instead of the task's own, or None."""
        return None

    def send_options(self) -> dict[str, Any]:
        """The options of every message of this task, unless the call overrides them."""
        options = self._send_options
        if options is None:
            # Read this first: another thread may be finalizing the task, and a later read could mix old and new
            # options.
            keep = self._is_settled
            options = {name: getattr(self, name, None) for name in _SEND_OPTIONS}
            if keep:
                self._send_options = options
        return options

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Any = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Send this call again and end this run.

        The message has the same id and goes where this one came from, ``countdown`` seconds from now
        (``default_retry_delay`` unless given) or at ``eta``. It is sent before Retry is raised; with
        ``throw=False`` Retry is returned instead. Past ``max_retries``, ``exc`` is raised, or
        MaxRetriesExceededError. Raises Reject when the message could not be sent. Outside a worker, ``exc``.
        ``options`` are those of ``apply_async``; raises TypeError for others.
        """
        if not self.sends_itself:
            check_options(options)
        return retrying.retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, options)

    # -- results ---------------------------------------------------------------------------------------------

    def AsyncResult(self, task_id: Any, **kwargs: Any) -> AsyncResult[R]:
        """Return the handle of this task's call ``task_id``, a text or a UUID."""
        return self.app.AsyncResult(task_id, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the task as its name."""
        return restore_task, (self.name,)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>" if self._app is None else f"<@task: {self.name} of {self._app!r}>"


#: The originals, to detect a replacement.
_APPLY_ASYNC = Task.apply_async
_SHADOW_NAME = Task.shadow_name
