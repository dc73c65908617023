"""What can be asked of a task without sending it: signatures, a run in the caller's process, its logger, its place.

Part of ``app.task.Task``. Signatures are ``app.canvas.signature``'s, running is ``app.tasks.eager``'s, what takes a
running task's place is ``app.canvas.replacing``'s.
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
    from collections.abc import Iterable

    from turbo.app.task import Task
    from turbo.app.tasks.context import Context
    from turbo.result.eager import EagerResult


class TaskCalls:
    """A task's signatures and eager calls."""

    @property
    def _task(self) -> Task:
        """This, as the whole that it always is a part of."""
        return cast("Task", self)

    def signature(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Signature:
        """Return a call of this task as a value: arguments, options and all else of ``Signature``."""
        options.setdefault("app", self._task.app)
        return Signature(self, args, kwargs, *rest, **options)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a call with these arguments as a value."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """The same, which as a callback is called with these arguments alone."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> xmap:
        """Return the call of this task with each of ``it``, all in one message."""
        return xmap(self.s(), it, app=self._task.app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """The same, with each of ``it`` as all positional arguments."""
        return xstarmap(self.s(), it, app=self._task.app)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """The same as :meth:`starmap`, in messages of ``n`` each."""
        return chunks(self.s(), it, n, app=self._task.app)

    def replace(self, sig: Any) -> Any:
        """End this run and have ``sig`` run in its place: with its id, group, chord, callbacks and rest of the chain.

        Write ``return self.replace(…)``: it raises Ignore, except where a task is run in the caller's own process.
        Raises ImproperlyConfigured for an empty chain or for what is part of another chord.
        """
        return self.on_replace(replacing.replacement(self._task, sig))

    def on_replace(self, sig: Any) -> Any:
        """Called with what replaces the task, to send it; overriding it must end with ``super().on_replace(sig)``."""
        return replacing.instead(self._task, sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Send ``sig`` as one part more of the chord that this call is a part of; ``lazy`` leaves sending to you.

        Raises ValueError outside a chord, NotImplementedError where the result store cannot count.
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
        """Return the call that repeats ``request`` (the current one), with its destination and its
        priority.
        """
        task = self._task
        request = task.request if request is None else request
        return retrying.repeat(task, request, args, kwargs, {**({"queue": queue} if queue else {}), **extra})

    subtask_from_request = signature_from_request

    def get_logger(self, **_: Any) -> logging.Logger:
        """Return the task's own logger, as programs of Celery 2 ask for it; arguments are accepted for their sake."""
        return get_task_logger(self._task.name or "")

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
        """Run the task here and now as a worker would, with handlers, signals, callbacks and retries.

        Retries follow one another at once. ``throw`` (by default ``task_eager_propagates``) raises what the task
        raises instead of returning it in the result.
        """
        args, kwargs = check_arguments(args, kwargs)
        return eager.apply(
            self._task, args, kwargs, task_id, retries or 0, throw,
            {**options, "link": link, "link_error": link_error},
        )  # fmt: skip
