"""The form of a call as a value: a mapping with the task's name, arguments, options and kind, as messages carry it.

Beneath ``app.canvas.signature``, which adds what can be done with one. Pure: mappings in, mappings out. What a call is
as a part of something larger is said here for single calls; chains, groups and chords say otherwise.
"""

from __future__ import annotations

from typing import Any, Final, Self


class CallForm(dict[str, Any]):
    """The keys of a signature as attributes, and what it is as a part of something larger."""

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    @task.setter
    def task(self, value: str) -> None:
        self["task"] = value

    @property
    def name(self) -> str:
        """The same, as a task has it."""
        return self.task

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self.get("args") or ()

    @args.setter
    def args(self, value: Any) -> None:
        self["args"] = value

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self.setdefault("kwargs", {}) or {}

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``Task.apply_async``."""
        options: dict[str, Any] | None = self.get("options")
        if options is None:
            options = self["options"] = {}
        return options

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> str | None:
        """The kind: ``chain``, ``group`` and so on; None for a single task."""
        return self.get("subtask_type")

    @subtask_type.setter
    def subtask_type(self, value: str | None) -> None:
        self["subtask_type"] = value

    @property
    def immutable(self) -> bool:
        """Whether it takes no more arguments."""
        return bool(self.get("immutable"))

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def id(self) -> str | None:
        """The id that the call will have, if it is settled already."""
        return self.options.get("task_id")

    @id.setter
    def id(self, value: str | None) -> None:
        self.options["task_id"] = value

    @property
    def parent_id(self) -> str | None:
        """The id of the task that it comes from, if that is settled."""
        return self.options.get("parent_id")

    @parent_id.setter
    def parent_id(self, value: str | None) -> None:
        self.options["parent_id"] = value

    @property
    def root_id(self) -> str | None:
        """The id of the first task of all, if that is settled."""
        return self.options.get("root_id")

    @root_id.setter
    def root_id(self, value: str | None) -> None:
        self.options["root_id"] = value

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add ``value`` to the list that is the option ``key``, once; returns ``value``."""
        items = self._list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add ``value``, one or several, to the list that is the option ``key``."""
        self._list_option(key).extend(several(value))

    def link(self, callback: Any) -> Any:
        """Have ``callback`` called with the result when the task returns; returns ``callback``."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have ``errback`` called when the task fails; returns ``errback``."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """:meth:`link_error` that returns this signature."""
        self.link_error(errback)
        return self

    def _list_option(self, key: str) -> list[Any]:
        items = self.options.get(key)
        if not isinstance(items, list):
            items = self.options[key] = several(items)
        return items

    # -- being part of something -----------------------------------------------------------------------------

    def ends(self) -> int:
        """How many of its tasks a chord waits for that has it in its header."""
        return 1

    def runs_nothing(self) -> bool:
        """Whether there is nothing in it to run."""
        return False

    def split_bodies(self) -> None:
        """Let no chord in it carry the rest of a chain as its body, where the chain can do that."""

    def leave_chord(self) -> None:
        """Take what its last task would report to out of it."""
        self.options.pop("chord", None)

    def strip_headers(self) -> None:
        """Take the bodies out of the headers of the chords in it, which get them back when they are sent.

        Otherwise every part of a pending chord would travel with a copy of all that follows.
        """


def several(value: Any) -> list[Any]:
    """Return one or several of something as a list of its own; None is none."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


#: Arguments of chains, groups and their like that hold signatures.
_PARTS: Final = ("tasks", "header", "body", "task")


def plain(value: Any) -> Any:
    """Return signatures, alone or in a list, as the mappings that travel, with all in them; anything else as it is."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if not isinstance(value, dict) or "task" not in value:
        return value
    form = dict(value)
    if options := form.get("options"):
        links = {name: several(options[name]) for name in ("link", "link_error") if options.get(name) is not None}
        links |= {name: options[name] for name in ("chain", "chord") if options.get(name)}
        form["options"] = {**options, **{name: plain(each) for name, each in links.items()}}
    if (kwargs := form.get("kwargs")) and form["task"].startswith("celery."):
        form["kwargs"] = {name: plain(part) if name in _PARTS else part for name, part in kwargs.items()}
    return form
