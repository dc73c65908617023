"""``Turbo``: the application.

Its configuration, its tasks, and the ways to send them.

Made by the program's own module, in clients and workers alike. It must never open a connection before
something is sent or read, nor start a thread: a worker imports the app before it forks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self

from turbo import current
from turbo.app.amqp import Amqp
from turbo.app.canvas.signature import Signature, signature
from turbo.app.celery_view import UserOptions
from turbo.app.control import Control
from turbo.app.log import Log
from turbo.app.publish.connecting import Connecting
from turbo.app.publish.options import check_options
from turbo.app.publish.sending import Sender
from turbo.app.running import Running
from turbo.app.task_keeper import TaskKeeper
from turbo.backends.open_reader import open_reader
from turbo.events.of_app import Events
from turbo.result.async_result import AsyncResult
from turbo.result.group_result import GroupResult, ResultSet

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from turbo.amqp.topology import Queue
    from turbo.app.task import Task
    from turbo.backends.reader import ResultReader

#: Arguments of Celery's constructor that name an app's component classes.
_PARTS = frozenset({"amqp", "control", "events", "fixups", "loader", "log", "tasks"})


class Turbo(TaskKeeper, Connecting, Running):
    """An application, as ``celery.Celery`` is one.

    ``main`` replaces ``__main__`` in the names of tasks. ``broker``, ``backend`` and ``include`` are the
    settings ``broker_url``, ``result_backend`` and ``include``; further keywords are settings too.
    ``config_source`` is an object or path for :meth:`config_from_object`. Raises TypeError for Celery's arguments that
    name classes to build an app of.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: Any = None,
        backend: str | None = None,
        include: Iterable[str] | None = None,
        set_as_current: bool = True,
        config_source: object = None,
        namespace: str | None = None,
        task_cls: Any = None,
        strict_typing: bool = True,
        autofinalize: bool = True,
        changes: Mapping[str, Any] | None = None,
        config_source_silent: bool = False,
        **settings: Any,
    ) -> None:
        for part in _PARTS.intersection(settings):
            if settings.pop(part) is not None:
                raise TypeError(f"an app of turbo's own takes no {part}=: it is built of other parts")
        given = {"broker_url": broker, "result_backend": backend, "include": include, **settings}
        given = {name: value for name, value in given.items() if value is not None}
        super().__init__({**(changes or {}), **given}, config_source, namespace, config_source_silent, task_cls)
        self.main = main
        self.strict_typing = strict_typing
        self.autofinalize = autofinalize
        self.set_as_current = set_as_current
        self.finalized = False
        self._reader: ResultReader | None = None
        self._reader_place: tuple[Any, Any] | None = None
        self._reader_version = -1
        self._reader_lock = threading.RLock()
        self.sending = Sender(self)
        self.amqp = Amqp(lambda: self.sending.router)
        #: Bootsteps to run in this app's worker (``turbo.bootsteps``), in sets named ``worker`` and ``consumer``.
        self.steps: defaultdict[str, set[Any]] = defaultdict(set)
        #: Options (``click.Option``) that this app adds to commands, in sets named ``worker``, ``beat`` and
        #: ``preload``, which stands for both.
        self.user_options = UserOptions(self)
        _apps.add(self)
        if set_as_current:
            self.set_current()
        self.on_init()

    def on_init(self) -> None:
        """Called at the end of the constructor; for subclasses."""

    # -- for the worker ---------------------------------------------------------------------------------------

    def worker_queues(self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None) -> list[Queue]:
        """Return the queues to consume from, by ``include`` (-Q) and ``exclude`` (-X)."""
        return self.amqp.queues.chosen(include, exclude)

    # -- calling ---------------------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        eta: Any = None,
        task_id: str | uuid.UUID | None = None,
        task_type: Task | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Send a message for the task ``name``, which need not be registered here.

        Options, all of them optional: ``countdown`` and numeric ``expires`` in seconds; ``eta`` and ``expires`` as
        datetime; ``queue``, ``exchange``, ``routing_key``, ``priority``, ``delivery_mode``, ``mandatory``, ``declare``;
        ``connection``, ``producer``, ``connect_timeout`` and ``confirm_timeout`` in seconds; ``serializer``,
        ``compression``; ``time_limit`` and ``soft_time_limit`` in seconds; ``ignore_result``; ``headers``; ``link``,
        ``link_error``, ``chain``, ``chord``; ``shadow``, ``argsrepr``, ``kwargsrepr``; ``retry``, and ``retry_policy``
        of the publishing; ``reply_to``, ``root_id``, ``parent_id``, ``group_id``, ``group_index``, ``retries``,
        ``add_to_parent``; and properties of the message: ``expiration`` (seconds that it may wait in its queue, where
        there is no ``expires``), ``message_id``, ``timestamp``, ``type``, ``user_id``, ``app_id``, ``correlation_id``.
        ``task_type`` is the task itself where it is the one that sends, which it does if an app's class overrides this.
        Raises as ``Task.apply_async``.
        """
        check_options(options)
        options.update((key, value) for key, value in (("countdown", countdown), ("eta", eta)) if value is not None)
        return self.sending.send(name, args, kwargs, task_id, task_type, options)

    @property
    def sends_itself(self) -> bool:
        """Whether the program overrides ``send_task``.

        Every call of a task then goes through it.
        """
        return type(self).send_task is not _SEND_TASK or "send_task" in self.__dict__

    async def asend_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult:
        """:meth:`send_task` for programs on asyncio: it does not block the loop."""
        import asyncio  # most callers are not on asyncio, and it is large

        return await asyncio.to_thread(self.send_task, name, args, kwargs, **options)

    def signature(self, varies: Any, *args: Any, **kwargs: Any) -> Signature:
        """Return a call of a task, or of a task's name, as a value.

        See ``app.canvas.signature``.
        """
        kwargs["app"] = self
        return signature(varies, *args, **kwargs)

    def AsyncResult(self, task_id: str | uuid.UUID, **kwargs: Any) -> AsyncResult:
        """Return the handle of the call ``task_id``."""
        return AsyncResult(task_id, app=self, **kwargs)

    def ResultSet(self, results: Iterable[Any] | None, **kwargs: Any) -> ResultSet:
        """Return the handle of several calls."""
        return ResultSet(results, app=self, **kwargs)

    def GroupResult(
        self, id: str | uuid.UUID | None = None, results: Iterable[Any] | None = None, **kwargs: Any
    ) -> GroupResult:
        """Return the handle of the group ``id``, whose members have ``results``."""
        return GroupResult(id, results, app=self, **kwargs)

    @property
    def backend(self) -> ResultReader:
        """The result store for clients, made at first use."""
        version = self.conf.version
        reader = self._reader
        if reader is not None and self._reader_version == version:
            return reader
        with self._reader_lock:
            place = (self.conf["result_backend"], self.conf["broker_url"])
            if self._reader is None or self._reader_place != place:
                if self._reader is not None:
                    self._reader.close()
                self._reader = open_reader(self.conf, self.sending.publishing.thread_id)
                self._reader_place = place
            self._reader_version = version
            return self._reader

    @property
    def log(self) -> Log:
        """Logging functions for tasks at run time."""
        return Log()

    @property
    def events(self) -> Events:
        """Receivers, senders and states of events; see ``turbo.events``."""
        return Events(self)

    @property
    def control(self) -> Control:
        """The client side of remote control."""
        return Control(self)

    @property
    def thread_oid(self) -> str:
        """This thread's id as a caller: the name of its queue for rpc results."""
        return self.sending.publishing.thread_id()

    # -- belonging to a process ------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make this the current app."""
        current.set_current_app(self)

    def set_default(self) -> None:
        """Make this the app of threads that have no current one."""
        current.set_default_app(self)

    @property
    def current_task(self) -> Task | None:
        """The task being run in this thread or coroutine."""
        task: Task | None = current.current_task()
        return task

    def close(self) -> None:
        """Close the connections this app has opened.

        It can be used again, and then opens new ones.
        """
        self.sending.publishing.close()
        with self._reader_lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Replace the locks in a forked process.

        A thread of the parent may have held them.
        """
        self._finalize_lock = threading.RLock()
        self._reader_lock = threading.RLock()
        self.sending.publishing.after_fork()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}:{id(self):#x}>"


#: The name of this class in programs written for Celery.
Celery = Turbo


def _after_fork() -> None:
    for app in tuple(_apps):
        app.after_fork()


#: The original, to detect a replacement.
_SEND_TASK = Turbo.send_task
_apps: weakref.WeakSet[Turbo] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
current.register_app_factory(lambda: Turbo("default", set_as_current=False))
