"""The methods of a task other than sending: signatures, eager calls, replacement.

A base class of ``app.task.Task``. ``app.canvas.signature`` implements signatures, ``app.tasks.eager`` runs a task in
the caller's process, ``app.canvas.replacing`` replaces a running task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turbo.app.canvas import replacing
from turbo.app.canvas.maps import chunks, xmap, xstarmap
from turbo.app.canvas.signature import Signature
from turbo.app.tasks import eager, retrying
from turbo.app.tasks.call_options import check_arguments
from turbo.log_format import get_task_logger

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping

    from turbo.app.interfaces import TaskLike
    from turbo.app.tasks.context import Context
    from turbo.result.eager import EagerResult


class TaskCalls:
    """The signatures and eager calls of a task."""

    @property
    def _task(self) -> TaskLike:
        """Return self, typed as a whole task."""
        return cast("TaskLike", self)

    def signature(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Signature:
        """Return a ``Signature`` of this task; the parameters are those of ``Signature``."""
        options.setdefault("app", self._task.app)
        return Signature(self, args, kwargs, *rest, **options)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature of this task with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return an immutable signature of this task.

        As a callback it gets only these arguments, not the parent's result.
        """
        return self.signature(args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> xmap:
        """Return a signature that calls this task with each item of ``it``.

        All calls are sent in one message and run one after the other.
        """
        return xmap(self.s(), it, app=self._task.app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """Like :meth:`map`, where items of ``it`` are sequences of arguments."""
        return xstarmap(self.s(), it, app=self._task.app)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Like :meth:`starmap`, split into messages of ``n`` items each."""
        return chunks(self.s(), it, n, app=self._task.app)

    def replace(self, sig: Any) -> Any:
        """End this run and run ``sig`` in its place, with this task's id.

        It keeps the group, chord, callbacks and remaining chain. Write ``return self.replace(…)``: it raises Ignore in
        a worker, and returns the result when the task runs in the caller's process. Raises ImproperlyConfigured for an
        empty chain, or for a signature that is part of a chord.
        """
        return self.on_replace(replacing.replacement(self._task, sig))

    def on_replace(self, sig: Any) -> Any:
        """Send the replacement ``sig``.

        An override must end with ``return super().on_replace(sig)``.
        """
        return replacing.send_replacement(self._task, sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add ``sig`` to the header of the chord that this task is part of, and send it.

        ``lazy`` only returns it. Raises ValueError outside a chord, and NotImplementedError if the result store
        does not support chords.
        """
        return replacing.add_to_chord(self._task, sig, lazy)

    def signature_from_request(
        self,
        request: Context | None = None,
        args: Any = None,
        kwargs: Any = None,
        queue: Any = None,
        **extra: Any,
    ) -> Signature:
        """Return the signature that sends ``request`` (default: the current one) again.

        It keeps the destination and priority of ``request`` unless ``queue`` or the options replace them.
        """
        task = self._task
        request = task.request if request is None else request
        return retrying.repeat(task, request, args, kwargs, {**({"queue": queue} if queue else {}), **extra})

    subtask_from_request = signature_from_request

    def get_logger(self, **_: Any) -> logging.Logger:
        """Return the task's logger.

        Exists for programs written for Celery 2; the arguments are ignored.
        """
        return get_task_logger(self._task.name or "")

    def send_event(
        self, type_: str, retry: bool = True, retry_policy: Mapping[str, object] | None = None, **fields: Any
    ) -> None:
        """Send an event about the running task to monitors.

        For example ``self.send_event("task-progress", done=3)``. In a worker it goes through the worker's connection
        for events. Elsewhere it is published here; ``retry`` and ``retry_policy`` then say how often. Raises
        EncodeError for fields that are no JSON, and OperationalError.
        """
        task = self._task
        task.app.send_event(type_, {"uuid": task.request.id, **fields}, retry, retry_policy)

    def apply(
        self,
        args: Any = None,
        kwargs: Any = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult:
        """Run the task in this process as a worker would, with its handlers.

        Signals, callbacks and retries happen too. Retries run immediately. With ``throw`` (default:
        ``task_eager_propagates``) the task's exception is raised instead of being returned in the result.
        """
        args, kwargs = check_arguments(args, kwargs)
        return eager.apply(
            self._task, args, kwargs, task_id, retries or 0, throw,
            {**options, "link": link, "link_error": link_error},
        )  # fmt: skip
