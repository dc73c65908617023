"""Calls the app for remote control, on a thread beside the master's loop.

Used by ``control.service`` and by commands that the app is to know of. It must never run the app's code on the loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turbo.master.outcome.hook_thread import HookThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from turbo.amqp.topology import Queue
    from turbo.control.app_commands import AppCommands
    from turbo.policy.task_options import TaskOptions


class AppThread:
    """The thread, and what the app is told of changes by remote control."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: AppCommands) -> None:
        self._threads = HookThread(loop)
        self._app = app

    def called(self, name: str, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call the app on the thread; the future has its result or its error."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def guarded() -> tuple[Any, Exception | None]:
            try:
                return call(), None
            except Exception as error:  # noqa: BLE001 - the app's own code
                return None, error

        def then(outcome: tuple[Any, Exception | None] | None) -> None:
            if answered.done():
                return
            if outcome is None:
                answered.set_exception(TimeoutError("the command did not return"))
            elif outcome[1] is not None:
                answered.set_exception(outcome[1])
            else:
                answered.set_result(outcome[0])

        self._threads.submit(f"The remote control command {name:.100}", guarded, then)
        return answered

    def revoked(self, task_ids: Sequence[str]) -> Awaitable[None] | None:
        """Tell the app of revoked tasks that neither run nor wait here; None without any."""
        return self._in_app(lambda: self._app.revoked(task_ids)) if task_ids else None

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> Awaitable[None]:
        """Set attributes of the app's task, whose limits have changed."""
        return self._in_app(lambda: self._app.limited(task_name, attributes))

    def queue_cancelled(self, queue: str) -> Awaitable[None]:
        """Tell the app that the worker no longer consumes from a queue."""
        return self._in_app(lambda: self._app.queue_cancelled(queue))

    def queue_of(self, name: str, options: dict[str, Any]) -> Awaitable[Queue]:
        """Return the app's queue of this name, or one made from the options."""
        return self.called("add_consumer", lambda: self._app.queue_to_add(name, options))

    def tasks_changed(self, tasks: Mapping[str, TaskOptions]) -> None:
        """Tell the app of tasks that are new or have other options in the children."""
        self._in_app(lambda: self._app.tasks_changed(tasks))

    def _in_app(self, call: Callable[[], None]) -> Awaitable[None]:
        """Call the app on the thread; the result is there when the call has ended."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then(_value: None) -> None:
            if not ended.done():
                ended.set_result(None)

        self._threads.submit("The app", call, then)
        return ended
