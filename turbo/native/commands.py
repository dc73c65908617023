"""Remote control commands about an app of turbo's own, or added by it.

Programs add theirs to the panel.

Runs on a thread of remote control's in the master, for ``control.service``. It must never change the app.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from turbo.control.jsonable import plain
from turbo.control.memory import MemorySamples
from turbo.control.object_graph import draw
from turbo.control.panel import Panel
from turbo.control.report import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turbo.amqp.topology import Queue
    from turbo.app.base import Turbo
    from turbo.control.app_commands import Command
    from turbo.policy.task_options import TaskOptions

#: Attributes of tasks that ``registered`` names when nobody asks for others.
_TASK_ITEMS: Final = ("exchange", "routing_key", "rate_limit")


class NativeCommands:
    """The commands of turbo's own apps, and those that programs have added."""

    def __init__(self, app: Turbo, hostname: str, consumer: object) -> None:
        """``hostname`` and ``consumer``: what the program's commands are told."""
        self._app = app
        #: What a command of the program's is given first, with Celery's names.
        self._state = SimpleNamespace(app=app, hostname=hostname, consumer=consumer, tset=set)
        self._memory = MemorySamples()
        self._commands: dict[str, Command] = {
            "registered": self._registered,
            "dump_tasks": self._registered,
            "conf": self._conf,
            "dump_conf": self._conf,
            "report": self._report,
            "memsample": self._memsample,
            "memdump": self._memdump,
            "objgraph": draw,
        }

    def find(self, method: str) -> Command | None:
        """One of these, or one of the program's."""
        found = self._commands.get(method)
        if found is None and method in Panel.data:
            return partial(Panel.data[method], self._state)
        return found

    def revoked(self, task_ids: Sequence[str]) -> None:
        """REVOKED is stored when the message of such a task is met."""

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> None:
        """Set the attributes that ``registered`` and own commands read."""
        task = self._app.tasks[task_name]
        for name, value in attributes.items():
            setattr(task, name, value)

    def tasks_changed(self, tasks: Mapping[str, TaskOptions]) -> None:
        """Set the attributes of known tasks, and add the others without their code."""
        for name, options in tasks.items():
            attributes = options.attributes()
            if name in self._app.tasks:
                self.limited(name, attributes)
            else:
                self._app.task_from_function(_elsewhere, name=name, **attributes)

    def queue_to_add(self, name: str, options: dict[str, Any]) -> Queue:
        """A queue that the app knows, or one with Celery's defaults for a new one."""
        queues = self._app.amqp.queues
        return queues[name] if name in queues else queues.select_add(name, **options)

    def queue_cancelled(self, name: str) -> None:
        """Deselect it in the app's queues."""
        self._app.amqp.queues.deselect(name)

    def _registered(self, taskinfoitems: Sequence[str] | None = None, builtins: bool = False, **_: Any) -> list[str]:
        items = [name for name in taskinfoitems or _TASK_ITEMS if isinstance(name, str) and not name.startswith("_")]
        tasks: Mapping[str, Any] = self._app.tasks
        names = sorted(name for name in tasks if builtins or not name.startswith("celery."))
        return [_described(name, tasks[name], items) for name in names]

    def _conf(self, with_defaults: bool = False, **_: Any) -> Any:
        conf = self._app.conf
        # A key of Celery's table that is no setting.
        return plain({**conf.table(with_defaults=with_defaults), "deprecated_settings": conf.old_names() or None})

    def _memsample(self, **_: Any) -> str:
        return self._memory.sample()

    def _memdump(self, samples: int = 10, **_: Any) -> str:
        return self._memory.dump(int(samples))

    def _report(self) -> dict[str, str]:
        return {"ok": "\n".join([*describe(), "", self._app.conf.humanize()])}


def _elsewhere(*_args: Any, **_kwargs: Any) -> None:
    """Stand for a task that only the children have imported."""
    raise NotImplementedError("the main process has not imported this task")


def _described(name: str, task: Any, items: Sequence[str]) -> str:
    found = [f"{item}={value}" for item in items if (value := getattr(task, item, None)) is not None]
    return f"{name} [{' '.join(found)}]" if found else name
