"""Implements ``Task.apply``: runs a task in the calling process.

Called by ``app.tasks.calls`` and, with ``task_always_eager``, by ``app.publish.sending`` instead of publishing. Runs in
the process of the caller. Signals, handlers, callbacks and error callbacks are called in a worker's order; results are
stored only with ``task_store_eager_result``. It must never publish the task itself.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import socket
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo import current, signals, states
from turbo.app.canvas.signature import Signature, maybe_signature
from turbo.app.tasks.batches import BatchRequest, ended, outcomes_of
from turbo.app.tasks.call_options import accepts_exception, listed
from turbo.app.tasks.context import Context
from turbo.app.tasks.einfo import ExceptionInfo
from turbo.exceptions import EncodeError, Ignore, OperationalError, Reject, Retry
from turbo.protocol import content
from turbo.protocol.ids import text_id
from turbo.result.eager import EagerResult
from turbo.result.joining import denied_join_result

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from turbo.app.interfaces import TaskLike

logger = logging.getLogger("celery.app.trace")

_HOST = socket.gethostname()


def run_instead_of_sending(
    task: TaskLike, args: Any, kwargs: Any, task_id: str, options: dict[str, Any]
) -> EagerResult:
    """Run a call instead of sending it, with arguments that were serialized.

    Raises EncodeError as sending would. As in a worker, the task may not wait for other tasks' results.
    """
    serializer = options.pop("serializer", None) or task.app.conf["task_serializer"]
    body, content_type, encoding = content.encode((args, kwargs), serializer)
    args, kwargs = content.decode(body, content_type, encoding, frozenset({content_type}))
    with denied_join_result():
        return task.apply(args, kwargs, task_id=task_id, **options)


def apply(
    task: TaskLike,
    args: Any,
    kwargs: Any,
    task_id: str | None,
    retries: int,
    throw: bool | None,
    options: dict[str, Any],
) -> EagerResult:
    """Implement ``Task.apply``; the arguments are the same."""
    task_id = text_id(task_id or uuid4())
    if throw is None:
        throw = bool(task.app.conf["task_eager_propagates"])
    request = _request(task, args, kwargs, task_id, retries, options)
    run = _EagerRun(task, task_id, request, throw)
    state, value, trace = run.trace()
    if isinstance(value, Retry) and isinstance(value.sig, Signature):
        return value.sig.apply(retries=retries + 1)
    return EagerResult(task_id, value, state, trace, task.name)


def _request(task: TaskLike, args: Any, kwargs: Any, task_id: str, retries: int, options: Mapping[str, Any]) -> Context:
    get = options.get
    above = current.top()
    parent = above.request if above is not None and above.request.id else None
    limits = (task.time_limit, task.soft_time_limit)
    stamped = listed(get("stamped_headers"))
    ignore_result = get("ignore_result")
    return Context(
        id=task_id,
        task=task.name,
        args=args,
        kwargs=kwargs,
        called_directly=False,
        is_eager=True,
        retries=retries,
        parent_id=parent.id if parent is not None else None,
        root_id=(parent.root_id if parent is not None else None) or task_id,
        hostname=_HOST,
        callbacks=listed(get("link")),
        errbacks=listed(get("link_error")),
        headers=get("headers"),
        logfile=get("logfile"),
        loglevel=get("loglevel") or 0,
        timelimit=None if limits == (None, None) else list(limits),
        ignore_result=task.ignore_result if ignore_result is None else ignore_result,
        delivery_info={
            "is_eager": True,
            "exchange": get("exchange"),
            "routing_key": get("routing_key"),
            "priority": get("priority"),
        },
        stamped_headers=stamped,
        stamps={name: listed(get(name)) or [] for name in stamped} if stamped else None,
    )


class _EagerRun:
    """One run of one task in this process.

    With ``throw``, exceptions are raised instead of made into a result.
    """

    def __init__(self, task: TaskLike, task_id: str, request: Context, throw: bool) -> None:
        self._task = task
        self._request = request
        self._throw = throw
        self._call: tuple[str, Any, Any] = (task_id, request.args, request.kwargs)
        self._stores = bool(task.app.conf["task_store_eager_result"])

    def trace(self) -> tuple[str, Any, str | None]:
        """Run the task.

        Return its state, the value or exception, and the traceback text (or None).
        """
        task, request = self._task, self._request
        state, value, trace = "", None, None
        token = current.push(task, request)
        try:
            about = {"task_id": request.id, "task": task, "args": request.args, "kwargs": request.kwargs}
            signals.task_prerun.send(sender=task, **about)
            try:
                state, value, trace = self._outcome()
                if state in (states.SUCCESS, states.FAILURE):
                    task.after_return(state, value, *self._call, None)
            finally:
                signals.task_postrun.send(sender=task, **about, retval=value, state=state or None)
        finally:
            current.pop(token)
        return state, value, trace

    def _outcome(self) -> tuple[str, Any, str | None]:
        began = time.monotonic()
        task = self._task
        try:
            task.before_start(*self._call)
            value = self._returned() if task.batch is None else self._of_batch()
        except (Reject, Ignore) as error:
            return (states.REJECTED if isinstance(error, Reject) else states.IGNORED), error, None
        except Retry as error:
            return self._retried(error)
        except Exception as error:  # noqa: BLE001 - whatever a body raises is its outcome
            return self._failed(error)
        try:
            for callback in self._request.callbacks or ():
                self._follow(callback, value)
            self._store(value, states.SUCCESS)
        except (EncodeError, OperationalError) as error:
            return self._failed(error)
        task.on_success(value, *self._call)
        signals.task_success.send(sender=task, result=value, runtime=time.monotonic() - began)
        return states.SUCCESS, value, None

    def _returned(self, *batch: Any) -> Any:
        """Call the body, with the request's own arguments or with ``batch``."""
        request = self._request
        value = self._task.own_body(*batch) if batch else self._task.own_body(*request.args, **request.kwargs)
        return _awaited(value) if inspect.iscoroutine(value) else value

    def _of_batch(self) -> Any:
        """Run a task with batches for this call alone."""
        try:
            outcome = outcomes_of(self._returned([BatchRequest(self._request)]), 1)[0]
        except Exception as error:  # noqa: BLE001 - whatever a body raises is its outcome
            outcome = error
        if isinstance(outcome, BaseException):
            raise ended(self._task, outcome)
        return outcome

    def _retried(self, retry: Retry) -> tuple[str, Any, str | None]:
        if self._throw:
            raise retry
        einfo = ExceptionInfo(retry)
        self._store(retry.exc, states.RETRY, einfo.traceback)
        self._task.on_retry(retry.exc, *self._call, einfo)  # type: ignore[arg-type]
        signals.task_retry.send(sender=self._task, request=self._request, reason=retry, einfo=einfo)
        return states.RETRY, retry, einfo.traceback

    def _failed(self, error: Exception) -> tuple[str, Any, str | None]:
        if self._throw:
            raise error
        task, (task_id, args, kwargs) = self._task, self._call
        einfo = ExceptionInfo(error)
        logger.error("Task %s[%s] raised unexpected: %r", task.name, task_id, error, exc_info=error)
        self._store(error, states.FAILURE, einfo.traceback)
        for errback in self._request.errbacks or ():
            self._call_errback(errback, error, einfo)
        task.on_failure(error, task_id, args, kwargs, einfo)
        signals.task_failure.send(
            sender=task,
            task_id=task_id,
            exception=error,
            args=args,
            kwargs=kwargs,
            traceback=error.__traceback__,
            einfo=einfo,
        )
        return states.FAILURE, error, einfo.traceback

    def _follow(self, callback: Any, *args: Any) -> None:
        """Send a callback like any other call; with ``task_always_eager`` this runs it."""
        request = self._request
        maybe_signature(callback, self._task.app).apply_async(args, parent_id=request.id, root_id=request.root_id)

    def _call_errback(self, errback: Any, error: Exception, einfo: ExceptionInfo) -> None:
        """Call an error callback that accepts the exception.

        Send any other with this task's id.
        """
        sig = maybe_signature(errback, self._task.app)
        task = self._task.app.registered(sig.task)
        if task is None or not accepts_exception(task, sig):
            self._follow(sig, self._request.id)
            return
        try:
            sig(self._request, error, einfo.traceback)
        except Exception:
            logger.exception("Error callback %s of %s raised", sig.task, self._task.name)

    def _store(self, value: Any, state: str, trace: str | None = None) -> None:
        request, task = self._request, self._task
        failed = state == states.FAILURE
        if request.ignore_result:
            wanted = failed and bool(task.store_errors_even_if_ignored)
        else:
            wanted = self._stores
        if wanted:
            task.backend.store_result(request.id, value, state, trace, request=request)


def _awaited(body: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end.

    It runs in this thread, or in a new one if this thread runs an event loop.
    """
    import asyncio  # large, and most tasks are not coroutines
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(body)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, body).result()
