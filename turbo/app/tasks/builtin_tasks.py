"""The built-in tasks of every app, under Celery's names.

``xmap``, ``xstarmap``, ``chunks`` and replacement by a group are sent as calls of these tasks. Registered when an app
is finalized; run by workers and by eager apps. Only Celery sends ``celery.group``, ``celery.chord`` and
``celery.chord_unlock``: its old versions, and for result stores that cannot count. Programs must not call them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from turbo import states
from turbo.app.canvas.call_form import several
from turbo.app.canvas.signature import maybe_signature, signature
from turbo.exceptions import ChordError, Retry, TurboError
from turbo.log_format import printable
from turbo.result.async_result import result_from_tuple
from turbo.result.joining import allow_join_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.app.conf.conf import Settings

logger = logging.getLogger("celery.app.builtins")


class TaskMaker(Protocol):
    """The part of an app that makes tasks."""

    conf: Settings

    def task_from_function(self, fun: Callable[..., Any], name: str | None = None, **options: Any) -> object:
        """Return the task called ``name``, made from ``fun`` if it is new."""


def accumulate(*args: Any, index: int | None = None) -> Any:
    """Return ``args``, results of a replacing group, or the one at ``index``."""
    return args if index is None else args[index]


def xmap(self: Any, task: Any, it: list[Any]) -> list[Any]:
    """Call a task's body with each item."""
    body = signature(task, app=self.app).type
    return [body(item) for item in it]


def xstarmap(self: Any, task: Any, it: list[Any]) -> list[Any]:
    """Call a task's body with the items of each item."""
    body = signature(task, app=self.app).type
    return [body(*item) for item in it]


def chunks(self: Any, task: Any, it: list[Any], n: int) -> Any:
    """Send the calls of a task in messages of ``n`` each."""
    parts = {"task": task, "it": it, "n": n}
    return _composite("chunks", parts, self.app).apply_async()


def group(
    self: Any, tasks: list[Any], result: Any, group_id: str, partial_args: Any, add_to_parent: bool = True
) -> Any:
    """Send the members of a group whose ids and result are already set."""
    for task in tasks:
        member = maybe_signature(task, app=self.app, clone=True)
        member.apply_async(partial_args, group_id=group_id, add_to_parent=False)
    sent = result_from_tuple(result, self.app)
    if add_to_parent:
        self.add_trail(sent)
    return sent.as_tuple()


def chain(*_args: Any, **_kwargs: Any) -> None:
    """Never sent: a chain is sent as its first step. Raises NotImplementedError."""
    raise NotImplementedError("chain is not a real task")


def chord(self: Any, header: Any, body: Any, partial_args: Any = (), **_more: Any) -> Any:
    """Send a chord."""
    tasks = header["kwargs"]["tasks"] if isinstance(header, dict) else header
    whole = _composite("chord", {"header": list(tasks), "body": body, "kwargs": {}}, self.app)
    return whole.apply_async(partial_args).as_tuple()


def chord_unlock(
    self: Any,
    group_id: str,
    callback: Any,
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = (),
    **_more: Any,
) -> None:
    """Send a chord's body if all header tasks have ended.

    Otherwise retry in ``interval`` seconds.
    """
    app = self.app
    parts = app.GroupResult(group_id, [result_from_tuple(each, app) for each in result])
    body = maybe_signature(callback, app=app)
    try:
        if not parts.ready():
            raise self.retry(countdown=self.default_retry_delay if interval is None else interval,
                             max_retries=max_retries)  # fmt: skip
    except Retry:
        raise
    except Exception as error:
        # There will be no further check, so the body must fail now.
        _fail(app, body, ChordError(f"chord_unlock could not be retried: {error!r}"))
        raise
    try:
        with allow_join_result():
            values = parts.get(timeout=app.conf["result_chord_join_timeout"])
    except Exception as error:
        culprit = next((each.id for each in parts.results if each.failed()), None)
        reason = repr(error) if culprit is None else f"Dependency {culprit} raised {error!r}"
        logger.exception("Chord %s failed: no results from its header", printable(group_id))
        _fail(app, body, ChordError(reason))
        return
    try:
        body.apply_async((values,))
    except Exception as error:
        logger.exception("Chord %s failed: its body could not be sent", printable(group_id))
        _fail(app, body, ChordError(f"Callback error: {error!r}"))


def backend_cleanup(self: Any) -> None:
    """Delete expired results, where they do not expire by themselves: in databases."""
    self.app.backend.cleanup()


def _composite(kind: str, parts: dict[str, Any], app: Any) -> Any:
    form = {"task": f"celery.{kind}", "args": (), "kwargs": parts, "options": {}, "subtask_type": kind}
    return maybe_signature({**form, "immutable": kind == "chunks"}, app=app)


def _fail(app: Any, body: Any, error: ChordError) -> None:
    """Store ``error`` as the result of a chord's body that will never run.

    Also sends the body's error callbacks.
    """
    options = body.options
    task_id = options.get("task_id")
    if not task_id:
        return
    app.backend.store_result(task_id, error, states.FAILURE)
    for errback in several(options.get("link_error")):
        try:
            maybe_signature(errback, app=app, clone=True).apply_async((task_id,), parent_id=task_id)
        except TurboError as failure:
            logger.exception("An error callback of %s could not be sent: %s", printable(task_id), failure)


_BOUND: Final[dict[str, Any]] = {
    "celery.map": xmap,
    "celery.starmap": xstarmap,
    "celery.chunks": chunks,
    "celery.group": group,
    "celery.chord": chord,
    "celery.backend_cleanup": backend_cleanup,
}
_PLAIN: Final[dict[str, Any]] = {
    "celery.accumulate": accumulate,
    "celery.chain": chain,
}


def add_to(app: TaskMaker) -> None:
    """Register the built-in tasks with an app that is being finalized.

    Names that the program has registered are skipped.
    """
    for name, fun in _PLAIN.items():
        app.task_from_function(fun, name=name)
    for name, fun in _BOUND.items():
        app.task_from_function(fun, name=name, bind=True)
    app.task_from_function(
        chord_unlock,
        name="celery.chord_unlock",
        bind=True,
        max_retries=None,
        ignore_result=True,
        default_retry_delay=app.conf["result_chord_retry_interval"],
    )
