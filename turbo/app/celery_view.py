"""The view of an app that Celery's command line and Flower see.

It is an app of Celery's class.

Used in the process of ``celery -A proj …``, where Celery is installed. Its commands work with kombu's connections,
which an app of turbo's does not have. Celery asks an app for further options of its commands first (``user_options``);
the option given here replaces the app by its view before the command runs. ``worker`` and ``beat`` become turbo's. The
view has stand-ins for the app's tasks, since Flower changes limits of the tasks that it knows, and sends them. It must
never be used by a worker.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turbo.amqp.topology import Queue
    from turbo.app.conf.conf import Settings

#: Commands that turbo runs itself.
_TURBOS: Final = ("worker", "beat")
#: Settings by which the app finds its tasks and describes them: the view takes them from the app.
_OF_TASKS: Final = frozenset({"beat_schedule", "imports", "include", "task_annotations", "task_queues"})


class ViewedTask(Protocol):
    """The part of a task that its stand-in needs."""

    def send_options(self) -> dict[str, Any]:
        """The options of every message of this task."""


class Viewed(Protocol):
    """The part of an app that its view needs."""

    main: str | None
    conf: Settings

    @property
    def tasks(self) -> Mapping[str, ViewedTask]:
        """All tasks by name."""

    def import_modules(self) -> Any:
        """Import the modules with tasks."""

    def worker_queues(self) -> list[Queue]:
        """Return the queues that a worker of this app consumes from."""


class UserOptions(defaultdict[str, set[Any]]):
    """The options that an app adds to commands.

    Celery's command line gets them by ``get``, with one that is hidden.
    """

    def __init__(self, app: Viewed) -> None:
        super().__init__(set)
        self._app = app

    def get(self, command: str, default: Any = None) -> Any:
        """Return what Celery's command line adds to a command."""
        if command == "preload":
            return [*super().get(command, ()), _replacing(self._app)]
        return super().get(command, default)


def _replacing(app: Viewed) -> Any:
    """Return the option that replaces ``app`` by its view for Celery's commands."""
    import click  # programs that send tasks do not need it

    def replace_app(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if ctx.info_name in _TURBOS:
            _run_turbo()
        if ctx.obj.app is app:
            ctx.obj.app = celery_view(app)

    return click.Option(
        ["--turbo-app"], is_flag=True, is_eager=True, hidden=True, expose_value=False, callback=replace_app
    )


def _run_turbo() -> None:
    """Replace this process by turbo with the same command line."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "turbo", *sys.argv[1:]])


def celery_view(app: Viewed) -> Any:
    """Return an app of Celery's class with ``app``'s settings and tasks.

    The tasks are stand-ins.
    """
    celery: Any = importlib.import_module("celery")  # need not be installed
    defaults: Any = importlib.import_module("celery.app.defaults")
    view = celery.Celery(app.main, set_as_current=True)
    known = {name for name, _ in defaults.flatten(defaults.NAMESPACES)} - _OF_TASKS
    view.conf.update({name: value for name, value in app.conf.without_defaults().items() if name in known})
    if app.conf["task_queues"]:
        view.conf.task_queues = list(_kombu_queues(app.worker_queues()))
    _follow_tasks(view, app)
    return view


def _follow_tasks(view: Any, app: Viewed) -> None:
    """Give the view ``app``'s tasks when they are asked for.

    Import their modules when Celery would.
    """
    celery: Any = importlib.import_module("celery")

    def add_tasks(**_: Any) -> None:
        for name in app.tasks.keys() - view.tasks.keys():
            options = {key: value for key, value in app.tasks[name].send_options().items() if value is not None}
            # The worker checks the arguments.
            view.register_task(type("StandIn", (celery.Task,), {"name": name, "typing": False, **options}))

    def import_modules(**_: Any) -> None:
        app.import_modules()
        add_tasks()

    view.on_after_finalize.connect(add_tasks, weak=False)
    celery.signals.import_modules.connect(import_modules, sender=view, weak=False)


def _kombu_queues(queues: Iterable[Queue]) -> Iterable[Any]:
    kombu: Any = importlib.import_module("kombu")
    for queue in queues:
        exchange = kombu.Exchange(queue.exchange.name, queue.exchange.type, durable=queue.exchange.durable)
        yield kombu.Queue(
            queue.name,
            exchange,
            queue.routing_key,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            queue_arguments=dict(queue.queue_arguments) or None,
        )
