"""The tasks of an app: how they are made, found, imported and settled.

Part of ``Turbo``. Filled while the program's modules are imported, read by the child for every message. It must
never send anything.
"""

from __future__ import annotations

import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from turbo import current, signals
from turbo.app.conf.loading import import_module, import_related, resolve
from turbo.app.periodic import Periodic
from turbo.app.registry import TaskRegistry
from turbo.app.task import Task as TaskBase
from turbo.app.tasks import builtin_tasks
from turbo.app.tasks.annotations import annotations_for
from turbo.app.tasks.autoretry import add_autoretry
from turbo.app.tasks.factory import make_task, task_name
from turbo.exceptions import AlreadyRegistered
from turbo.fixups import django
from turbo.policy.batching import batch_of
from turbo.policy.task_options import TaskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from turbo.app.base import Turbo
    from turbo.policy.batching import Batch

logger = logging.getLogger("turbo.app")

P = ParamSpec("P")
R = TypeVar("R")


class TaskKeeper(Periodic):
    """Task registration of an app. ``main`` replaces ``__main__`` in automatic names."""

    task_cls: ClassVar[Any] = TaskBase
    main: str | None
    strict_typing: bool
    autofinalize: bool
    #: Finalizing has begun: a task that is made from now on is finalized at once.
    finalized: bool
    #: Finalizing has ended; another thread that reads the tasks earlier waits for it.
    _settled = False

    def __init__(
        self, changes: Mapping[str, Any], source: object, namespace: str | None, silent: bool, task_cls: Any
    ) -> None:
        super().__init__(changes, source, namespace, silent)
        self._django = django.project_of(self)
        is_default = self.task_cls is TaskBase and self._django is not None
        self._task_base = task_cls or (django.TASK_CLASS if is_default else self.task_cls)
        self._finalize_lock = threading.RLock()
        self._registry: TaskRegistry[TaskBase] = TaskRegistry()
        self._autodiscover: list[tuple[Any, str | None]] = []

    @property
    def _app(self) -> Turbo:
        """Return self, typed as Turbo."""
        return cast("Turbo", self)

    @overload
    def task(self, fun: Callable[P, R], /) -> TaskBase[P, R]: ...

    @overload
    def task(
        self, /, *, batch: Batch | tuple[int, float], **options: Any
    ) -> Callable[[Callable[..., Any]], TaskBase[..., Any]]: ...

    @overload
    def task(
        self, /, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], TaskBase[P, R]]: ...

    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, R]], TaskBase[P, R]]: ...

    def task(self, fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a task of a function: ``@app.task`` or ``@app.task(name=…, bind=True, …)``.

        Every option becomes an attribute of the task. ``bind`` passes the task as the first argument,
        ``base`` is its class, ``shared=False`` keeps it from other apps of the process. With ``batch``, a Batch or a
        pair of size and interval, the body takes a list of ``BatchRequest`` and returns None or a list of outcomes.
        """
        shared = options.pop("shared", True)
        transform = options.pop("filter", None)
        options.pop("lazy", None)

        def decorate(fun: Callable[..., Any]) -> Any:
            # Make it first: a function that no task can be made of must not reach other apps.
            task = self.task_from_function(fun, **options)
            if shared:
                current.connect_on_app_finalize(lambda app: app.task_from_function(fun, **options))
            return transform(task) if transform else task

        if fun is None:
            return decorate
        if not callable(fun):
            raise TypeError("argument 1 to @task() must be a callable")
        return decorate(fun)

    def task_from_function(
        self,
        fun: Callable[..., Any],
        name: str | None = None,
        base: Any = None,
        bind: bool = False,
        **options: Any,
    ) -> TaskBase:
        """Return the task called ``name``, made from ``fun`` if it is new.

        The default name is made of the function's. Raises TypeError for a callable without a name of its own, as
        ``functools.partial`` makes them.
        """
        if not hasattr(fun, "__name__"):
            raise TypeError(
                f"a task is made of a function, and {fun!r} has no __name__: write a function that calls it, "
                "or give it a name with functools.update_wrapper"
            )
        name = name or self.gen_task_name(fun.__name__, fun.__module__)
        known = self._registry.get(name)
        if known is not None:
            own = getattr(known, "__wrapped__", None)
            if getattr(own, "__func__", own) is not fun and known.__module__ != fun.__module__:
                logger.warning("two functions claim the task name %s; the first one keeps it", name)
            return known
        parent = resolve(base) or self.Task
        if not (isinstance(parent, type) and issubclass(parent, TaskBase)):
            raise TypeError(f"the base of task {name} must be a subclass of turbo.Task, not {parent!r}")
        task = make_task(self._app, parent, fun, name, bind, options)
        self._adopt(task)
        return task

    def _adopt(self, task: TaskBase) -> None:
        """Register a task; if the app is finalized, fill its open options at once."""
        task.belong_to(self._app)
        self._registry.register(task)
        if self.finalized:
            task.bind(self._app)

    def register_task(self, task: TaskBase | type[TaskBase], **options: Any) -> TaskBase:
        """Register a task written as a class, given as the class or an instance.

        ``options`` become
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
        add_autoretry(instance)
        self._adopt(instance)
        return instance

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the automatic name of a task.

        Subclasses may override it, and must not depend on state.
        """
        return task_name(self.main, name, module)

    @property
    def Task(self) -> type[TaskBase]:
        """The base class of this app's tasks."""
        base = self._task_base = resolve(self._task_base)
        if base._app is not self:  # noqa: SLF001 - a class of ours
            base = self._task_base = type(base.__name__, (base,), {"_app": self, "__module__": base.__module__})
        found: type[TaskBase] = base
        return found

    @property
    def tasks(self) -> TaskRegistry[TaskBase]:
        """All tasks by name. Reading this finalizes the app."""
        self.finalize(auto=True)
        return self._registry

    def registered(self, name: str) -> TaskBase | None:
        """Return the task called ``name``, or None, without finalizing the app."""
        return self._registry.get(name)

    def finalize(self, auto: bool = False) -> None:
        """Finalize the tasks: take shared ones, fill open options from settings.
        Idempotent.
        """
        if self._settled:
            return
        with self._finalize_lock:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError("Contract breach: app not finalized")
            self.finalized = True
            builtin_tasks.add_to(self)
            current.announce_finalize(self)
            for task in tuple(self._registry.values()):
                task.bind(self._app)
            self._settled = True
            self.on_after_finalize.send(sender=self)

    def annotations_of(self, task: TaskBase) -> list[tuple[str, Any]]:
        """Return the attributes that the setting ``task_annotations`` gives to ``task``."""
        return annotations_for(self.conf["task_annotations"], task)

    def autodiscover_tasks(self, packages: Any = None, related_name: str | None = "tasks", force: bool = False) -> None:
        """Import ``<package>.tasks`` of each of ``packages`` at start.

        ``packages`` is a list, or a function that returns one. None stands for the applications of the Django project,
        if there is one.
        """
        self._autodiscover.append((packages, related_name))
        if force:
            self._import_discovered()

    def _import_discovered(self) -> list[ModuleType]:
        found = []
        for packages, related_name in self._autodiscover:
            if packages is None and self._django is not None:
                packages = self._django.packages()
            found += import_related(packages() if callable(packages) else packages or (), related_name)
        return found

    def import_modules(self) -> list[ModuleType]:
        """Import the modules with tasks: ``imports``, ``include``, discovered ones.

        Sets a Django project up and sends ``import_modules`` first. Raises what any of them raises.
        """
        if self._django is not None:
            self._django.set_up()
        for _receiver, answer in signals.import_modules.send(sender=self):
            if isinstance(answer, Exception):
                raise answer
        modules = [import_module(name) for name in (*self.conf["imports"], *self.conf["include"])]
        return modules + self._import_discovered()

    def after_hook(self) -> Callable[[], None] | None:
        """Return what the hook thread calls after each call of the program's code."""
        return None if self._django is None else self._django.tidy

    def task_options(self) -> dict[str, TaskOptions]:
        """Return, by task name, the completed options that the master needs."""
        return {
            name: TaskOptions(
                name,
                acks_late=bool(task.acks_late),
                acks_on_failure=bool(task.acks_on_failure),
                acks_on_timeout=bool(task.acks_on_timeout),
                reject_on_worker_lost=bool(task.reject_on_worker_lost),
                retry_on_worker_lost=bool(task.retry_on_worker_lost),
                max_retries=task.max_retries,
                default_retry_delay=task.default_retry_delay,
                ignore_result=bool(task.ignore_result),
                store_errors_even_if_ignored=bool(task.store_errors_even_if_ignored),
                time_limit=task.time_limit,
                soft_time_limit=task.soft_time_limit,
                rate_limit=task.rate_limit,
                send_events=bool(task.send_events),
                batch=batch_of(task.batch),
            )
            for name, task in self.tasks.items()
        }
