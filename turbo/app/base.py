"""``Turbo``: the application. Its configuration, its tasks, and the ways to send them.

Made by the program's own module, in clients and workers alike. It must never open a connection before
something is sent or read, nor start a thread: a worker imports the app before it forks.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload
from zoneinfo import ZoneInfo

from turbo import current
from turbo.app.annotations import annotations_for
from turbo.app.conf import Settings
from turbo.app.loading import import_module, import_related, resolve
from turbo.app.making import make_task, task_name
from turbo.app.registry import TaskRegistry
from turbo.app.sending import Sender
from turbo.app.task import Task as TaskBase
from turbo.backends.reader import open_reader
from turbo.exceptions import AlreadyRegistered, ImproperlyConfigured
from turbo.policy.task_options import TaskOptions
from turbo.result.async_result import AsyncResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType, TracebackType

    from turbo.amqp.topology import Queue
    from turbo.backends.reading import ResultReader

logger = logging.getLogger("turbo.app")


class Turbo:
    """An application, as ``celery.Celery`` is one.

    ``main`` replaces ``__main__`` in the names of tasks. ``broker``, ``backend`` and ``include`` are the
    settings ``broker_url``, ``result_backend`` and ``include``; further keywords are settings too.
    ``config_source`` is an object or path for :meth:`config_from_object`.
    """

    task_cls: ClassVar[Any] = TaskBase

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
        self.main = main
        self.strict_typing = strict_typing
        self.autofinalize = autofinalize
        self.set_as_current = set_as_current
        self.finalized = False
        self._task_base = task_cls or self.task_cls
        self._finalize_lock = threading.RLock()
        self._registry = TaskRegistry()
        self._reader: ResultReader | None = None
        self._reader_place: tuple[Any, Any] | None = None
        self._autodiscover: list[tuple[Any, str | None]] = []
        given = {"broker_url": broker, "result_backend": backend, "include": include, **settings}
        self.conf = Settings(
            {**(changes or {}), **{k: v for k, v in given.items() if v is not None}},
            source=config_source,
            namespace=namespace,
            silent=config_source_silent,
            on_load=self.on_configure,
        )
        self.sending = Sender(self)
        if set_as_current:
            self.set_current()
        self.on_init()

    def on_init(self) -> None:
        """Called at the end of the constructor; for subclasses."""

    def on_configure(self) -> None:
        """Called just before the configuration object is read; for subclasses."""

    # -- configuration ---------------------------------------------------------------------------------------

    def config_from_object(
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take the configuration from a mapping, module, object, or the path of one.

        It is read when first needed; ``force`` reads it now. ``namespace`` is a prefix its names have.
        """
        self.conf.use(obj, namespace=namespace, silent=silent)
        if force:
            self.conf.get("broker_url")

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take the configuration from the module that an environment variable names."""
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent=silent, force=force, namespace=namespace)
        elif not silent:
            raise ImproperlyConfigured(f"the environment variable {variable_name} is not set")

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add settings that hold where the program set none."""
        self.conf.add_defaults(defaults() if callable(defaults) else defaults)

    @property
    def timezone(self) -> tzinfo:
        """The zone of the setting ``timezone``; UTC, or the machine's zone with ``enable_utc`` off."""
        name = self.conf["timezone"]
        if isinstance(name, tzinfo):
            return name
        if name and str(name).upper() != "UTC":
            return ZoneInfo(name)
        if name or self.conf["enable_utc"]:
            return UTC
        local = datetime.now().astimezone().tzinfo
        return UTC if local is None else local

    def now(self) -> datetime:
        """The time, aware, in UTC (in :attr:`timezone` with ``enable_utc`` off)."""
        now = datetime.now(UTC)
        return now if self.conf["enable_utc"] else now.astimezone(self.timezone)

    # -- tasks -----------------------------------------------------------------------------------------------

    @overload
    def task(self, fun: Callable[..., Any], /) -> TaskBase: ...

    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[..., Any]], TaskBase]: ...

    def task(self, fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a task of a function: ``@app.task`` or ``@app.task(name=…, bind=True, …)``.

        Every option becomes an attribute of the task. ``bind`` passes the task as the first argument,
        ``base`` is its class, ``shared=False`` keeps it from other apps of the process.
        """
        shared = options.pop("shared", True)
        transform = options.pop("filter", None)
        options.pop("lazy", None)

        def decorate(fun: Callable[..., Any]) -> Any:
            if shared:
                current.connect_on_app_finalize(lambda app: app.task_from_function(fun, **options))
            task = self.task_from_function(fun, **options)
            return transform(task) if transform else task

        if fun is None:
            return decorate
        if not callable(fun):
            raise TypeError("@task() takes a function, or options by keyword")
        return decorate(fun)

    def task_from_function(
        self,
        fun: Callable[..., Any],
        name: str | None = None,
        base: Any = None,
        bind: bool = False,
        **options: Any,
    ) -> TaskBase:
        """Return the task called ``name`` (by default after the function), made from ``fun`` if it is new."""
        name = name or self.gen_task_name(fun.__name__, fun.__module__)
        known = self._registry.get(name)
        if known is not None:
            if getattr(known, "__wrapped__", None) is not fun and known.__module__ != fun.__module__:
                logger.warning("two functions claim the task name %s; the first one keeps it", name)
            return known
        task = make_task(resolve(base) or self.Task, fun, name, bind, options)
        self._adopt(task)
        return task

    def _adopt(self, task: TaskBase) -> None:
        """Enter a task into the registry; once the app is finalized, its open options are settled at once."""
        task.belong_to(self)
        self._registry.register(task)
        if self.finalized:
            task.bind(self)

    def register_task(self, task: TaskBase | type[TaskBase], **options: Any) -> TaskBase:
        """Register a task written as a class, given as the class or an instance; ``options`` become
        attributes.

        Raises AlreadyRegistered when another task has its name.
        """
        instance = task() if inspect.isclass(task) else task
        for option, value in options.items():
            setattr(instance, option, value)
        if not instance.name:
            instance.name = self.gen_task_name(type(instance).__name__, type(instance).__module__)
        known = self._registry.get(instance.name)
        if known is not None and type(known) is not type(instance):
            raise AlreadyRegistered(f"another task is called {instance.name}")
        self._adopt(instance)
        return instance

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the automatic name of a task; subclasses may override it, and must not depend on state."""
        return task_name(self.main, name, module)

    @property
    def Task(self) -> type[TaskBase]:
        """The base class of this app's tasks, to derive own ones from."""
        base = self._task_base = resolve(self._task_base)
        if base._app is not self:  # noqa: SLF001 - a class of ours
            base = self._task_base = type(
                base.__name__, (base,), {"_app": self, "__module__": base.__module__}
            )
        found: type[TaskBase] = base
        return found

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name. Asking finalizes the app."""
        self.finalize(auto=True)
        return self._registry

    def registered(self, name: str) -> TaskBase | None:
        """Return the task called ``name``, or None, without finalizing the app."""
        return self._registry.get(name)

    def finalize(self, auto: bool = False) -> None:
        """Settle the tasks: take over shared ones and fill open options from the configuration.
        Idempotent.
        """
        if self.finalized:
            return
        with self._finalize_lock:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError("the app is not finalized, and autofinalize is off")
            self.finalized = True
            current.announce_finalize(self)
            for task in tuple(self._registry.values()):
                task.bind(self)

    def annotations_of(self, task: TaskBase) -> list[tuple[str, Any]]:
        """Return the attributes that the setting ``task_annotations`` gives to ``task``."""
        return annotations_for(self.conf["task_annotations"], task)

    def autodiscover_tasks(
        self, packages: Any = None, related_name: str | None = "tasks", force: bool = False
    ) -> None:
        """Import ``<package>.tasks`` of each of ``packages`` (a list, or a function returning one) at
        start.
        """
        self._autodiscover.append((packages, related_name))
        if force:
            self._import_discovered()

    def _import_discovered(self) -> list[ModuleType]:
        found = []
        for packages, related_name in self._autodiscover:
            found += import_related(packages() if callable(packages) else packages or (), related_name)
        return found

    def import_modules(self) -> list[ModuleType]:
        """Import what holds the tasks: ``imports``, ``include``, and the packages to discover."""
        modules = [import_module(name) for name in (*self.conf["imports"], *self.conf["include"])]
        return modules + self._import_discovered()

    # -- what a worker asks ----------------------------------------------------------------------------------

    def task_options(self) -> dict[str, TaskOptions]:
        """Return, by task name, the options that the master needs; the settings are worked in."""
        return {
            name: TaskOptions(
                name,
                acks_late=bool(task.acks_late),
                acks_on_failure=bool(task.acks_on_failure),
                acks_on_timeout=bool(task.acks_on_timeout),
                reject_on_worker_lost=bool(task.reject_on_worker_lost),
                ignore_result=bool(task.ignore_result),
                store_errors_even_if_ignored=bool(task.store_errors_even_if_ignored),
                time_limit=task.time_limit,
                soft_time_limit=task.soft_time_limit,
            )
            for name, task in self.tasks.items()
        }

    def worker_queues(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> list[Queue]:
        """Return the queues to consume from: ``include`` (-Q) or the configured ones, less ``exclude``
        (-X).
        """
        return self.sending.router.queues.consumed(include, exclude)

    # -- calling ---------------------------------------------------------------------------------------------

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult:
        """Send a message that makes some worker run the task ``name``, which need not exist here.

        Options, all of them optional: ``countdown`` and numeric ``expires`` in seconds; ``eta`` and
        ``expires`` as datetime; ``queue``, ``exchange``, ``routing_key``, ``priority``, ``delivery_mode``,
        ``mandatory``, ``declare``; ``serializer``, ``compression``; ``time_limit`` and ``soft_time_limit`` in
        seconds; ``ignore_result``; ``headers``; ``link``, ``link_error``, ``chain``, ``chord``; ``shadow``,
        ``argsrepr``, ``kwargsrepr``; ``retry`` and ``retry_policy`` of the publishing; ``reply_to``, ``root_id``,
        ``parent_id``, ``group_id``, ``group_index``, ``retries``, ``add_to_parent``. Raises as
        ``Task.apply_async``.
        """
        return self.sending.send(name, args, kwargs, task_id, None, options)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult:
        """Return the handle of the call ``task_id``."""
        return AsyncResult(task_id, app=self, **kwargs)

    @property
    def backend(self) -> ResultReader:
        """The result store as a client sees it, made when first asked for."""
        place = (self.conf["result_backend"], self.conf["broker_url"])
        with self._finalize_lock:
            if self._reader is None or self._reader_place != place:
                if self._reader is not None:
                    self._reader.close()
                self._reader = open_reader(self.conf, self.sending.thread_id)
                self._reader_place = place
            return self._reader

    @property
    def control(self) -> Any:
        """The asking side of remote control. Raises ImproperlyConfigured: there is none yet."""
        raise ImproperlyConfigured("remote control does not exist yet")

    @property
    def thread_oid(self) -> str:
        """The id of this thread as a caller: the name of its queue of rpc results."""
        return self.sending.thread_id()

    # -- belonging to a process ------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make this the current app."""
        current.set_current_app(self)

    def set_default(self) -> None:
        """Make this the app of threads that have no current one."""
        current.set_default_app(self)

    @property
    def current_task(self) -> TaskBase | None:
        """The task being run in this thread or coroutine."""
        task: TaskBase | None = current.current_task()
        return task

    def close(self) -> None:
        """Close the connections this app has opened. It can be used again, and then opens new ones."""
        self.sending.close()
        with self._finalize_lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}:{id(self):#x}>"


current.register_app_factory(lambda: Turbo("default", set_as_current=False))
